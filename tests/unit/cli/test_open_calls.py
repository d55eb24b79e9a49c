"""The calls that a running service has not ended."""

from pathlib import Path

from garrison.ipc.flight_record import IN, OUT, UNKNOWN, RecordedCall, RecordedCalls
from garrison.supervisor.cli.open_calls import SHOWN_MOST, of_recorded, open_calls


def call(number: int, kind: int, peer: str, method: str, outcome: str = "") -> RecordedCall:
    """Return a recorded call that began so many seconds after 100."""
    return RecordedCall(number, kind, peer, method, number, 100.0 + number, 9, outcome=outcome)


def test_what_has_not_ended_is_listed_oldest_first() -> None:
    """Without garrison's own; the clock may have been put back."""
    noted = (
        call(3, OUT, "db", "get"),
        call(2, IN, f"{UNKNOWN}ab", "ask"),
        call(1, IN, "chat", "say", "ok"),
        call(4, IN, "chat", "$stop"),
        call(5, IN, "chat", "late"),
    )
    data = of_recorded(RecordedCalls(noted, without=2), 104.0)
    assert [(one["direction"], one["service"], one["method"]) for one in data["calls"]] == [
        ("in", "a program", "ask"),
        ("out", "db", "get"),
        ("in", "chat", "late"),
    ]
    assert [one["age_s"] for one in data["calls"]] == [2.0, 1.0, 0.0]
    assert data["more_calls"] == 2


def test_the_list_is_bounded() -> None:
    """What is left out is counted; a file that is not there has none."""
    many = tuple(call(n, IN, "a", "m") for n in range(SHOWN_MOST + 5))
    data = of_recorded(RecordedCalls(many), 0.0)
    assert (len(data["calls"]), data["more_calls"]) == (SHOWN_MOST, 5)
    assert open_calls(Path(), 0.0) == {"calls": [], "more_calls": 0}
