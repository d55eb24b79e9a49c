"""The table of calls in flight: when a call is sent, and how it ends."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from msgspec import Raw

from garrison.ipc import messages
from garrison.ipc.calls import WAITING_CALLS, Calls, OpenCall, Outcome
from garrison.ipc.errors import (
    CallError,
    CallTimeout,
    Overloaded,
    RemoteError,
    ServiceLost,
    ServiceUnavailable,
)
from garrison.ipc.messages import (
    EMPTY_MAP,
    LONGEST_TIMEOUT,
    Entry,
    Framed,
    Manifest,
    State,
    Token,
    Value,
    decode_data,
    encode,
)

ONE, TWO, OTHER = b"g-one", b"g-two", b"g-other"
RESULT = Raw(b"\x01")


@dataclass
class Caller:
    """Calls, the messages that were sent, and each call's outcomes."""

    window: int = 4
    window_bytes: int = 1000
    now: float = 100.0
    sent: list[tuple[Token, messages.Data]] = field(default_factory=list)
    outcomes: dict[int, list[Outcome]] = field(default_factory=dict)
    made: int = 0

    def __post_init__(self) -> None:
        self.calls = Calls(
            lambda to, message: self.sent.append((to, message)), self.window, self.window_bytes
        )

    def call(self, name: str = "a", size: int = 10, timeout: float = 30.0) -> int:
        """Start a call with arguments of a size; return its id."""
        return self.start(name, size, timeout).id

    def start(
        self,
        name: str = "a",
        size: int = 10,
        timeout: float = 30.0,
        item: Callable[[Value], None] | None = None,
        wants_more: Callable[[], bool] | None = None,
    ) -> OpenCall:
        """Start a call, or a stream; return it."""
        self.made += 1
        outcomes = self.outcomes[self.made] = []
        args = Raw(bytes(size - len(EMPTY_MAP)))
        deadline = self.now + timeout
        settle = outcomes.append
        call = OpenCall(
            self.made, name, "m", args, EMPTY_MAP, size, timeout, deadline, settle, item, wants_more
        )
        self.calls.start(call, self.now)
        return call

    def changed(
        self, state: State = State.RUNNING, token: Token = ONE, wanted: bool = True, name: str = "a"
    ) -> None:
        """Apply a change of the directory."""
        entry = Entry(name, "p", 0, Manifest("t"), state, wanted, 1, token)
        self.calls.changed(name, entry, self.now)

    def runs(self, token: Token = ONE, name: str = "a") -> None:
        """Set a service to running."""
        self.changed(State.RUNNING, token, name=name)

    def answer(self, call_id: int, source: Token = ONE) -> bool:
        """Deliver the reply to a call."""
        return self.calls.answered(call_id, source, RESULT, self.now)

    def calls_sent(self, to: Token = ONE) -> list[int]:
        """Return the ids of the calls that were sent to an incarnation, in order."""
        return [m.id for token, m in self.sent if token == to and isinstance(m, messages.Call)]

    def outcome(self, call_id: int) -> Outcome:
        """Return the one outcome of a call."""
        (outcome,) = self.outcomes[call_id]
        return outcome

    def error(self, call_id: int, kind: type[CallError]) -> CallError:
        """Return the error that a call ended with, of exactly that class."""
        outcome = self.outcome(call_id)
        assert isinstance(outcome, CallError)
        assert type(outcome) is kind, outcome
        return outcome


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


# --- ends ---------------------------------------------------------------------------------


def test_an_end_loses_the_calls_in_flight(caller: Caller) -> None:
    """Each error has the cause; waiting calls go on waiting for the next incarnation."""
    ids = [caller.call() for _ in range(6)]

    assert caller.calls.ended(ONE, "its process was killed by SIGKILL", caller.now) == 4

    for call_id in ids[:4]:
        error = caller.error(call_id, ServiceLost)
        assert isinstance(error, ServiceLost)
        assert error.cause == "its process was killed by SIGKILL"
    assert caller.calls_sent() == ids[:4]
    caller.runs(TWO)
    assert caller.calls_sent(TWO) == ids[4:]


