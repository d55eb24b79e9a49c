"""What is done about one part of an answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from garrison.workers.platform.decision import (
    SendPolicy,
    SendState,
    Step,
    advanced,
    doubtful,
    elapsed_since,
    next_step,
)

ASKS = SendPolicy(2.0, True, "skip")
SKIPS = SendPolicy(2.0, False, "skip")
REPEATS = SendPolicy(2.0, False, "repeat")
SENDING, SENT = SendState.SENDING, SendState.SENT
REFUSED, UNCERTAIN = SendState.REFUSED, SendState.UNCERTAIN


@pytest.mark.parametrize(
    ("state", "elapsed", "policy", "expect", "step"),
    [
        (None, 0.0, ASKS, False, Step.DELIVER),
        (None, 0.0, ASKS, True, Step.QUERY),
        (None, 0.0, SKIPS, True, Step.DELIVER),  # the log has every send
        (None, 0.0, SKIPS._replace(log_lost=True), True, Step.GIVE_UP),
        (None, 0.0, SKIPS._replace(log_lost=True), False, Step.DELIVER),
        (None, 0.0, REPEATS._replace(log_lost=True), True, Step.DELIVER),
        (SENDING, 1.9, ASKS, False, Step.WAIT),
        (SENDING, 1.9, REPEATS, False, Step.WAIT),
        (SENDING, 2.0, ASKS, False, Step.QUERY),
        (SENDING, 2.0, SKIPS, False, Step.GIVE_UP),
        (SENDING, 2.0, REPEATS, False, Step.DELIVER),
        (SENDING, float("inf"), SKIPS, True, Step.GIVE_UP),
        (SENT, 0.0, ASKS, True, Step.DONE),
        (REFUSED, 0.0, ASKS, True, Step.DONE),
        (UNCERTAIN, 0.0, ASKS, False, Step.QUERY),
        (UNCERTAIN, 0.0, SKIPS, True, Step.DONE),
        (UNCERTAIN, 0.0, REPEATS, True, Step.DONE),
    ],
)
def test_first_steps(
    state: SendState | None, elapsed: float, policy: SendPolicy, expect: bool, step: Step
) -> None:
    """The log, the clock, the platform's abilities and the caller's doubt decide."""
    assert next_step(state, elapsed, policy, expect) is step


@pytest.mark.parametrize(
    ("policy", "can_answer", "step"),
    [
        (ASKS, True, Step.QUERY),
        (ASKS, False, Step.GIVE_UP),
        (ASKS._replace(uncertain="repeat"), False, Step.DELIVER),
        (SKIPS, True, Step.GIVE_UP),
        (REPEATS, True, Step.DELIVER),
    ],
)
def test_doubt(policy: SendPolicy, can_answer: bool, step: Step) -> None:
    """A platform that can be asked is asked; of the others the config says what is worse."""
    assert doubtful(policy, can_answer) is step


@given(
    st.sampled_from([None, *SendState]),
    st.floats(0, 10),
    st.booleans(),
    st.sampled_from(["skip", "repeat"]),
    st.booleans(),
    st.booleans(),
)
def test_with_skip_nothing_that_may_be_there_is_sent_without_asking(
    state: SendState | None, elapsed: float, can_ask: bool, uncertain: str, expect: bool, lost: bool
) -> None:
    """Said twice is what `skip` never risks."""
    policy = SendPolicy(2.0, can_ask, uncertain, lost)  # type: ignore[arg-type]
    step = next_step(state, elapsed, policy, expect)

    may_be_there = state is not None or (expect and (lost or can_ask))
    if step is Step.DELIVER and may_be_there:
        assert policy.uncertain == "repeat"
        assert not can_ask
    if step is Step.QUERY:
        assert can_ask


@pytest.mark.parametrize(
    ("logged", "now", "elapsed"),
    [
        ((100.0, "b", 10.0), (50.0, "b", 11.5), 1.5),  # the wall clock was set back
        ((100.0, "b", 10.0), (100.1, "c", 5.0), float("inf")),  # another boot
        ((100.0, "", 10.0), (103.0, "b", 11.0), 3.0),
        ((100.0, "", 10.0), (90.0, "", 11.0), 0.0),
    ],
)
def test_elapsed(
    logged: tuple[float, str, float], now: tuple[float, str, float], elapsed: float
) -> None:
    """Within a boot its own clock counts."""
    assert elapsed_since(*logged, now) == elapsed


@pytest.mark.parametrize(
    ("before", "now", "seconds"),
    [
        ((100.0, "b", 10.0), (9e9, "b", 11.5), 1.5),  # the wall clock was set
        ((100.0, "b", 10.0), (160.0, "c", 5.0), 60.0),
        ((100.0, "b", 10.0), (9e9, "c", 5.0), 86_400.0),
        ((100.0, "b", 10.0), (1.0, "c", 5.0), 0.0),
    ],
)
def test_the_log_s_own_time(
    before: tuple[float, str, float], now: tuple[float, str, float], seconds: float
) -> None:
    """A wrong wall clock drops no rows that are still needed."""
    assert advanced(before, now) == seconds
