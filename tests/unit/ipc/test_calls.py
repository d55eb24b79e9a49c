"""The table of calls in flight: when a call is sent, and how it waits and is due."""

import pytest
from tests.support.calls import ONE, OTHER, RESULT, TWO, Caller

from garrison.ipc import calls as table
from garrison.ipc import messages
from garrison.ipc.calls import WAITING_CALLS
from garrison.ipc.errors import (
    CallTimeout,
    Overloaded,
    RemoteError,
    ServiceLost,
    ServiceUnavailable,
)
from garrison.ipc.messages import (
    LONGEST_TIMEOUT,
    Entry,
    Manifest,
    Paused,
    State,
    decode_data,
    encode,
)


@pytest.fixture
def caller() -> Caller:
    """Return a caller of a running service."""
    made = Caller()
    made.runs()
    return made


# --- sent, answered -----------------------------------------------------------------------


def test_a_call_to_a_running_service_is_sent_at_once(caller: Caller) -> None:
    """It carries the rest of its deadline, and its reply settles it."""
    call_id = caller.call(timeout=7.0)

    ((to, message),) = caller.sent
    assert to == ONE
    assert isinstance(message, messages.Call)
    assert (message.id, message.method, message.timeout) == (call_id, "m", 7.0)
    assert len(caller.calls) == 1
    assert caller.answer(call_id)
    assert caller.outcome(call_id) is RESULT
    assert len(caller.calls) == 0


def test_an_error_is_an_answer(caller: Caller) -> None:
    """The error of the method is the outcome of the call."""
    call_id = caller.call()
    error = RemoteError("a", "m", "ValueError: no")

    assert caller.calls.answered(call_id, ONE, error, 100.0)
    assert caller.outcome(call_id) is error


def test_an_idempotent_call_that_its_callee_cut_short_is_sent_again(caller: Caller) -> None:
    """As one that was lost with its process: the service was restarted while it ran."""
    once, again = caller.start(), caller.start()
    again.idempotent = True
    cut = ServiceLost("a", "m", "it was restarted")

    for call in (once, again):
        assert caller.calls.answered(call.id, ONE, cut, caller.now)
    assert caller.outcome(once.id) is cut
    assert caller.outcomes[again.id] == []

    caller.runs(TWO)
    assert caller.calls_sent(TWO) == [again.id]
    assert caller.answer(again.id, TWO)


def test_only_the_incarnation_that_has_a_call_can_answer_it(caller: Caller) -> None:
    """Replies of other incarnations, second replies and replies to no call are ignored."""
    call_id = caller.call()

    assert not caller.answer(call_id, TWO)
    assert not caller.answer(99)
    assert caller.outcomes[call_id] == []
    assert caller.answer(call_id)
    assert not caller.answer(call_id)
    assert caller.outcome(call_id) is RESULT


def test_an_old_incarnation_can_answer_its_calls(caller: Caller) -> None:
    """A new incarnation in the directory does not affect calls that the old one has."""
    call_id = caller.call()
    caller.runs(TWO)

    assert not caller.answer(call_id, TWO)
    assert caller.answer(call_id, ONE)


# --- not configured, stopped, failed ------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "wanted", "waits"),
    [
        (State.REGISTERED, False, False),
        (State.REGISTERED, True, False),
        (State.QUEUED, True, True),
        (State.QUEUED, False, False),
        (State.INITIALIZING, True, True),
        (State.STARTING, True, True),
        (State.STOPPING, True, True),
        (State.STOPPING, False, False),
        (State.STOPPED, False, False),
        (State.BACKOFF, True, True),
        (State.FAILED, True, False),
        (State.RUNNING, True, True),
        (State.RUNNING, False, True),
    ],
)
def test_the_state_decides_whether_a_call_waits(state: State, wanted: bool, waits: bool) -> None:
    """A call waits if the service will run without an order; otherwise it fails at once."""
    caller = Caller()
    caller.changed(state, b"", wanted)
    call_id = caller.call()

    if waits:
        assert caller.outcomes[call_id] == []
    else:
        error = caller.error(call_id, ServiceUnavailable)
        assert isinstance(error, ServiceUnavailable)
        assert error.state == state.value
    assert caller.sent == []


