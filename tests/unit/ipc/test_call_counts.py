"""The counts of calls: which row and bucket a call is counted in, and what is sent of it."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw
from tests.support.calls import ONE, Caller

from garrison.ipc import mail
from garrison.ipc.call_counts import (
    BOUNDS_S,
    BUCKETS,
    INTERNAL,
    OTHER,
    OUTCOMES,
    ROWS_MOST,
    TIMES_MOST,
    CallCounts,
)
from garrison.ipc.directory import Directory
from garrison.ipc.errors import (
    CallError,
    CallTimeout,
    InvalidCall,
    Overloaded,
    RemoteError,
    ServiceLost,
    ServiceUnavailable,
)
from garrison.ipc.messages import CallCount, Entry, Framed, Manifest, MethodInfo, State
from garrison.workers.process import dispatch, internal_methods


def counts(*methods: str, names: tuple[str, ...] = ("a",)) -> CallCounts:
    """Return counts for services that offer these methods."""
    manifest = Manifest("t", methods=tuple(MethodInfo(name) for name in methods or ("m",)))
    entries = [Entry(name, "p", 0, manifest, State.RUNNING, True) for name in names]
    return CallCounts(Directory(entries))


def outcomes(count: CallCount) -> dict[str, int]:
    """Return the outcomes that were counted, by their names."""
    return {name: n for name, n in zip(OUTCOMES, count.outcomes, strict=True) if n}


@pytest.mark.parametrize(
    ("outcome", "name"),
    [
        (Raw(b"\x01"), "ok"),
        (Framed([b"\x01"]), "ok"),
        (RemoteError("a", "m", "ValueError: no"), "error"),
        (CallError("a", "m"), "error"),
        (CallTimeout("a", "m", "1"), "timeout"),
        (ServiceLost("a", "m"), "lost"),
        (ServiceUnavailable("a", "m"), "unavailable"),
        (Overloaded("a", "m"), "overloaded"),
        (InvalidCall("a", "m"), "invalid"),
        (None, "cancelled"),
    ],
)
def test_each_outcome_has_its_place(outcome: Any, name: str) -> None:
    """An error that this version does not know is an error."""
    made = counts()
    made.settled("a", "m", outcome, 0.5)

    (count,) = made.take()

    assert (count.service, count.method, outcomes(count)) == ("a", "m", {name: 1})
    assert (count.buckets, count.micros) == ({19: 1}, 500_000)
    assert made.take() == ()


@given(st.lists(st.sampled_from([*BOUNDS_S, 0.0, 1e-7, 0.3, 1e5]) | st.floats(0, 1e5), max_size=30))
@example([0.001] * (2 * TIMES_MOST + 5))
def test_a_time_is_within_its_bucket(times: list[float]) -> None:
    """Each is in one: at least the bound before its own, and below its own."""
    made = counts()
    for seconds in times:
        made.settled("a", "m", Raw(b""), seconds)

    expected: dict[int, int] = {}
    for seconds in times:
        bucket = next((n for n, bound in enumerate(BOUNDS_S) if seconds < bound), BUCKETS - 1)
        expected[bucket] = expected.get(bucket, 0) + 1
    (count,) = made.take() or (CallCount("a", "m", (0,)),)
    assert count.buckets == expected
    assert count.outcomes[0] == len(times)
    assert count.micros == pytest.approx(sum(times) * 1e6, abs=2)


@pytest.mark.parametrize(
    ("service", "method", "row"),
    [
        ("a", "m", ("a", "m")),
        ("a", "$model", ("a", "$model")),
        ("a", "$made_up", ("a", OTHER)),
        ("a", "absent", ("a", OTHER)),
        ("absent", "m", (OTHER, OTHER)),
    ],
)
def test_names_are_those_of_manifests(service: str, method: str, row: tuple[str, str]) -> None:
    """Calls by other names share a row, however many names there are."""
    made = counts()
    made.settled(service, method, Raw(b""), 0.0)
    made.failed(service, method, ServiceUnavailable("a", "m"))

    (count,) = made.take()

    assert (count.service, count.method) == row
    assert outcomes(count) == {"ok": 1, "unavailable": 1}


def test_rows_are_bounded() -> None:
    """Further ones share one, and none of their calls is lost."""
    methods = [f"m{n}" for n in range(ROWS_MOST + 50)]
    made = counts(*methods)
    for method in methods * 2:
        made.settled("a", method, Raw(b""), 0.0)

    rows = made.take()

    assert len(rows) == ROWS_MOST + 1
    assert sum(sum(row.outcomes) for row in rows) == 2 * len(methods)
    assert {(row.service, row.method): sum(row.outcomes) for row in rows}[OTHER, OTHER] == 100


def test_the_internal_methods_are_known() -> None:
    """Every method that workers call of each other besides an author's is counted by name."""
    used = {*internal_methods.METHODS, *dispatch.NOTICE_METHODS}

    assert used | {mail.DELIVER, mail.DEAD_LETTER, mail.EVENT} == INTERNAL


def test_a_table_of_calls_counts_each_end_once() -> None:
    """Whatever ends a call; what has not ended is awaited."""
    caller = Caller(window=2)
    caller.runs()
    caller.calls.counts = counts("m")
    for _ in range(4):
        caller.call(timeout=5.0)
    caller.now += 1.0
    assert caller.calls.report() == ((), {"a": 4})

    caller.answer(1)
    caller.calls.answered(2, ONE, RemoteError("a", "m", "E"), caller.now)
    caller.calls.cancel(3, caller.now)
    caller.calls.due(caller.now + 5.0)
    caller.call("absent")

    rows, awaited = caller.calls.report()

    found = {row.service: (outcomes(row), row.buckets) for row in rows}
    one = {"ok": 1, "error": 1, "cancelled": 1, "timeout": 1}
    assert found == {"a": (one, {20: 3, 23: 1}), OTHER: ({"unavailable": 1}, {})}
    assert awaited == {}
