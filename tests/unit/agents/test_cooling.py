"""Which providers are passed over, and for how long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from garrison.ipc.errors import CallError, RemoteError
from garrison.workers import Busy, ModelError, RetryLater
from garrison.workers.agents.cooling import KEPT_MOST, LONGEST_S, MOST_S, Cooling, Key

KEY, OTHER = Key("openai", "TEXT_LARGE"), Key("openai", "TEXT_EMBEDDING")
TOKEN, NEXT = b"one", b"two"
UNKNOWN = RemoteError("openai", "$model", "ValueError: no")


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        (ModelError("busy", 30), 30.0),
        (ModelError("busy", 0), 0.0),
        (ModelError("busy", 1e9), LONGEST_S),
        (ModelError("auth"), 1.0),
        (RetryLater(7), 7.0),
        (Busy("full", 2), 2.0),
        (UNKNOWN, 1.0),
    ],
)
def test_a_failed_provider_is_passed_over_for_what_it_says_else_for_a_second(
    error: CallError, wait: float
) -> None:
    """For that model type alone, and only while that incarnation runs."""
    cooling = Cooling()

    assert cooling.failed(KEY, TOKEN, error, 10, 10) == wait

    assert cooling.is_passed_over(KEY, TOKEN, 10) is (wait > 0)
    assert not cooling.is_passed_over(KEY, TOKEN, 10 + wait)
    assert not cooling.is_passed_over(OTHER, TOKEN, 10)
    assert not cooling.is_passed_over(KEY, NEXT, 10)  # an operator has restarted it
    assert cooling.is_passed_over(KEY, b"", 10) is (wait > 0)  # it restarts just now


def test_failures_in_a_row_double_the_wait_up_to_five_minutes() -> None:
    """An answer begins it anew; a stated wait does not shorten the next one."""
    cooling, now, waits = Cooling(), 0.0, list[float]()
    for _ in range(11):
        assert not cooling.is_passed_over(KEY, TOKEN, now)
        waits.append(cooling.failed(KEY, TOKEN, UNKNOWN, now, now))
        now += waits[-1]
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]

    assert cooling.answered(KEY, now) is True
    assert cooling.answered(KEY, now) is False
    assert cooling.failed(KEY, TOKEN, ModelError("busy", 5), now, now) == 5.0
    assert cooling.failed(KEY, TOKEN, UNKNOWN, now + 5, now + 5) == 2.0


def test_requests_that_failed_together_count_once() -> None:
    """Twenty at a time are one outage; the longest stated wait holds."""
    cooling = Cooling()
    for _ in range(20):
        cooling.failed(KEY, TOKEN, UNKNOWN, 0, 5)
    assert cooling.is_passed_over(KEY, TOKEN, 5.9)
    assert not cooling.is_passed_over(KEY, TOKEN, 6)
    assert cooling.failed(KEY, TOKEN, UNKNOWN, 6, 6) == 2.0

    cooling = Cooling()
    cooling.failed(KEY, TOKEN, UNKNOWN, 0, 5)
    assert cooling.failed(KEY, TOKEN, ModelError("busy", 60), 0, 5) == 60.0
    assert cooling.failed(KEY, TOKEN, ModelError("busy", 10), 0, 5) == 60.0
    assert cooling.failed(KEY, TOKEN, UNKNOWN, 0, 5) == 60.0


def test_one_request_probes() -> None:
    """The others pass over it, until the probe has ended."""
    cooling = Cooling()
    assert not cooling.begin(KEY, TOKEN, 0)  # it has not failed: no probe
    cooling.failed(KEY, TOKEN, UNKNOWN, 0, 0)
    assert not cooling.begin(KEY, TOKEN, 0.5)

    assert cooling.begin(KEY, TOKEN, 1)
    assert cooling.is_passed_over(KEY, TOKEN, 1)
    assert not cooling.begin(KEY, TOKEN, 1)
    cooling.end(KEY)  # it was left
    assert cooling.begin(KEY, TOKEN, 2)
    cooling.failed(KEY, TOKEN, UNKNOWN, 2, 2)
    assert cooling.is_passed_over(KEY, TOKEN, 3.9)
    assert cooling.begin(KEY, TOKEN, 4)
    assert cooling.answered(KEY, 4)
    assert not cooling.is_passed_over(KEY, TOKEN, 4)


def test_an_answer_from_before_the_failure_says_nothing() -> None:
    """A slow stream that began in time does not end the wait that the server stated."""
    cooling = Cooling()
    cooling.failed(KEY, TOKEN, ModelError("busy", 60), 5, 5)

    assert not cooling.answered(KEY, 1)
    assert cooling.is_passed_over(KEY, TOKEN, 10)


def test_a_provider_that_is_gone_is_forgotten_and_the_table_is_bounded() -> None:
    """The one that failed longest ago goes first."""
    cooling = Cooling()
    for number in range(KEPT_MOST + 1):
        cooling.failed(Key(str(number), "X"), TOKEN, UNKNOWN, number, number)
    assert cooling.get(Key("0", "X"), TOKEN) is None
    assert cooling.get(Key("1", "X"), TOKEN) is not None

    gone = cooling.forget_others({Key("7", "X")})
    assert len(gone) == KEPT_MOST - 1
    assert cooling.get(Key("7", "X"), TOKEN) is not None


def test_a_kept_error_keeps_nothing_else() -> None:
    """No frames, and so no prompt of a user."""
    cooling = Cooling()
    try:
        raise ModelError("busy")
    except ModelError as error:
        cooling.failed(KEY, TOKEN, error, 0, 0)
    kept = cooling.get(KEY, TOKEN)
    assert kept is not None
    assert kept.error.__traceback__ is None


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["failed", "busy", "answered", "begin", "end"]),
            st.floats(0, 400),
            st.floats(0, 50),
        )
    )
)
def test_any_history_ends_in_a_probe(steps: list[tuple[str, float, float]]) -> None:
    """However it failed: after the longest wait one request is let through, and only one."""
    cooling, now = Cooling(), 0.0
    for what, later, ago in steps:
        now += later
        began = now - ago
        if what == "failed":
            cooling.failed(KEY, TOKEN, UNKNOWN, began, now)
        elif what == "busy":
            cooling.failed(KEY, TOKEN, ModelError("busy", 9), began, now)
        elif what == "answered":
            cooling.answered(KEY, began)
        elif what == "begin":
            cooling.begin(KEY, TOKEN, now)
        else:
            cooling.end(KEY)
    cooling.end(KEY)
    now += MOST_S
    assert not cooling.is_passed_over(KEY, TOKEN, now)
    if cooling.get(KEY, TOKEN) is not None:
        assert cooling.begin(KEY, TOKEN, now)
        assert not cooling.begin(KEY, TOKEN, now)