def test_nothing_is_sent_to_an_ended_incarnation(caller: Caller) -> None:
    """The directory may change later; until then calls wait."""
    caller.calls.ended(ONE, "killed", caller.now)
    call_id = caller.call()
    caller.runs(ONE)  # an older change of the directory

    assert caller.sent == []
    caller.runs(TWO)
    assert caller.calls_sent(TWO) == [call_id]


def test_the_end_of_an_old_incarnation_makes_room_at_the_new_one(caller: Caller) -> None:
    """The two sockets have no common order: the new one may be known before the old one's end."""
    ids = [caller.call() for _ in range(6)]
    caller.runs(TWO)

    caller.calls.ended(ONE, "killed", caller.now)

    for call_id in ids[:4]:
        caller.error(call_id, ServiceLost)
    assert caller.calls_sent(TWO) == ids[4:]


def test_the_end_of_another_incarnation_affects_no_call(caller: Caller) -> None:
    """Calls to other incarnations are unchanged."""
    call_id = caller.call()

    assert caller.calls.ended(OTHER, "killed", caller.now) == 0
    assert caller.outcomes[call_id] == []


# --- returned unsent ----------------------------------------------------------------------


def test_a_returned_call_goes_to_the_next_incarnation(caller: Caller) -> None:
    """Returned by the router, or refused in a drain: it waits as if unsent, before later calls."""
    first, second = caller.call(), caller.call()
    assert caller.calls.returned_unsent(second, ONE, caller.now)
    assert caller.calls.returned_unsent(first, ONE, caller.now)
    third = caller.call()
    assert caller.calls_sent() == [first, second]

    caller.runs(TWO)

    assert caller.calls_sent(TWO) == [first, second, third]


def test_a_returned_call_is_not_lost(caller: Caller) -> None:
    """The end of the incarnation that returned it does not affect the call."""
    call_id = caller.call()
    caller.calls.returned_unsent(call_id, ONE, caller.now)

    assert caller.calls.ended(ONE, "killed", caller.now) == 0
    assert caller.outcomes[call_id] == []


def test_only_the_incarnation_that_has_a_call_can_return_it(caller: Caller) -> None:
    """A second return, one of another incarnation and one of no call are ignored."""
    call_id = caller.call()

    assert not caller.calls.returned_unsent(call_id, TWO, caller.now)
    assert not caller.calls.returned_unsent(99, ONE, caller.now)
    assert caller.calls.returned_unsent(call_id, ONE, caller.now)
    assert not caller.calls.returned_unsent(call_id, ONE, caller.now)


def test_a_call_is_sent_again_when_the_router_had_no_room(caller: Caller) -> None:
    """FULL closes nothing: after `unblock` it is sent to the same incarnation."""
    call_id = caller.call()
    caller.calls.returned_unsent(call_id, ONE, caller.now, full=True)
    second = caller.call()
    assert caller.calls_sent() == [call_id]

    caller.calls.unblock(caller.now)

    assert caller.calls_sent() == [call_id, call_id, second]


def test_no_room_until_the_deadline_is_overloaded(caller: Caller) -> None:
    """It was not run."""
    call_id = caller.call(timeout=2.0)
    caller.calls.returned_unsent(call_id, ONE, caller.now, full=True)

    caller.calls.due(102.0)

    caller.error(call_id, Overloaded)


def test_a_late_return_of_the_old_incarnation_does_not_close_the_new_one(caller: Caller) -> None:
    """The returned call goes to the new one, which accepts the next call too."""
    first = caller.call()
    caller.runs(TWO)

    caller.calls.returned_unsent(first, ONE, caller.now)
    second = caller.call()

    assert caller.calls_sent(TWO) == [first, second]


