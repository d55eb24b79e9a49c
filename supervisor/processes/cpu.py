"""Measures the processor use of single processes: in all, and over a fixed window.

Samples are taken at a steady rate, so that two readers get the same percentage however often they
read. Times are seconds.
"""

import time
from collections import deque
from collections.abc import Callable, Collection
from math import inf

import msgspec

from garrison.ipc.system import process_tree

WINDOW_S = 10.0  # that a percentage is about; less for a process that is younger
SAMPLE_S = 5.0  # between two samples: an idle host does little else


class CpuUsage(msgspec.Struct, frozen=True):
    """What a process has used."""

    rss_bytes: int = 0
    seconds: float = 0.0  # of processors, since its start
    percent: float = 0.0  # of one processor, within the window


class _Process(msgspec.Struct):
    ticks: int  # when it started: a pid may be reused
    samples: deque[tuple[float, float]] = msgspec.field(default_factory=deque)  # time, CPU seconds


def percent(samples: Collection[tuple[float, float]], now: float, seconds: float) -> float:
    """Return the percentage of one processor since the last sample that is a window old.

    Args:
        samples: Time and CPU seconds of each sample, the oldest first.
        now: The time.
        seconds: The CPU seconds until now.
    """
    base: tuple[float, float] | None = None
    for sample in samples:
        if base is None or now - sample[0] >= WINDOW_S:
            base = sample
    if base is None or now <= base[0]:
        return 0.0
    return round(max(seconds - base[1], 0.0) / (now - base[0]) * 100, 1)


class CpuMeter:
    """Samples processes, and returns what they use.

    Args:
        usage: Returns start ticks, resident bytes and CPU seconds of a pid; None: its own.

    Attributes:
        due: When `sample` is to be called.
    """

    def __init__(self, usage: Callable[[int], tuple[int, int, float]] | None = None) -> None:
        self._usage = usage or process_tree.usage
        self._processes: dict[int, _Process] = {}
        self.due = -inf

    def sample(self, pids: Collection[int]) -> None:
        """Take a sample of each of these processes; forget all others."""
        now = time.monotonic()
        self.due = now + SAMPLE_S
        for pid in self._processes.keys() - set(pids):
            del self._processes[pid]
        for pid in pids:
            ticks, _, seconds = self._usage(pid)
            samples = self._of(pid, ticks, now).samples
            samples.append((now, seconds))
            while len(samples) > 2 and now - samples[1][0] >= WINDOW_S:
                samples.popleft()

    def measure(self, pid: int) -> CpuUsage:
        """Return what a process uses now; zeros if it has ended."""
        ticks, rss, seconds = self._usage(pid)
        if not ticks:
            return CpuUsage()
        now = time.monotonic()
        samples = self._of(pid, ticks, now).samples
        return CpuUsage(rss, round(seconds, 2), percent(samples, now, seconds))

    def _of(self, pid: int, ticks: int, now: float) -> _Process:
        """Return what is known of a process; one that is new has a sample of its start."""
        known = self._processes.get(pid)
        if known is None or known.ticks != ticks:
            known = self._processes[pid] = _Process(ticks)
            if ticks:
                age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / process_tree.TICKS
                known.samples.append((now - max(age, 0.0), 0.0))
        return known
