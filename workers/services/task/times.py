"""The times of a task that repeats, and those of them that have passed. Pure. Epoch seconds."""

import math
from typing import Protocol

import msgspec

CATCH_UP_MOST = 100  # missed times that are run, of one task: the latest


class Passed(msgspec.Struct, frozen=True):
    """The times of a task from the one that it waited for until now."""

    count: int  # at most `COUNT_MOST` for cron
    latest: tuple[float, ...]  # ascending; at most one more than `CATCH_UP_MOST`


class Times(Protocol):
    """When a task runs."""

    def after(self, time: float) -> float | None:
        """Return its first time after another; None if there is none."""
        ...

    def following(self, at: float, now: float) -> float | None:
        """Return the time after a run that was due `at` one and has ended `now`."""
        ...

    def passed(self, at: float, now: float) -> Passed:
        """Return the times from `at`, which has come, until `now`."""
        ...


class Once:
    """The times of a task that runs once."""

    def after(self, time: float) -> float | None:
        return None

    def following(self, at: float, now: float) -> float | None:
        return None

    def passed(self, at: float, now: float) -> Passed:
        return Passed(1, (at,))


class Every:
    """The times of a task that runs at an interval. What passes during a run is left out.

    Args:
        seconds: The interval.
        base: One of its times.
    """

    def __init__(self, seconds: float, base: float) -> None:
        self._seconds, self._base = seconds, base

    def after(self, time: float) -> float | None:
        step = math.floor((time - self._base) / self._seconds) + 1
        found = self._base + step * self._seconds
        return found if found > time else self._base + (step + 1) * self._seconds

    def following(self, at: float, now: float) -> float | None:
        return self.after(max(at, now))

    def passed(self, at: float, now: float) -> Passed:
        count = 1 + max(math.floor((now - at) / self._seconds), 0)
        shown = range(max(count - CATCH_UP_MOST - 1, 0), count)
        return Passed(count, tuple(at + number * self._seconds for number in shown))
