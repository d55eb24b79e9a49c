"""The table of one service's calls: callers × methods. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from garrison.ipc.call_rates import GOOD, quantile
from garrison.ipc.call_totals import CallTotals, Totals

ROWS_MOST = 100


@dataclass(frozen=True, slots=True)
class CallRow:
    """Calls of one method by one caller.

    Attributes:
        other: The caller, or where the service calls itself the callee.
        method: The method.
        number: How many.
        failed: How many of them failed.
        mean_s: What they took on average, in seconds; None: nothing was timed.
        p99_s: Likewise, that of the slowest hundredth.
    """

    other: str
    method: str
    number: int
    failed: int
    mean_s: float | None
    p99_s: float | None


def calls_to(totals: Totals, name: str) -> list[CallRow]:
    """Return the calls to a service, the most frequent first."""
    return _rows(totals, (one for one in totals.calls if one.service == name), callers=True)


def calls_of(totals: Totals, name: str) -> list[CallRow]:
    """Return the calls that a service makes, the most frequent first."""
    return _rows(totals, (one for one in totals.calls if one.caller == name), callers=False)


def awaited(totals: Totals, name: str) -> dict[str, int]:
    """Return how many calls to a service have not ended, by caller."""
    return {
        caller: number
        for caller, report in totals.callers.items()
        if (number := report.awaiting.get(name, 0))
    }


def _rows(totals: Totals, found: Iterable[CallTotals], callers: bool) -> list[CallRow]:
    rows = [
        CallRow(
            one.caller if callers else one.service,
            one.method,
            one.number,
            sum(
                count
                for outcome, count in zip(totals.outcomes, one.outcomes, strict=False)
                if outcome not in GOOD
            ),
            one.seconds / timed if (timed := sum(one.buckets)) else None,
            quantile(0.99, one.buckets, totals.bounds_s),
        )
        for one in found
    ]
    return sorted(rows, key=lambda row: (-row.number, row.other, row.method))