def test_an_unknown_service_is_not_configured() -> None:
    """The call fails at once, with that reason."""
    caller = Caller()
    call_id = caller.call("unknown")

    assert "not configured" in str(caller.error(call_id, ServiceUnavailable))
    assert len(caller.calls) == 0


@pytest.mark.parametrize(
    ("state", "wanted"), [(State.FAILED, True), (State.STOPPED, False), (State.STOPPING, False)]
)
def test_waiting_calls_fail_when_their_service_will_not_run(state: State, wanted: bool) -> None:
    """All waiting calls fail at once; one in flight can still be answered."""
    caller = Caller(window=1)
    caller.runs()
    flying, first, second = caller.call(), caller.call(), caller.call()

    caller.changed(state, b"", wanted)

    for call_id in (first, second):
        caller.error(call_id, ServiceUnavailable)
    assert caller.outcomes[flying] == []
    assert caller.answer(flying)


def test_waiting_calls_fail_when_their_service_is_removed(caller: Caller) -> None:
    """A service that is no longer configured will not answer."""
    caller.changed(State.BACKOFF, b"")
    call_id = caller.call()

    caller.calls.changed("a", None, caller.now)

    assert "not configured" in str(caller.error(call_id, ServiceUnavailable))


# --- waiting ------------------------------------------------------------------------------


def test_calls_wait_for_a_starting_service_and_are_sent_in_order() -> None:
    """The next incarnation gets the waiting calls, oldest first, with the rest of their time."""
    caller = Caller()
    caller.changed(State.STARTING, b"")
    ids = [caller.call(timeout=10.0) for _ in range(3)]
    assert caller.sent == []

    caller.now += 4
    caller.runs(TWO)

    assert caller.calls_sent(TWO) == ids
    assert [m.timeout for _, m in caller.sent if isinstance(m, messages.Call)] == [6.0] * 3


def test_the_window_bounds_calls_in_flight(caller: Caller) -> None:
    """Beyond it a call waits; each reply lets the next one be sent."""
    ids = [caller.call() for _ in range(6)]
    assert caller.calls_sent() == ids[:4]

    caller.answer(ids[2])
    assert caller.calls_sent() == ids[:5]

    caller.answer(ids[0])
    assert caller.calls_sent() == ids


