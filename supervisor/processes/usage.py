"""Measures what workers with limits use: resident memory and processes of whole trees.

A tree is a worker and all processes below it. Processes that called `setsid` or forked twice stay
in it: each worker is a subreaper. Memory is the sum of all resident pages; pages that several of
the processes share, as after a fork, are counted more than once. So if the sum exceeds the limit,
a thread reads the proportional sizes (`smaps_rollup`), which count each page once; the kernel may
take long over that, or never return. Measuring a large tree is spread over several turns.
"""

import contextlib
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from math import inf
from pathlib import Path
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from garrison.ipc.system import process_tree
from garrison.supervisor.config.spec import ProcessLimits
from garrison.supervisor.lifecycle.limits import (
    CHECK_S,
    Used,
    check_limits,
    coalesce,
    is_limited,
    kill_threshold,
    needs_pss,
    next_check_in,
)
from garrison.supervisor.lifecycle.policy import Event

from .engine import Key, Usage

TURN_S = 0.003  # for measuring, in one turn of the loop
FIRST_S = 0.25  # from the fork to the first measurement
PSS_S = 2.0  # wait for proportional sizes; after it the plain sum counts
PSS_QUEUE_MOST = 1000  # trees that wait for the thread; further ones count with their plain sum
LATE_S = 0.5  # a turn that comes so late shows that this process, and the thread, were stopped
TREE_MOST = 4096  # processes that are counted in one tree; more is too many for any limit
SEEN_MOST = 4  # times as many are looked at, if most are zombies
QUICK_MOST = 256  # processes that are counted for `status`
PAGE = os.sysconf("SC_PAGE_SIZE")

TreeSample: TypeAlias = tuple[Used, list[int]]  # with its pids


def sample_tree(pid: int, enough: int = TREE_MOST) -> Generator[None, None, TreeSample]:
    """Measure, step by step, what a process and all processes below it use.

    Zombies are not counted: they have ended, and are only not reaped yet.

    Args:
        pid: The process.
        enough: Stop counting at so many processes.
    """
    at = time.monotonic()
    seen, memory, last, zombies = [pid], 0, 0, 0
    known = {pid}
    while last < len(seen) and len(seen) - zombies <= enough and len(seen) <= SEEN_MOST * enough:
        one = seen[last]
        last += 1
        size = resident(one)
        memory += size
        zombies += not size and one != pid and not process_tree.is_alive(one)
        for child in process_tree.children(one):
            if child not in known:
                known.add(child)
                seen.append(child)
        yield
    for one in seen[last:]:
        memory += resident(one)
    return Used(at, memory, len(seen) - zombies, len(seen) == 1, last < len(seen)), seen


def sample_quickly(pid: int) -> Used:
    """Measure a process and some hundred processes below it; takes some 10 ms at most."""
    sampling = sample_tree(pid, QUICK_MOST)
    while True:
        try:
            next(sampling)
        except StopIteration as end:
            used: Used = end.value[0]
            return used


def resident(pid: int) -> int:
    """Return a process's resident bytes; 0 if it has ended."""
    try:
        descriptor = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return int(os.read(descriptor, 128).split()[1]) * PAGE
    except (OSError, IndexError):
        return 0
    finally:
        os.close(descriptor)


def proportional(pids: Sequence[int]) -> int:
    """Return the memory of processes together, each page counted once.

    A process whose proportional size cannot be read, as another user's, counts with all its
    resident pages. The result is at least the resident size of the largest process.
    """
    total, largest = 0, 0
    for pid in pids:
        size = resident(pid)
        largest = max(largest, size)
        with contextlib.suppress(OSError, ValueError, IndexError):
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_bytes()
            size = int(rollup.partition(b"\nPss:")[2].split()[0]) * 1024
        total += size
    return max(total, largest)


