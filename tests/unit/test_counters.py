"""The totals of a host: what heartbeats add, what is bounded and dropped, and rates of two."""

import pytest

from garrison.ipc.call_counts import BUCKETS, OTHER
from garrison.ipc.call_rates import awaiting, pair_rates
from garrison.ipc.call_totals import Totals
from garrison.ipc.messages import CallCount, Manifest, MethodInfo
from garrison.supervisor import counters as module
from garrison.supervisor.counters import Counters

MANIFEST = Manifest("t", methods=(MethodInfo("m"),))


def a_host(*names: str) -> Counters:
    """Return the counters of a host with these services, which offer `m`."""
    return Counters(lambda name: MANIFEST if name in names else None, 5.0)


def numbers(totals: Totals) -> dict[tuple[str, str, str], int]:
    """Return how many calls each row has."""
    return {(row.caller, row.service, row.method): row.number for row in totals.calls}


def test_heartbeats_add_up() -> None:
    """Each caller, service and method has a row; a bucket or an outcome that is unknown is
    dropped."""
    made = a_host("a", "b")
    made.add("a", (CallCount("b", "m", (2, 1), {3: 2, 5: 1, 99: 7, -1: 1}, 29),), {"b": 4}, 10.0)
    made.add("a", (CallCount("b", "m", (1, *[0] * 7, 9), {3: 1}, 4),), {"b": 1, "gone": 2}, 11.0)

    totals = made.totals("boot", 12.0)

    (row,) = totals.calls
    assert (row.caller, row.service, row.method) == ("a", "b", "m")
    assert row.outcomes == (3, 1, 0, 0, 0, 0, 0, 0)
    assert row.buckets == tuple({3: 3, 5: 1}.get(n, 0) for n in range(BUCKETS))
    assert row.seconds == 33e-6
    assert (totals.since_s, totals.now_s, totals.callers["a"].beat_s) == (5.0, 12.0, 11.0)
    assert awaiting(totals) == {("a", "b"): 1}


def test_what_a_worker_names_is_checked() -> None:
    """A worker cannot add rows by names of its own."""
    made = a_host("a")
    rows = [("a", "m"), ("a", "x"), ("a", "y"), ("b", "m"), ("c", "m"), ("a", "$mail"), ("a", "$x")]
    made.add("a", tuple(CallCount(*row, (1,)) for row in rows), {}, 1.0)

    assert numbers(made.totals("", 2.0)) == {
        ("a", "a", "m"): 1,
        ("a", "a", OTHER): 3,
        ("a", OTHER, OTHER): 2,
        ("a", "a", "$mail"): 1,
    }


def test_rows_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond them, one row a caller has the rest; those that are there go on."""
    monkeypatch.setattr(module, "ROWS_MOST", 2)
    made = a_host("a", "b", "c")
    for _ in range(2):
        for service in ("a", "b", "c"):
            made.add("a", (CallCount(service, "m", (1,)),), {}, 1.0)

    assert numbers(made.totals("", 2.0)) == {
        ("a", "a", "m"): 2,
        ("a", "b", "m"): 2,
        ("a", OTHER, OTHER): 2,
    }


def test_a_removed_service_leaves_nothing() -> None:
    """Its calls as a caller and a callee and its deaths go; an ended process awaits nothing."""
    made = a_host("a", "b")
    made.add("a", (CallCount("b", "m", (1,)), CallCount("a", "m", (1,))), {"b": 1}, 1.0)
    made.add("b", (CallCount("a", "m", (1,)),), {"a": 1}, 1.0)
    for name in ("a", "b", "b"):
        made.add_death(name, "signal")
    made.ended("a")
    assert awaiting(made.totals("", 2.0)) == {("b", "a"): 1}
    assert [(one.service, one.number) for one in made.totals("", 2.0).deaths] == [
        ("a", 1),
        ("b", 2),
    ]

    made.forget("b")

    totals = made.totals("", 2.0)
    assert numbers(totals) == {("a", "a", "m"): 1}
    assert [one.service for one in totals.deaths] == ["a"]
    assert list(totals.callers) == ["a"]


def test_a_rate_is_over_the_time_between_heartbeats() -> None:
    """Not over that between readings; another supervisor's totals have none, nor has a caller
    without a new heartbeat."""
    made = a_host("a", "b", "c")
    for caller in ("a", "b"):
        made.add(caller, (CallCount("c", "m", (10,)),), {}, 10.0)
    before = made.totals("one", 10.9)
    made.add("a", (CallCount("c", "m", (30,)), CallCount("c", "$mail", (10,))), {}, 12.0)
    made.add("c", (CallCount("a", "m", (5,)),), {}, 12.0)

    assert pair_rates(before, made.totals("one", 12.1)) == {("a", "c"): 20.0}
    assert pair_rates(before, made.totals("two", 12.1)) == {}