def test_half_of_what_is_in_flight_is_sent_before_the_turn_ends(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the callee works on one half while the other is prepared. How many are in flight is known
    after some calls; with few in flight all go together."""
    monkeypatch.setattr(table, "OVERLAP_LEAST", 3)
    monkeypatch.setattr(table, "OVERLAP_PERIOD", 4)
    monkeypatch.setattr(table, "OVERLAP_STEP", 1)
    sent: list[tuple[bytes, int]] = []
    caller.calls.send_queued = lambda to, least: sent.append((to, least))
    for _ in range(3):
        ids = [caller.call() for _ in range(4)]
        for one in ids:
            caller.answer(one)
    assert sent == [(ONE, 2)] * 3  # of the second round's last call, and the third's last two
    caller.call()
    assert len(sent) == 3


def test_the_window_bounds_bytes_in_flight(caller: Caller) -> None:
    """A call whose arguments do not fit waits, and so do the calls behind it."""
    first, second, third = caller.call(size=600), caller.call(size=401), caller.call(size=1)
    assert caller.calls_sent() == [first]

    caller.answer(first)

    assert caller.calls_sent() == [first, second, third]


def test_a_call_larger_than_the_window_is_sent_alone(caller: Caller) -> None:
    """It waits until nothing else is in flight, and blocks all others meanwhile."""
    small, large, after = caller.call(), caller.call(size=5000), caller.call()
    assert caller.calls_sent() == [small]

    caller.answer(small)
    assert caller.calls_sent() == [small, large]

    caller.answer(large)
    assert caller.calls_sent() == [small, large, after]


def test_each_service_has_its_own_window(caller: Caller) -> None:
    """A full window does not delay calls to other services."""
    caller.runs(OTHER, "b")
    for _ in range(5):
        caller.call()

    call_id = caller.call("b")

    assert caller.calls_sent(OTHER) == [call_id]


def test_too_many_waiting_bytes_are_overloaded_at_once() -> None:
    """Sixteen windows of bytes may wait; the next call fails without waiting."""
    caller = Caller()
    caller.changed(State.BACKOFF, b"")
    for _ in range(16):
        caller.call(size=1000)

    call_id = caller.call(size=1)

    caller.error(call_id, Overloaded)


def test_too_many_waiting_calls_are_overloaded_at_once() -> None:
    """The bound on their number is WAITING_CALLS."""
    caller = Caller(window_bytes=1 << 30)
    caller.changed(State.BACKOFF, b"")
    for _ in range(WAITING_CALLS):
        caller.call(size=1)

    call_id = caller.call(size=1)

    caller.error(call_id, Overloaded)
    assert len(caller.calls) == WAITING_CALLS


def test_a_call_larger_than_all_that_may_wait_can_wait_alone() -> None:
    """If no other call waits, "too many calls wait" cannot be the reason."""
    caller = Caller()
    caller.changed(State.STARTING, b"")
    call_id = caller.call(size=17_000)
    assert caller.outcomes[call_id] == []

    caller.runs()

    assert caller.calls_sent() == [call_id]


def test_ended_calls_do_not_count_as_waiting() -> None:
    """Cancelled and timed-out calls use neither bytes nor places."""
    caller = Caller()
    caller.changed(State.BACKOFF, b"")
    for _ in range(20):
        caller.calls.cancel(caller.call(size=1000), caller.now)
    for _ in range(20):
        caller.call(size=1000, timeout=1.0)
        caller.now += 2
        caller.calls.due(caller.now)

    call_id = caller.call(size=1000)

    assert caller.outcomes[call_id] == []


# --- deadlines ----------------------------------------------------------------------------


def test_no_answer_in_time_is_a_timeout(caller: Caller) -> None:
    """A cancellation is sent to the callee, and a late reply is ignored."""
    call_id = caller.call(timeout=2.0)
    assert caller.calls.next_deadline == 102.0
    assert caller.calls.due(101.9) == 102.0
    assert caller.outcomes[call_id] == []

    caller.calls.due(102.0)

    error = caller.error(call_id, CallTimeout)
    assert isinstance(error, CallTimeout)
    assert error.timeout == 2.0
    assert caller.sent[-1] == (ONE, messages.Cancel(call_id))
    assert not caller.answer(call_id)


def test_a_window_full_until_the_deadline_is_overloaded(caller: Caller) -> None:
    """It was never sent, so no message is sent to the callee."""
    for _ in range(4):
        caller.call(timeout=60.0)
    call_id = caller.call(timeout=2.0)

    caller.calls.due(102.0)

    assert "window" in str(caller.error(call_id, Overloaded))
    assert caller.calls_sent() == [1, 2, 3, 4]
    assert not any(isinstance(message, messages.Cancel) for _, message in caller.sent)


def test_calls_due_at_the_same_time_as_the_window_s_are_not_sent(caller: Caller) -> None:
    """A place that a timeout frees goes to a call with time left, not to one that is due too."""
    flying = [caller.call(timeout=2.0) for _ in range(4)]
    parked = [caller.call(timeout=2.0) for _ in range(2)]
    later = caller.call(timeout=60.0)

    caller.calls.due(102.0)

    for call_id in flying:
        caller.error(call_id, CallTimeout)
    for call_id in parked:
        caller.error(call_id, Overloaded)
    assert caller.calls_sent() == [*flying, later]


@pytest.mark.parametrize("state", [State.QUEUED, State.STARTING, State.BACKOFF, State.STOPPING])
def test_not_running_by_the_deadline_is_unavailable(state: State) -> None:
    """The error names the state in which it waited."""
    caller = Caller()
    caller.changed(state, b"")
    call_id = caller.call(timeout=2.0)

    caller.calls.due(102.0)

    error = caller.error(call_id, ServiceUnavailable)
    assert isinstance(error, ServiceUnavailable)
    assert error.state == state.value


@pytest.mark.parametrize("announced", [False, True])
def test_between_two_incarnations_it_is_restarting(caller: Caller, announced: bool) -> None:
    """A service whose process ended is not reported as running, with or without an address."""
    caller.calls.ended(ONE, "was killed", caller.now)
    if announced:
        caller.changed(State.RUNNING, b"")
    call_id = caller.call(timeout=2.0)

    caller.calls.due(102.0)

    error = caller.error(call_id, ServiceUnavailable)
    assert isinstance(error, ServiceUnavailable)
    assert error.state == "restarting"


def test_the_longest_deadline_can_be_decoded(caller: Caller) -> None:
    """Whatever a caller sets, the message keeps the wire's bound."""
    caller.call(size=2, timeout=1e9)

    (message,) = decode_data(encode([caller.sent[0][1]]))

    assert isinstance(message, messages.Call)
    assert message.timeout <= LONGEST_TIMEOUT


def test_many_deadlines_are_kept_in_bounds(caller: Caller) -> None:
    """Deadlines of ended calls are removed."""
    for _ in range(5000):
        caller.answer(caller.call())

    assert len(caller.calls._deadlines) <= 2 * len(caller.calls) + 65
    assert caller.calls.due(200.0) == float("inf")


# --- cancelling ---------------------------------------------------------------------------


def test_cancel_is_sent_to_the_callee_and_settles_nothing(caller: Caller) -> None:
    """It has no outcome, since no caller waits; its reply is ignored."""
    call_id = caller.call()

    assert caller.calls.cancel(call_id, caller.now)

    assert caller.sent[-1] == (ONE, messages.Cancel(call_id))
    assert not caller.answer(call_id)
    assert caller.outcomes[call_id] == []
    assert not caller.calls.cancel(call_id, caller.now)


def test_cancel_of_a_waiting_call_sends_nothing() -> None:
    """It was not sent, and will not be."""
    caller = Caller()
    caller.changed(State.STARTING, b"")
    call_id = caller.call()

    assert caller.calls.cancel(call_id, caller.now)
    caller.runs()

    assert caller.sent == []
    assert caller.outcomes[call_id] == []


def test_cancel_lets_the_next_call_be_sent(caller: Caller) -> None:
    """The next waiting call takes the free place in the window."""
    ids = [caller.call() for _ in range(5)]

    caller.calls.cancel(ids[0], caller.now)

    assert caller.calls_sent() == ids


# --- a paused service ---------------------------------------------------------------------


def paused(caller: Caller, refuses: bool) -> None:
    """Have the service of the directory paused: its address is empty."""
    words = "paused by an operator; to go on: garrison resume a"
    entry = Entry(
        *("a", "p", 0, Manifest("t"), State.RUNNING, True, 1),
        paused=Paused(words, refuses, ONE),
    )
    caller.calls.changed("a", entry, caller.now)


def test_a_call_to_a_paused_service_waits(caller: Caller) -> None:
    """What it has runs on; what waits is sent once it is resumed, or names the pause."""
    running = caller.call()
    paused(caller, refuses=False)
    waiting, late = caller.call(), caller.call(timeout=1.0)
    assert caller.calls_sent() == [running]
    assert caller.answer(running)

    caller.calls.due(caller.now + 2.0)
    assert "garrison resume a" in str(caller.error(late, ServiceUnavailable))
    caller.runs()
    assert caller.calls_sent() == [running, waiting]


def test_a_paused_service_may_refuse(caller: Caller) -> None:
    """Also what waits already, and no longer once it is resumed."""
    caller.changed(State.STARTING, token=b"")
    waiting = caller.call()
    paused(caller, refuses=True)
    for call_id in (waiting, caller.call()):
        assert "garrison resume a" in str(caller.error(call_id, ServiceUnavailable))
    assert not caller.calls_sent()

    caller.runs()
    resumed = caller.call()
    assert caller.calls_sent() == [resumed]
