"""The totals of calls and deaths of a host at one moment, as the supervisor answers them."""

import msgspec


class CallTotals(msgspec.Struct, frozen=True):
    """The calls of one method by one caller."""

    caller: str
    service: str
    method: str
    outcomes: tuple[int, ...]  # how many, in the order of `Totals.outcomes`
    buckets: tuple[int, ...]  # how many took up to each of `Totals.bounds_s`; the last: longer
    seconds: float = 0.0  # what they took in sum

    @property
    def number(self) -> int:
        """Return how many calls there were."""
        return sum(self.outcomes)


class CallerReport(msgspec.Struct, frozen=True):
    """What a caller's last heartbeat reported besides."""

    beat_s: float  # when it arrived
    awaiting: dict[str, int]  # NAME → calls to it that have not ended


class DeathTotal(msgspec.Struct, frozen=True):
    """How often a service has ended without an order."""

    service: str
    kind: str  # of the crash reports
    number: int


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """All totals at one moment. Times are monotonic seconds of the supervisor's machine."""

    boot: str  # id of the supervisor's process: with another one, totals begin anew
    since_s: float
    now_s: float
    outcomes: tuple[str, ...]
    bounds_s: tuple[float, ...]
    callers: dict[str, CallerReport]
    calls: tuple[CallTotals, ...]
    deaths: tuple[DeathTotal, ...]
    direct: tuple[tuple[str, str], ...] = ()  # NAMEs of callers and callees with a direct route
