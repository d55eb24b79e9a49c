"""What an answer does without: services that do not run, and parts that were late."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from garrison.ipc.messages import State
from garrison.workers.agents.absence import (
    ANSWERS_MOST,
    GRACE_S,
    LEFT_OUT_S,
    PARTS_MOST,
    RECENT_S,
    RETURNING,
    Absences,
    Lateness,
    Part,
)

PART = Part("provider", "WEATHER", "weather")


def ended(now: float = 10.0) -> Absences:
    """Return what is known of a service `s` that ran until `now`."""
    absences = Absences()
    absences.saw("s", State.RUNNING, now - 5)
    absences.saw("s", State.QUEUED, now)
    return absences


@pytest.mark.parametrize("state", [*State, None])
def test_a_service_that_never_ran_is_not_waited_for(state: State | None) -> None:
    """Its first start may hang. One that runs is called."""
    expected = inf if state is State.RUNNING else 0.0

    absences = Absences()
    absences.saw("s", state, 1.0)
    assert absences.wait("s", state, True, "m", 1.0) == expected


@pytest.mark.parametrize("state", [state for state in State if state is not State.RUNNING])
@pytest.mark.parametrize("wanted", [True, False])
def test_one_that_ran_until_just_now_is_waited_for_if_it_returns(
    state: State, wanted: bool
) -> None:
    """Not one in backoff, and none that was stopped or has failed."""
    expected = GRACE_S if wanted and state in RETURNING else 0.0
    assert ended().wait("s", state, wanted, "m", 10.0) == pytest.approx(expected)


def test_an_answer_waits_once_for_all_services() -> None:
    """Its wait begins with the first one that is away, and another answer has its own."""
    absences = ended()
    absences.saw("other", State.RUNNING, 9.0)
    absences.saw("other", State.STARTING, 10.0)

    assert absences.wait("s", State.QUEUED, True, "m", 10.0) == pytest.approx(GRACE_S)
    later = 10.0 + GRACE_S / 2
    assert absences.wait("other", State.STARTING, True, "m", later) == pytest.approx(GRACE_S / 2)
    assert absences.wait("s", State.QUEUED, True, "m", 10.0 + GRACE_S) == 0
    assert absences.wait("s", State.QUEUED, True, "n", 10.2) == pytest.approx(GRACE_S)


def test_a_start_that_takes_long_is_no_longer_waited_for() -> None:
    """Also for a new answer; and again once it has run."""
    absences = ended()
    assert absences.wait("s", State.STARTING, True, "m", 10.0 + RECENT_S + 0.01) == 0
    absences.saw("s", State.RUNNING, 20.0)
    absences.saw("s", State.QUEUED, 30.0)
    assert absences.wait("s", State.QUEUED, True, "m", 30.0) == pytest.approx(GRACE_S)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["s", "t", "u"]),
            st.sampled_from([*State, None]),
            st.sampled_from(["m", "n", ""]),
            st.floats(0, 0.3),
        )
    )
)
def test_no_answer_waits_longer_in_any_history(
    history: list[tuple[str, State | None, str, float]],
) -> None:
    """The grace is for all services of an answer together, within a second."""
    absences, now = Absences(), 0.0
    began: dict[str, float] = {}
    for service, state, answer, step in history:
        now += step
        absences.saw(service, state, now)
        wait = absences.wait(service, state, True, answer, now)
        assert (wait == inf) == (state is State.RUNNING)
        if 0 < wait < inf:
            if now - began.get(answer, -inf) > RECENT_S:
                began[answer] = now
            assert now + wait <= began[answer] + GRACE_S + 1e-9


def test_the_table_of_answers_is_bounded() -> None:
    """The oldest one leaves."""
    absences = ended()
    for number in range(ANSWERS_MOST * 2):
        absences.wait("s", State.QUEUED, True, str(number), 10.0)
    assert len(absences._until) == ANSWERS_MOST


def test_a_part_that_was_late_twice_is_left_out_then_tried_by_one() -> None:
    """A further timeout leaves it out again; an answer ends it."""
    lateness = Lateness()
    lateness.timed_out(PART, 0.0)
    assert not lateness.leaves_out(PART, 0.0)
    lateness.timed_out(PART, 5.0)
    assert lateness.leaves_out(PART, 5.0 + LEFT_OUT_S - 0.1)
    assert lateness.left_out(6.0) == [PART]

    over = 5.0 + LEFT_OUT_S
    assert lateness.left_out(over) == []
    assert [lateness.leaves_out(PART, over) for _ in range(3)] == [False, True, True]
    lateness.timed_out(PART, over + 5)
    assert lateness.leaves_out(PART, over + LEFT_OUT_S)
    assert lateness.answered(PART)
    assert not lateness.leaves_out(PART, over + 6)
    assert not lateness.answered(PART)


def test_an_answer_in_time_between_two_timeouts_counts() -> None:
    """They must follow each other; another part's do not matter."""
    lateness = Lateness()
    lateness.timed_out(PART, 0.0)
    lateness.timed_out(PART._replace(name="OTHER"), 0.0)
    lateness.answered(PART)
    lateness.timed_out(PART, 1.0)
    assert not lateness.leaves_out(PART, 1.0)


def test_the_table_of_parts_is_bounded() -> None:
    """The one that was late longest ago leaves."""
    lateness = Lateness()
    for number in range(PARTS_MOST + 1):
        for _ in range(2):
            lateness.timed_out(PART._replace(name=str(number)), 0.0)
    left_out = lateness.left_out(1.0)
    assert (len(left_out), left_out[0].name) == (PARTS_MOST, "1")
