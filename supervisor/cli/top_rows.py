"""The rows of `garrison top`: what is known of each service, and their order. Pure.

Rates are calls a second, durations seconds, sizes bytes.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from garrison.ipc.call_rates import ServiceRates, service_rates
from garrison.ipc.call_totals import Totals

WINDOW_S = 5.0  # over which rates and quantiles are


@dataclass(frozen=True, slots=True)
class TopRow:
    """One service."""

    name: str
    state: str
    wanted: bool
    unwell: bool  # it is wanted and does not run, or its own health or connection is not good
    in_flight: int
    memory_bytes: int
    cpu_percent: float
    restarts: int
    uptime_s: float
    rates: ServiceRates | None  # None: not known yet


class Window:
    """Readings of the last seconds, of which rates are made."""

    def __init__(self, seconds: float = WINDOW_S) -> None:
        self._seconds = seconds
        self._readings: deque[Totals] = deque()

    def add(self, totals: Totals) -> dict[str, ServiceRates] | None:
        """Add a reading; return the rates since the oldest one; None: it is the first."""
        readings = self._readings
        if readings and readings[-1].boot != totals.boot:
            readings.clear()
        readings.append(totals)
        while len(readings) > 2 and totals.now_s - readings[1].now_s >= self._seconds:
            readings.popleft()
        return service_rates(readings[0], totals) if len(readings) > 1 else None


def rows_of(status: Mapping[str, Any], rates: Mapping[str, ServiceRates] | None) -> list[TopRow]:
    """Return every service.

    Args:
        status: The data of `status`.
        rates: By NAME; None: not known.
    """
    return [_row(one, rates) for one in status["services"]]


def _row(row: Mapping[str, Any], rates: Mapping[str, ServiceRates] | None) -> TopRow:
    link, health = row.get("link") or {}, row.get("health") or {}
    runs = row["state"] == "running"
    disconnected = bool(link.get("disconnected"))
    unwell = row["wanted"] and (not runs or disconnected or not health.get("well", True))
    state = "disconnected" if runs and disconnected else row["state"]
    if runs and row.get("paused"):
        state = "paused"
    known = None if rates is None else rates.get(row["name"], ServiceRates())
    return TopRow(
        row["name"],
        state,
        row["wanted"],
        unwell,
        row["in_flight"],
        row["rss_bytes"],
        row["cpu_percent"],
        row["restarts"],
        row["uptime_s"],
        known,
    )


@dataclass(frozen=True, slots=True)
class Order:
    """One order of the rows.

    Attributes:
        key: The key that chooses it.
        word: What it is called.
        value: What is compared; the largest first.
    """

    key: str
    word: str
    value: Callable[[TopRow], float]


def _rates(row: TopRow) -> ServiceRates:
    return row.rates or ServiceRates()


ORDERS: Final = (
    Order("u", "unwell", lambda row: row.unwell),
    Order("i", "in", lambda row: _rates(row).in_s),
    Order("o", "out", lambda row: _rates(row).out_s),
    Order("t", "time", lambda row: _rates(row).p99_s or 0.0),
    Order("e", "errors", lambda row: _rates(row).failed_s),
    Order("f", "flight", lambda row: row.in_flight),
    Order("m", "memory", lambda row: row.memory_bytes),
    Order("c", "cpu", lambda row: row.cpu_percent),
    Order("n", "name", lambda row: 0.0),
)
UNWELL: Final = ORDERS[0]


def order_of(word: str) -> Order:
    """Return the order that is called so."""
    return next(one for one in ORDERS if one.word == word)


def ordered(rows: list[TopRow], order: Order) -> list[TopRow]:
    """Return rows in an order; those that are alike in it are in that of their NAMEs."""
    return sorted(rows, key=lambda row: (-order.value(row), row.name))
