"""`garrison top`: rates of two readings, the order of rows, screens of any size, and keys."""

from typing import Any

import pytest
from click import unstyle
from hypothesis import given
from hypothesis import strategies as st

from garrison.ipc.call_counts import BOUNDS_S, BUCKETS
from garrison.ipc.call_rates import ServiceRates, quantile, service_rates
from garrison.ipc.call_totals import Totals
from garrison.ipc.messages import CallCount, Manifest, MethodInfo
from garrison.supervisor.cli.render.top import COLUMNS, UNKNOWN, View, duration, rate, screen, table
from garrison.supervisor.cli.screen import next_key
from garrison.supervisor.cli.top_rows import (
    ORDERS,
    UNWELL,
    TopRow,
    Window,
    order_of,
    ordered,
    rows_of,
)
from garrison.supervisor.control.status import held_row
from garrison.supervisor.counters import Counters
from garrison.supervisor.lifecycle.services import HeldService

MANIFEST = Manifest("t", methods=(MethodInfo("m"),))
STATUS = {
    "supervisor": {"cpu_percent": 1.0, "rss_bytes": 2**25, "uptime_s": 50.0, "home": "/srv/home"},
    "services": [],
}


def reading(boot: str, at: float, calls: int, failed: int = 0) -> Totals:
    """Return totals after so many calls from `a` to `b`, of 1.5 ms each."""
    made = Counters(lambda name: MANIFEST, 0.0)
    buckets = {11: calls + failed}
    made.add("a", (CallCount("b", "m", (calls, failed), buckets),), {}, at)
    return made.totals(boot, at + 0.5)


def a_row(name: str = "a", **changes: Any) -> TopRow:
    """Return a row."""
    given = held_row(HeldService(name, "")) | {"state": "running"} | changes
    (row,) = rows_of({"services": [given]}, None)
    return row


@pytest.mark.parametrize(
    ("share", "buckets", "seconds"),
    [
        (0.5, {}, None),
        (0.5, {11: 4}, 0.001536),
        (1.0, {11: 4}, 0.002048),
        (0.5, {11: 4, 12: 4}, 0.002048),
        (0.99, {11: 50, 20: 50}, 0.524288 * 1.98),
        (0.5, {0: 2}, 0.5e-6),
        (0.5, {31: 1}, BOUNDS_S[-1]),
    ],
)
def test_a_quantile_is_within_its_bucket(
    share: float, buckets: dict[int, int], seconds: float | None
) -> None:
    """In proportion; of the last bucket only the least is known."""
    counts = [buckets.get(n, 0) for n in range(BUCKETS)]
    expected = None if seconds is None else pytest.approx(seconds)

    assert quantile(share, counts, BOUNDS_S) == expected


def test_rates_of_a_service_are_those_of_its_callers_and_its_own() -> None:
    """A failure is a rate of the callee; cancelled calls are none."""
    rates = service_rates(reading("x", 10.0, 100, 5), reading("x", 12.0, 300, 9))

    assert rates["a"] == ServiceRates(out_s=102.0)
    assert (rates["b"].in_s, rates["b"].failed_s, rates["b"].out_s) == (102.0, 2.0, 0.0)
    assert rates["b"].p50_s == pytest.approx(0.001536)
    assert service_rates(reading("x", 10.0, 100), reading("y", 12.0, 300)) == {}


def test_a_window_has_the_last_seconds() -> None:
    """Rates are over those; another supervisor begins a window of its own."""
    window = Window(5.0)
    assert window.add(reading("x", 0.0, 0)) is None
    for at in range(1, 9):
        window.add(reading("x", float(at), 10 * at if at < 6 else 50))
    found = window.add(reading("x", 9.0, 50))
    assert found is not None
    assert found["b"].in_s == pytest.approx(10 / 5)
    assert window.add(reading("y", 10.0, 500)) is None


