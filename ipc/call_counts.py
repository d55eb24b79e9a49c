"""Counts the calls that one process makes, by service, method and outcome. Pure.

A row has one counter for each outcome and, of the times from a call to its outcome, one for each
power of two of microseconds. Rows are read with each heartbeat and begin anew, so what is sent is
what was added since. A call appends its time to a list, and many are sorted into their counters
together: that takes a third of what it takes one by one. Times are monotonic seconds.
"""

from bisect import bisect_left
from typing import Final

from msgspec import Raw

from .directory import Directory
from .errors import (
    CallError,
    CallTimeout,
    InvalidCall,
    Overloaded,
    ServiceLost,
    ServiceUnavailable,
)
from .messages import CallCount, Framed, Manifest, Value

# The outcomes of calls by their place in a row; a later one comes last.
OUTCOMES: Final = (
    "ok",
    "error",  # the method raised
    "timeout",
    "lost",  # with its callee's process
    "unavailable",
    "overloaded",
    "invalid",
    "cancelled",  # by its caller
)
BUCKETS: Final = 32  # the last one has all longer times
# Upper bounds of the buckets in seconds, but of the last, which has none: 1 µs to 1074 s
BOUNDS_S: Final = tuple(2**n / 1e6 for n in range(BUCKETS - 1))
OTHER: Final = "(other)"  # in place of a name that is in no manifest, or that has no room
ROWS_MOST: Final = 512  # between two heartbeats
TIMES_MOST: Final = 1000  # of one row, before they are sorted into their counters
# Methods of garrison's own, which no manifest has; a test compares them with where they are defined
INTERNAL: Final = frozenset(
    {
        *("$act", "$applies", "$dead_letter", "$evaluate", "$event", "$gate", "$judges", "$mail"),
        *("$model", "$model_stream", "$provide", "$run_task", "$send"),
    }
)

_PLACES: dict[type, int] = {
    CallTimeout: OUTCOMES.index("timeout"),
    ServiceLost: OUTCOMES.index("lost"),
    ServiceUnavailable: OUTCOMES.index("unavailable"),
    Overloaded: OUTCOMES.index("overloaded"),
    InvalidCall: OUTCOMES.index("invalid"),
}
_OK, _ERROR, _CANCELLED = (OUTCOMES.index(one) for one in ("ok", "error", "cancelled"))


class _Row:
    """The calls of one method."""

    __slots__ = ("buckets", "others", "seconds", "timed", "times", "untimed")

    def __init__(self) -> None:
        self.times: list[float] = []  # that are not in the buckets yet
        self.buckets = [0] * BUCKETS
        self.seconds = 0.0  # sum of those in the buckets
        self.timed = 0  # likewise, how many
        self.others = [0] * len(OUTCOMES)  # calls that did not end well
        self.untimed = 0  # of those, calls that took no time

    def sort_times(self) -> None:
        """Count the times in their buckets."""
        times, done = self.times, 0
        times.sort()
        for bucket, bound in enumerate(BOUNDS_S):
            below = bisect_left(times, bound, done)
            self.buckets[bucket] += below - done
            done = below
        self.buckets[-1] += len(times) - done
        self.timed += len(times)
        self.seconds += sum(times)
        times.clear()

    def as_message(self, service: str, method: str) -> CallCount:
        """Return it for a heartbeat."""
        self.sort_times()
        outcomes = list(self.others)
        outcomes[_OK] = self.timed + self.untimed - sum(self.others)
        buckets = {bucket: count for bucket, count in enumerate(self.buckets) if count}
        return CallCount(service, method, tuple(outcomes), buckets, int(self.seconds * 1e6))


class CallCounts:
    """Counts since the last heartbeat.

    Args:
        directory: The services and their methods, by whose names calls are counted.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._rows: dict[str, dict[str, _Row]] = {}
        self._number = 0  # of rows

    def settled(
        self, service: str, method: str, outcome: Value | CallError | None, seconds: float
    ) -> None:
        """Count a call that has ended.

        Args:
            service: The callee's NAME.
            method: The method.
            outcome: How it ended; None: it was cancelled.
            seconds: From the call to now.
        """
        try:
            row = self._rows[service][method]
        except KeyError:
            row = self._row(service, method)
        if type(outcome) is not Raw and (place := _place(outcome)) != _OK:
            row.others[place] += 1
        times = row.times
        times.append(seconds)
        if len(times) >= TIMES_MOST:
            row.sort_times()

    def failed(self, service: str, method: str, error: CallError) -> None:
        """Count a call that failed at once; no time is counted."""
        row = self._row(service, method)
        row.others[_place(error)] += 1
        row.untimed += 1

    def take(self) -> tuple[CallCount, ...]:
        """Return what was counted since the last time."""
        rows, self._rows, self._number = self._rows, {}, 0
        return tuple(
            row.as_message(service, method)
            for service, methods in rows.items()
            for method, row in methods.items()
        )

    def _row(self, service: str, method: str) -> _Row:
        """Return the row of a call, or the one that names without a row of their own share."""
        entry = self._directory.get(service)
        if entry is None:
            service = method = OTHER
        elif not is_listed(entry.manifest, method):
            method = OTHER
        row = self._rows.get(service, {}).get(method)
        if row is None and self._number >= ROWS_MOST:
            service = method = OTHER
        elif row is not None:
            return row
        self._number += 1
        return self._rows.setdefault(service, {}).setdefault(method, _Row())


def is_listed(manifest: Manifest, method: str) -> bool:
    """Return True if calls of a method are counted under its own name."""
    if method.startswith("$"):
        return method in INTERNAL
    return any(one.name == method for one in manifest.methods)


def _place(outcome: Value | CallError | None) -> int:
    """Return where an outcome is counted."""
    if outcome is None:
        return _CANCELLED
    if isinstance(outcome, Raw | Framed):
        return _OK
    return _PLACES.get(type(outcome), _ERROR)