def test_a_late_return_of_the_old_incarnation_does_not_open_the_new_one(caller: Caller) -> None:
    """A new one that already drains gets no call because of the old one."""
    first = caller.call()
    caller.runs(TWO)
    second = caller.call()
    caller.calls.returned_unsent(second, TWO, caller.now)

    caller.calls.returned_unsent(first, ONE, caller.now)

    assert caller.calls_sent(TWO) == [second]


def test_a_returned_call_fails_when_its_service_stops(caller: Caller) -> None:
    """No next incarnation will start, so waiting is useless."""
    call_id = caller.call()
    caller.changed(State.STOPPING, b"", wanted=False)

    caller.calls.returned_unsent(call_id, ONE, caller.now)

    caller.error(call_id, ServiceUnavailable)


# --- another router, the end --------------------------------------------------------------


def test_another_router_loses_the_calls_in_flight(caller: Caller) -> None:
    """Calls through the old one are lost; waiting calls are sent through the new one."""
    ids = [caller.call() for _ in range(5)]

    caller.calls.router_changed("the router restarted", caller.now)
    caller.runs()

    for call_id in ids[:4]:
        assert "the router restarted" in str(caller.error(call_id, ServiceLost))
    assert caller.calls_sent() == ids


def test_leaving_settles_everything(caller: Caller) -> None:
    """Calls in flight and waiting calls get the same error."""
    ids = [caller.call() for _ in range(6)]

    caller.calls.drop_all(lambda name, method: ServiceLost(name, method, "this program left"))

    for call_id in ids:
        caller.error(call_id, ServiceLost)
    assert len(caller.calls) == 0


# --- streams ------------------------------------------------------------------------------


def test_a_stream_s_items_come_before_its_end(caller: Caller) -> None:
    """Each is passed on; items of other incarnations, and of plain calls, are ignored."""
    taken: list[Value] = []
    call_id = caller.start(item=taken.append).id
    plain = caller.call()

    assert caller.calls.item(call_id, ONE, RESULT, caller.now)
    assert not caller.calls.item(call_id, TWO, RESULT, caller.now)
    assert not caller.calls.item(plain, ONE, RESULT, caller.now)
    assert caller.calls.answered(call_id, ONE, Raw(b""), caller.now)
    assert not caller.calls.item(call_id, ONE, RESULT, caller.now)
    assert taken == [RESULT]


def test_each_item_renews_a_stream_s_deadline(caller: Caller) -> None:
    """The time is for each next item, not for all of them."""
    call_id = caller.start(timeout=5.0, item=lambda value: None, wants_more=lambda: True).id
    for now in (104.0, 108.0, 112.0):
        caller.calls.due(now)
        assert caller.calls.item(call_id, ONE, RESULT, now)

    assert caller.calls.due(116.9) == 117.0
    assert caller.outcomes[call_id] == []
    caller.calls.due(117.0)
    caller.error(call_id, CallTimeout)


def test_a_stream_without_a_waiting_consumer_has_no_deadline(caller: Caller) -> None:
    """The deadline runs while a consumer waits for the next item, from when it began."""
    wants_more = False
    call_id = caller.start(timeout=5.0, item=lambda value: None, wants_more=lambda: wants_more).id
    for now in range(100, 200, 3):
        caller.calls.due(float(now))
    assert caller.outcomes[call_id] == []

    wants_more = True
    caller.calls.renew(call_id, 200.0)
    caller.calls.due(204.9)
    assert caller.outcomes[call_id] == []
    caller.calls.due(205.0)
    caller.error(call_id, CallTimeout)


def test_credit_goes_to_the_incarnation_that_streams(caller: Caller) -> None:
    """None is sent after the stream ended, or while the call waits."""
    call_id = caller.call()
    caller.calls.grant(call_id, 16)
    assert caller.sent[-1] == (ONE, messages.Credit(call_id, 16))
    count = len(caller.sent)

    caller.calls.returned_unsent(call_id, ONE, caller.now)
    caller.calls.grant(call_id, 16)
    caller.calls.grant(99, 16)

    assert len(caller.sent) == count