class PssSampler:
    """The thread that reads proportional sizes; started when the first one is needed.

    Attributes:
        wake: Readable when a result is there.
    """

    def __init__(self) -> None:
        self.wake, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._requests: queue.SimpleQueue[tuple[Key, float, list[int]] | None] = queue.SimpleQueue()
        self._results: deque[tuple[Key, float, int]] = deque(maxlen=1000)
        self._thread: threading.Thread | None = None

    def request(self, key: Key, at: float, pids: list[int]) -> bool:
        """Request the memory of processes; return False if too many requests wait."""
        if self._requests.qsize() >= PSS_QUEUE_MOST:
            return False
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="pss-sampler", daemon=True)
            self._thread.start()
        self._requests.put((key, at, pids))
        return True

    def results(self) -> Iterator[tuple[Key, float, int]]:
        """Yield the results since the last call: key, time of the request, bytes."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake, 4096)
        while self._results:
            yield self._results.popleft()

    def close(self) -> None:
        """End the thread, unless the kernel blocks it."""
        self._requests.put(None)
        if self._thread is not None:
            self._thread.join(PSS_S)
            if self._thread.is_alive():
                return
        os.close(self.wake)
        os.close(self._wake_write)

    def _run(self) -> None:
        while (request := self._requests.get()) is not None:
            key, at, pids = request
            self._results.append((key, at, proportional(pids)))
            with contextlib.suppress(BlockingIOError):
                os.write(self._wake_write, b"1")


class Sample(msgspec.Struct, eq=False):
    """One worker that is measured."""

    key: Key
    pid: int
    limits: ProcessLimits
    due: float
    sampling: Generator[None, None, TreeSample] | None = None  # under way
    last: Used | None = None
    requested: Used | None = None  # the measurement whose proportional size was requested


class UsageMonitor:
    """Measures the workers that have limits, each as often as its growth requires.

    Attributes:
        due: When `turn` has something to do, at the earliest.
    """

    def __init__(self) -> None:
        self._samples: dict[Key, Sample] = {}
        self._pss = PssSampler()
        self.due = inf

    @property
    def wake(self) -> int:
        """Return the descriptor that is readable when `turn` has something to do at once."""
        return self._pss.wake

    def begin(self, key: Key, pid: int, limits: ProcessLimits) -> None:
        """Measure a worker from now on, if it has limits."""
        if is_limited(limits) and key not in self._samples:
            due = time.monotonic() + FIRST_S
            self._samples[key] = Sample(key, pid, limits, due)
            self.due = min(self.due, due)

    def end(self, key: Key) -> None:
        """Measure a worker no more."""
        self._samples.pop(key, None)

    def last(self, key: Key) -> Used | None:
        """Return a worker's last measurement."""
        sample = self._samples.get(key)
        return sample.last if sample is not None else None

    def turn(self) -> list[Usage]:
        """Measure the workers that are due, within `TURN_S`; return finished measurements."""
        began = time.monotonic()
        finished: list[Usage] = []
        for key, at, memory in self._pss.results():
            sample = self._samples.get(key)
            if sample is not None and sample.requested is not None and sample.requested.at == at:
                finished.append(self._with_pss(sample, memory))
        due = [one for one in self._samples.values() if one.due <= began]
        for one in sorted(due, key=lambda one: one.due):
            if (usage := self._step(one, began + TURN_S)) is not None:
                finished.append(usage)
            if time.monotonic() >= began + TURN_S:
                break
        self.due = min((one.due for one in self._samples.values()), default=inf)
        return finished

    def _step(self, one: Sample, until: float) -> Usage | None:
        if one.requested is not None:  # the thread has not answered in time
            now = time.monotonic()
            if now - one.due <= LATE_S:
                return self._with_pss(one, one.requested.memory)
            one.due = now + PSS_S
            return None
        if one.sampling is None:
            most = one.limits.processes
            enough = 2 * kill_threshold(most) if most else TREE_MOST
            one.sampling = sample_tree(one.pid, min(enough, TREE_MOST))
        try:
            while True:
                next(one.sampling)
                if time.monotonic() >= until:
                    return None
        except StopIteration as end:
            one.sampling = None
            used, pids = end.value
        if needs_pss(one.limits, used) and self._pss.request(one.key, used.at, pids):
            one.requested, one.due = used, time.monotonic() + PSS_S
            return None
        return self._finish(one, used)

    def _with_pss(self, one: Sample, memory: int) -> Usage:
        assert one.requested is not None
        used = replace(one.requested, memory=min(memory, one.requested.memory), exact=True)
        one.requested = None
        return self._finish(one, used)

    def _finish(self, one: Sample, used: Used) -> Usage:
        event = check_limits(one.limits, used)
        wait = (
            CHECK_S
            if event is Event.OVERRUN
            else next_check_in(one.limits, used, one.last, draining=event is not None)
        )
        one.due, one.last = coalesce(time.monotonic(), wait), used
        return Usage(one.key, used)

    def close(self) -> None:
        """Measure no more."""
        self._pss.close()
