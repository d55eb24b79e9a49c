"""Makes rates and quantiles of two readings of a host's totals. Pure; times are in seconds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .call_totals import CallerReport, CallTotals, Totals

GOOD = frozenset({"ok", "cancelled"})  # outcomes that are no failure

AT_LEAST_S = 0.05  # between two heartbeats: a rate over less would be chance


def seconds_between(before: CallerReport | None, after: CallerReport) -> float:
    """Return the time over which a caller has counted what two readings differ by; 0: none.

    It is the time between its heartbeats, since what it counts arrives with them.
    """
    seconds = after.beat_s - before.beat_s if before is not None else 0.0
    return seconds if seconds >= AT_LEAST_S else 0.0


@dataclass(frozen=True, slots=True)
class _Added:
    """What one caller, service and method have had between two readings."""

    row: CallTotals
    seconds: float  # over which it was counted
    calls: int
    failed: int
    buckets: Sequence[int]


def _added(before: Totals, after: Totals) -> Iterator[_Added]:
    """Yield what has grown. If another supervisor has begun meanwhile, nothing has."""
    if before.boot != after.boot:
        return
    good = [outcome in GOOD for outcome in after.outcomes]
    old = {(one.caller, one.service, one.method): one for one in before.calls}
    for row in after.calls:
        caller = after.callers.get(row.caller)
        seconds = seconds_between(before.callers.get(row.caller), caller) if caller else 0.0
        former = old.get((row.caller, row.service, row.method))
        if not seconds or row == former:
            continue
        outcomes, buckets = list(row.outcomes), list(row.buckets)
        if former is not None:
            outcomes = [now - was for now, was in zip(outcomes, former.outcomes, strict=True)]
            buckets = [now - was for now, was in zip(buckets, former.buckets, strict=True)]
        failed = sum(n for n, is_good in zip(outcomes, good, strict=True) if not is_good)
        yield _Added(row, seconds, sum(outcomes), failed, buckets)


def pair_rates(before: Totals, after: Totals) -> dict[tuple[str, str], float]:
    """Return the calls a second that ended between two readings, by caller and service.

    Args:
        before: The earlier reading.
        after: The later one. If another supervisor has begun meanwhile, there are no rates.
    """
    rates: dict[tuple[str, str], float] = {}
    for one in _added(before, after):
        key = one.row.caller, one.row.service
        rates[key] = rates.get(key, 0.0) + one.calls / one.seconds
    return rates


@dataclass(slots=True)
class ServiceRates:
    """The calls of one service between two readings."""

    in_s: float = 0.0  # calls to it a second that ended
    out_s: float = 0.0  # calls that it made, likewise
    failed_s: float = 0.0  # calls to it that failed
    p50_s: float | None = None  # durations of calls to it; None: there were none
    p99_s: float | None = None


def service_rates(before: Totals, after: Totals) -> dict[str, ServiceRates]:
    """Return the calls of every service that has had or made any between two readings."""
    rates: dict[str, ServiceRates] = {}
    buckets: dict[str, list[int]] = {}
    for one in _added(before, after):
        callee = rates.setdefault(one.row.service, ServiceRates())
        caller = rates.setdefault(one.row.caller, ServiceRates())
        callee.in_s += one.calls / one.seconds
        callee.failed_s += one.failed / one.seconds
        caller.out_s += one.calls / one.seconds
        sums = buckets.setdefault(one.row.service, [0] * len(one.buckets))
        for place, number in enumerate(one.buckets):
            sums[place] += number
    for name, sums in buckets.items():
        rates[name].p50_s = quantile(0.5, sums, after.bounds_s)
        rates[name].p99_s = quantile(0.99, sums, after.bounds_s)
    return rates


def quantile(share: float, buckets: Sequence[int], bounds_s: Sequence[float]) -> float | None:
    """Return a quantile of durations; None: there are none.

    Within its bucket it is interpolated, so it is exact to a factor of two.
    """
    wanted, below = share * sum(buckets), 0
    for place, number in enumerate(buckets):
        if number and below + number >= wanted:
            least = bounds_s[place - 1] if place else 0.0
            most = bounds_s[place] if place < len(bounds_s) else least
            return least + (most - least) * max(wanted - below, 0.0) / number
        below += number
    return None


def awaiting(totals: Totals) -> dict[tuple[str, str], int]:
    """Return the calls that have not ended, by caller and service."""
    return {
        (caller, service): number
        for caller, report in totals.callers.items()
        for service, number in report.awaiting.items()
    }