@pytest.mark.parametrize("frames", [True, False])
def test_a_callee_without_frame_support_gets_one_piece(frames: bool) -> None:
    """A worker of an older release gets large arguments as before."""
    sent: list[messages.Data] = []
    calls = Calls(lambda _, message: sent.append(message), window=1, window_bytes=100)
    manifest = Manifest("t", frames=frames)
    calls.changed("a", Entry("a", "p", 0, manifest, State.RUNNING, True, 1, ONE), 0.0)
    args = Framed([b"x" * 20])
    calls.start(OpenCall(1, "a", "m", args, EMPTY_MAP, 20, 1.0, 1.0, lambda _: None), 0.0)
    (call,) = sent
    assert isinstance(call, messages.Call)
    assert call.frames
    assert call.args == (args if frames else args.joined())


# --- what an ended incarnation, or a former router, cannot have run -------------------------------


@pytest.mark.parametrize("delivered", [0, 1, 2, 3, -1])
def test_what_an_incarnation_never_read_goes_to_the_next(caller: Caller, delivered: int) -> None:
    """Only what it may have run is lost; if that is unknown, all of it."""
    calls = [caller.call() for _ in range(3)]
    for number, call_id in enumerate(calls, 1):
        caller.calls.posted(call_id, number)
    read = calls if delivered < 0 else calls[:delivered]

    assert caller.calls.ended(ONE, "was killed", caller.now, delivered) == len(read)
    caller.runs(TWO)

    for call_id in read:
        caller.error(call_id, ServiceLost)
    assert caller.calls_sent(TWO) == [call_id for call_id in calls if call_id not in read]


def test_a_call_of_unknown_batch_is_lost(caller: Caller) -> None:
    """After a batch came back, counts say nothing about those that were sent by then."""
    first = caller.call()
    caller.calls.posted(first, 5)
    caller.calls.unnumber(ONE)

    assert caller.calls.ended(ONE, "was killed", caller.now, 0) == 1
    caller.error(first, ServiceLost)


def test_what_the_next_router_returned_is_sent_again(caller: Caller) -> None:
    """It was sent before the Welcome was read; what was sent after it stays in flight."""
    former, early = caller.call(), caller.call()
    caller.calls.router_left()
    caller.runs(ONE)
    late = caller.call()
    assert caller.calls.returned_unsent(early, ONE, caller.now, full=True)
    caller.calls.unblock(caller.now)

    caller.calls.end_former("the router restarted", caller.now)

    assert caller.calls_sent(ONE) == [former, early, late, early]
    assert caller.error(former, ServiceLost).detail == "the router restarted"
    for call_id in (early, late):
        assert caller.answer(call_id)


@pytest.mark.parametrize("full", [False, True])
def test_a_call_of_the_former_router_that_returns_closes_no_service(
    caller: Caller, full: bool
) -> None:
    """Its incarnation runs on, under the same token."""
    early = caller.call()
    caller.calls.router_left()
    caller.runs(ONE)
    caller.calls.returned_unsent(early, ONE, caller.now, full)
    caller.calls.unblock(caller.now)

    assert caller.answer(early)


def test_an_answer_ends_a_call_of_the_former_router(caller: Caller) -> None:
    """It arrived before the next router's first message, or through that router."""
    early = caller.call()
    caller.calls.router_left()

    assert caller.answer(early)
    caller.calls.end_former("the router restarted", caller.now)
    assert caller.outcome(early) is RESULT


def test_nothing_is_sent_about_a_call_of_the_former_router(caller: Caller) -> None:
    """The next router would return it, and its count of what it routed would not fit any more."""
    former = caller.call(timeout=1.0)
    stream = caller.start(item=lambda value: None)
    caller.calls.router_left()
    caller.runs(ONE)
    caller.sent.clear()

    caller.calls.grant(stream.id, 3)
    caller.calls.cancel(stream.id, caller.now)
    caller.calls.due(caller.now + 2.0)

    caller.error(former, CallTimeout)
    assert caller.sent == []