@pytest.mark.parametrize(
    ("changes", "state", "unwell"),
    [
        ({}, "running", False),
        ({"state": "stopped", "wanted": False}, "stopped", False),
        ({"state": "backoff"}, "backoff", True),
        ({"link": {"disconnected": "token revoked"}}, "disconnected", True),
        ({"health": {"well": False}}, "running", True),
        ({"paused": True}, "paused", False),
    ],
)
def test_what_is_unwell_comes_first(changes: dict[str, Any], state: str, unwell: bool) -> None:
    """What is wanted and does not run, or is not good; what was stopped by order is well."""
    row = a_row("z", **changes)

    assert (row.state, row.unwell) == (state, unwell)
    names = [one.name for one in ordered([a_row("b"), row], UNWELL)]
    assert names == (["z", "b"] if unwell else ["b", "z"])


def test_each_order_has_a_key_of_its_own() -> None:
    """No two, and none that another action has."""
    keys = [one.key for one in ORDERS]

    assert len({*keys, *"qQRSLjk"}) == len(keys) + 7
    busy, big = a_row("x", cpu_percent=9.0), a_row("y", rss_bytes=5)
    assert ordered([big, busy], order_of("cpu"))[0] is busy
    assert ordered([busy, big], order_of("memory"))[0] is big


@pytest.mark.parametrize("width", [12, 20, 40, 80, 200])
@pytest.mark.parametrize("height", [1, 3, 10])
def test_a_screen_fits_its_terminal(width: int, height: int) -> None:
    """Whatever its size, and however long names are; the chosen row is marked."""
    rows = [a_row("a" * 60), *(a_row(f"s{n}", restarts=10**9) for n in range(20))]
    lines = screen(STATUS, rows, View(width, height, UNWELL, "s0", note="x" * 500))

    assert len(lines) == height
    assert max(len(unstyle(line)) for line in lines) <= width
    assert any("\x1b[7m" in line for line in lines) == (height > 4)


def test_a_table_at_40_columns_has_the_most_important() -> None:
    """State, calls to it and how long they take; wide, it has everything."""
    rates = ServiceRates(in_s=37.4, p99_s=0.0123)
    (row,) = rows_of(
        {"services": [held_row(HeldService("bot", "")) | {"state": "running"}]}, {"bot": rates}
    )
    narrow, wide = (table(STATUS, [row], width, UNWELL)[1:] for width in (40, 200))

    assert narrow[0].split() == ["NAME", "STATE", "IN/S", "P99", "ERR/S"]
    assert narrow[1].split() == ["bot", "running", "37", "12ms", "0"]
    assert wide[0].split()[-4:] == ["MEM", "CPU", "RESTARTS", "UP"]


@given(st.floats(0, 1e8), st.floats(0, 1e7))
def test_numbers_have_at_most_five_columns(value: float, seconds: float) -> None:
    """Rates up to 99 million a second, durations up to 99 days."""
    assert len(rate(min(value, 9.9e6))) <= 5
    assert len(duration(seconds)) <= 5


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        ("", []),
        ("jq", ["j", "q"]),
        ("\x1b[A\x1bOB", ["up", "down"]),
        ("R\x1b[5;7~y", ["R", "y"]),
        ("\x1b", ["escape"]),
        ("\x1b[6~x", ["page down", "x"]),
        ("ä\r", ["ä", "enter"]),
    ],
)
def test_keys_are_taken_one_by_one(typed: str, keys: list[str]) -> None:
    """However many arrive at once; a sequence that is unknown is none."""
    found = []
    while (taken := next_key(typed))[0] is not None:
        found.append(taken[0])
        typed = taken[1]

    assert found == keys


def test_a_service_without_a_process_uses_nothing_that_is_shown() -> None:
    """As in `status`: it does not use 0 bytes."""
    cells = {column.head: column.text for column in COLUMNS}
    there, gone = a_row(rss_bytes=2**25, cpu_percent=3.0), a_row(state="backoff")

    assert [cells[head](there) for head in ("MEM", "CPU")] == ["32M", "3%"]
    assert [cells[head](gone) for head in ("MEM", "CPU")] == [UNKNOWN, UNKNOWN]
