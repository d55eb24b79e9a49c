"""Looks at what the services with limits use: resident memory and processes of whole trees.

A tree is a worker and what is below it; what called `setsid` or forked twice stays there, for each
worker is a subreaper. What counts as memory is the sum of all resident pages. Pages that several
of its processes share, as after a fork, are then counted more than once; so where that sum is too
much, the kernel is asked for proportional sizes (`smaps_rollup`), which count each once. That can
take the kernel long, or for ever, so a thread asks. A look at a large tree is spread over turns.
"""

import contextlib
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import TypeAlias

from garrison.ipc.messages import State, Token
from garrison.ipc.system import process_tree
from garrison.supervisor.lifecycle.limits import (
    LOOK_S,
    Used,
    beyond,
    check_limits,
    coalesce,
    is_limited,
    needs_pss,
    next_check_in,
)
from garrison.supervisor.lifecycle.policy import Event
from garrison.supervisor.lifecycle.services import Service

TURN_S = 0.003  # of looking, in one turn of the loop
FIRST_S = 0.25  # from the fork to the first look
ASK_S = 2.0  # for proportional sizes; then the plain sum counts
ASKED_MOST = 1000  # trees whose size the thread is yet to tell; further ones count as they are
LATE_S = 0.5  # a turn that comes so late was stopped from outside, and so was the thread
MOST = 4096  # processes of one tree that are looked at; more is too many for any limit
ASKED = 256  # of them, for `status`
PAGE = os.sysconf("SC_PAGE_SIZE")

Looked: TypeAlias = tuple[Used, list[int]]  # and its pids


def sample_tree(pid: int, enough: int = MOST) -> Generator[None, None, Looked]:
    """Return, step by step, what a process and all below it use.

    Args:
        pid: The process.
        enough: So many processes need not be counted further.
    """
    at = time.monotonic()
    seen, memory, last = [pid], 0, 0
    known = {pid}
    while last < len(seen) and len(seen) <= enough:
        one = seen[last]
        last += 1
        memory += resident(one)
        for child in process_tree.children(one):
            if child not in known:
                known.add(child)
                seen.append(child)
        yield
    for one in seen[last:]:
        memory += resident(one)
    return Used(at, memory, len(seen), len(seen) == 1, last < len(seen)), seen


def look_at_once(pid: int) -> Used:
    """Return what a process and all below it use, for somebody who has asked: at most a few
    hundred processes of them, some ten milliseconds."""
    looking = sample_tree(pid, ASKED)
    while True:
        try:
            next(looking)
        except StopIteration as end:
            used: Used = end.value[0]
            return used


def resident(pid: int) -> int:
    """Return a process's resident bytes; 0 where it is gone, or only waits to be reaped."""
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
    """Return what processes have together, each page counted once; of one that does not tell, as
    another user's, all that it has resident. No less than the largest of them has."""
    total, largest = 0, 0
    for pid in pids:
        whole = resident(pid)
        largest = max(largest, whole)
        with contextlib.suppress(OSError, ValueError, IndexError):
            told = Path(f"/proc/{pid}/smaps_rollup").read_bytes()
            whole = int(told.partition(b"\nPss:")[2].split()[0]) * 1024
        total += whole
    return max(total, largest)


class PssSampler:
    """The thread that asks for proportional sizes; it is there from the first need on.

    Attributes:
        wake: Readable when an answer is there.
    """

    def __init__(self) -> None:
        self.wake, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._asked: queue.SimpleQueue[tuple[Token, float, list[int]] | None] = queue.SimpleQueue()
        self._told: deque[tuple[Token, float, int]] = deque(maxlen=1000)
        self._thread: threading.Thread | None = None

    def ask(self, token: Token, at: float, pids: list[int]) -> bool:
        """Have the memory of processes told; False where too many wait already."""
        if self._asked.qsize() >= ASKED_MOST:
            return False
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="weigher", daemon=True)
            self._thread.start()
        self._asked.put((token, at, pids))
        return True

    def told(self) -> Iterator[tuple[Token, float, int]]:
        """Yield what was found since the last call."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake, 4096)
        while self._told:
            yield self._told.popleft()

    def close(self) -> None:
        """End the thread, unless the kernel has it."""
        self._asked.put(None)
        if self._thread is not None:
            self._thread.join(ASK_S)
            if self._thread.is_alive():
                return
        os.close(self.wake)
        os.close(self._wake_write)

    def _run(self) -> None:
        while (asked := self._asked.get()) is not None:
            token, at, pids = asked
            self._told.append((token, at, proportional(pids)))
            with contextlib.suppress(BlockingIOError):
                os.write(self._wake_write, b"1")


@dataclass(slots=True, eq=False)
class Sample:
    """One incarnation that is looked at."""

    post: Service
    token: Token
    due: float
    sampling: Generator[None, None, Looked] | None = None  # under way
    last: Used | None = None
    asked: Used | None = None  # of which the proportional size is asked for


class UsageMonitor:
    """What the services with limits use.

    Args:
        report: Called with the token and the figures of each sample.
    """

    def __init__(self, report: Callable[[Token, Used], None]) -> None:
        self._report = report
        self._watched: dict[Token, Sample] = {}
        self._weigher = PssSampler()
        self.due = inf  # when `turn` has something to do, at the earliest

    @property
    def wake(self) -> int:
        """Return the descriptor that is readable when `turn` has something to do at once."""
        return self._weigher.wake

    def begin(self, post: Service) -> None:
        """Look at an incarnation from now on, where its service has limits; its pid is known."""
        if is_limited(post.spec) and post.current.token not in self._watched:
            due = time.monotonic() + FIRST_S
            self._watched[post.current.token] = Sample(post, post.current.token, due)
            self.due = min(self.due, due)

    def last(self, token: Token) -> Used | None:
        """Return what an incarnation had at the last look."""
        watched = self._watched.get(token)
        return watched.last if watched is not None else None

    def turn(self) -> None:
        """Look at those whose time has come, for as long as one turn of the loop may take."""
        began = time.monotonic()
        for token, at, memory in self._weigher.told():
            watched = self._watched.get(token)
            if watched is not None and watched.asked is not None and watched.asked.at == at:
                self._weighed(watched, memory)
        due = [one for one in self._watched.values() if one.due <= began]
        for one in sorted(due, key=lambda one: one.due):
            self._go_on(one, began + TURN_S)
            if time.monotonic() >= began + TURN_S:
                break
        self.due = min((one.due for one in self._watched.values()), default=inf)

    def _go_on(self, one: Sample, until: float) -> None:
        post = one.post
        if post.current.token != one.token or post.current.ended or not post.current.pid:
            del self._watched[one.token]
            return
        if one.asked is not None:  # the thread has not said for too long
            now = time.monotonic()
            if now - one.due > LATE_S:
                one.due = now + ASK_S
            else:
                self._weighed(one, one.asked.memory)
            return
        if one.sampling is None:
            enough = 2 * beyond(post.spec.limits.processes) if post.spec.limits.processes else MOST
            one.sampling = sample_tree(post.current.pid, min(enough, MOST))
        try:
            while True:
                next(one.sampling)
                if time.monotonic() >= until:
                    return
        except StopIteration as end:
            one.sampling = None
            used, pids = end.value
            if needs_pss(post.spec, used) and self._weigher.ask(one.token, used.at, pids):
                one.asked, one.due = used, time.monotonic() + ASK_S
            else:
                self._judge(one, used)

    def _weighed(self, one: Sample, memory: int) -> None:
        assert one.asked is not None
        used = replace(one.asked, memory=min(memory, one.asked.memory), exact=True)
        one.asked = None
        self._judge(one, used)

    def _judge(self, one: Sample, used: Used) -> None:
        post = one.post
        event = check_limits(post.spec, used)
        self._report(one.token, used)
        draining = post.state is State.STOPPING
        wait = (
            LOOK_S if event is Event.OVERRUN else next_check_in(post.spec, used, one.last, draining)
        )
        one.due, one.last = coalesce(time.monotonic(), wait), used

    def close(self) -> None:
        """Look no more."""
        self._weigher.close()
