"""Calls in flight, one rule each: what is sent when, and what a call ends with."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from msgspec import Raw

from garrison.ipc import messages
from garrison.ipc.calls import WAITING_CALLS, Call, Calls, Outcome
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
    """Calls with what was sent and what came of each."""

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
        """Start a call whose arguments have so many bytes; return its id."""
        return self.start(name, size, timeout).id

    def start(
        self,
        name: str = "a",
        size: int = 10,
        timeout: float = 30.0,
        item: Callable[[Value], None] | None = None,
        wants_more: Callable[[], bool] | None = None,
    ) -> Call:
        """Start a call, or a stream; return it."""
        self.made += 1
        outcomes = self.outcomes[self.made] = []
        args = Raw(bytes(size - len(EMPTY_MAP)))
        deadline = self.now + timeout
        settle = outcomes.append
        call = Call(
            self.made, name, "m", args, EMPTY_MAP, size, timeout, deadline, settle, item, wants_more
        )
        self.calls.start(call, self.now)
        return call

    def changed(
        self, state: State = State.RUNNING, token: Token = ONE, wanted: bool = True, name: str = "a"
    ) -> None:
        """Take the directory's word on a service."""
        entry = Entry(name, "p", 0, Manifest("t"), state, wanted, 1, token)
        self.calls.changed(name, entry, self.now)

    def runs(self, token: Token = ONE, name: str = "a") -> None:
        """Have a service run."""
        self.changed(State.RUNNING, token, name=name)

    def answer(self, call_id: int, source: Token = ONE) -> bool:
        """Have a call answered."""
        return self.calls.answered(call_id, source, RESULT, self.now)

    def calls_sent(self, to: Token = ONE) -> list[int]:
        """Return the ids of the calls that an incarnation was sent, in order."""
        return [m.id for token, m in self.sent if token == to and isinstance(m, messages.Call)]

    def outcome(self, call_id: int) -> Outcome:
        """Return the one outcome of a call."""
        (outcome,) = self.outcomes[call_id]
        return outcome

    def error(self, call_id: int, kind: type[CallError]) -> CallError:
        """Return the error that a call ended with, of that very class."""
        outcome = self.outcome(call_id)
        assert isinstance(outcome, CallError)
        assert type(outcome) is kind, outcome
        return outcome


@pytest.fixture
def caller() -> Caller:
    """Return a caller of a service that runs."""
    made = Caller()
    made.runs()
    return made


# --- sent, answered -----------------------------------------------------------------------


def test_a_call_to_what_runs_leaves_at_once(caller: Caller) -> None:
    """It carries what is left of its deadline, and its answer settles it."""
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
    """What the method raised is the call's outcome."""
    call_id = caller.call()
    error = RemoteError("a", "m", "ValueError: no")

    assert caller.calls.answered(call_id, ONE, error, 100.0)
    assert caller.outcome(call_id) is error


def test_only_the_incarnation_that_has_a_call_answers_it(caller: Caller) -> None:
    """Answers of others, second answers and answers to nothing are refused."""
    call_id = caller.call()

    assert not caller.answer(call_id, TWO)
    assert not caller.answer(99)
    assert caller.outcomes[call_id] == []
    assert caller.answer(call_id)
    assert not caller.answer(call_id)
    assert caller.outcome(call_id) is RESULT


def test_an_old_incarnation_still_answers_what_it_has(caller: Caller) -> None:
    """A new incarnation in the directory takes nothing away from a call that the old one has."""
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
    """Waiting is worth while where a service will run by itself; else it is unavailable at once."""
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


def test_a_service_that_nobody_knows_is_not_configured() -> None:
    """The call is not kept, and the error says so."""
    caller = Caller()
    call_id = caller.call("nobody")

    assert "not configured" in str(caller.error(call_id, ServiceUnavailable))
    assert len(caller.calls) == 0


@pytest.mark.parametrize(
    ("state", "wanted"), [(State.FAILED, True), (State.STOPPED, False), (State.STOPPING, False)]
)
def test_what_waits_ends_when_its_service_gives_up(state: State, wanted: bool) -> None:
    """Every call that waits is unavailable at once; one in flight may still be answered."""
    caller = Caller(window=1)
    caller.runs()
    flying, first, second = caller.call(), caller.call(), caller.call()

    caller.changed(state, b"", wanted)

    for call_id in (first, second):
        caller.error(call_id, ServiceUnavailable)
    assert caller.outcomes[flying] == []
    assert caller.answer(flying)


def test_what_waits_ends_when_its_service_is_taken_out(caller: Caller) -> None:
    """A service that is no longer configured answers nothing."""
    caller.changed(State.BACKOFF, b"")
    call_id = caller.call()

    caller.calls.changed("a", None, caller.now)

    assert "not configured" in str(caller.error(call_id, ServiceUnavailable))


# --- waiting ------------------------------------------------------------------------------


def test_calls_wait_for_a_service_that_starts_and_leave_in_order() -> None:
    """The next incarnation is sent what waited, oldest first, with the time that is left."""
    caller = Caller()
    caller.changed(State.STARTING, b"")
    ids = [caller.call(timeout=10.0) for _ in range(3)]
    assert caller.sent == []

    caller.now += 4
    caller.runs(TWO)

    assert caller.calls_sent(TWO) == ids
    assert [m.timeout for _, m in caller.sent if isinstance(m, messages.Call)] == [6.0] * 3


def test_the_window_bounds_calls_in_flight(caller: Caller) -> None:
    """Past it a call waits; each answer lets the next one go."""
    ids = [caller.call() for _ in range(6)]
    assert caller.calls_sent() == ids[:4]

    caller.answer(ids[2])
    assert caller.calls_sent() == ids[:5]

    caller.answer(ids[0])
    assert caller.calls_sent() == ids


def test_the_window_bounds_bytes_in_flight(caller: Caller) -> None:
    """A call whose arguments do not fit waits, and those behind it too."""
    first, second, third = caller.call(size=600), caller.call(size=401), caller.call(size=1)
    assert caller.calls_sent() == [first]

    caller.answer(first)

    assert caller.calls_sent() == [first, second, third]


def test_a_call_larger_than_the_window_goes_alone(caller: Caller) -> None:
    """It waits until nothing else is in flight, and then nothing else is."""
    small, large, after = caller.call(), caller.call(size=5000), caller.call()
    assert caller.calls_sent() == [small]

    caller.answer(small)
    assert caller.calls_sent() == [small, large]

    caller.answer(large)
    assert caller.calls_sent() == [small, large, after]


def test_each_service_has_its_own_window(caller: Caller) -> None:
    """A full one keeps nobody else waiting."""
    caller.runs(OTHER, "b")
    for _ in range(5):
        caller.call()

    call_id = caller.call("b")

    assert caller.calls_sent(OTHER) == [call_id]


def test_more_than_so_many_waiting_bytes_are_overloaded_at_once() -> None:
    """Sixteen windows' bytes may wait; the next call has its error without waiting."""
    caller = Caller()
    caller.changed(State.BACKOFF, b"")
    for _ in range(16):
        caller.call(size=1000)

    call_id = caller.call(size=1)

    caller.error(call_id, Overloaded)


def test_more_than_so_many_waiting_calls_are_overloaded_at_once() -> None:
    """The bound on their number is WAITING_CALLS."""
    caller = Caller(window_bytes=1 << 30)
    caller.changed(State.BACKOFF, b"")
    for _ in range(WAITING_CALLS):
        caller.call(size=1)

    call_id = caller.call(size=1)

    caller.error(call_id, Overloaded)
    assert len(caller.calls) == WAITING_CALLS


def test_a_call_larger_than_all_that_may_wait_waits_alone() -> None:
    """Where nothing waits, "too many calls wait" is no reason: it waits as any other."""
    caller = Caller()
    caller.changed(State.STARTING, b"")
    call_id = caller.call(size=17_000)
    assert caller.outcomes[call_id] == []

    caller.runs()

    assert caller.calls_sent() == [call_id]


def test_those_who_gave_up_do_not_count_as_waiting() -> None:
    """Cancelled and timed-out calls hold no bytes and no place."""
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
    """The receiver is told to cancel, and a late answer is refused."""
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
    """It was never sent, so its receiver hears nothing of it."""
    for _ in range(4):
        caller.call(timeout=60.0)
    call_id = caller.call(timeout=2.0)

    caller.calls.due(102.0)

    assert "window" in str(caller.error(call_id, Overloaded))
    assert caller.calls_sent() == [1, 2, 3, 4]
    assert not any(isinstance(message, messages.Cancel) for _, message in caller.sent)


def test_calls_due_at_the_same_time_as_the_window_s_are_not_sent(caller: Caller) -> None:
    """What time out frees its place for those who have time left, not for those who have none."""
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
    """The error names the state that it waited in."""
    caller = Caller()
    caller.changed(state, b"")
    call_id = caller.call(timeout=2.0)

    caller.calls.due(102.0)

    error = caller.error(call_id, ServiceUnavailable)
    assert isinstance(error, ServiceUnavailable)
    assert error.state == state.value


@pytest.mark.parametrize("informed", [False, True])
def test_between_two_incarnations_it_is_restarting(caller: Caller, informed: bool) -> None:
    """A service whose process is gone is not called running, with or without an address."""
    caller.calls.ended(ONE, "was killed", caller.now)
    if informed:
        caller.changed(State.RUNNING, b"")
    call_id = caller.call(timeout=2.0)

    caller.calls.due(102.0)

    error = caller.error(call_id, ServiceUnavailable)
    assert isinstance(error, ServiceUnavailable)
    assert error.state == "restarting"


def test_the_longest_deadline_is_a_message_that_can_be_read(caller: Caller) -> None:
    """A caller may wait for ages; what its call says is still within what the wire allows."""
    caller.call(size=2, timeout=1e9)

    (message,) = decode_data(encode([caller.sent[0][1]]))

    assert isinstance(message, messages.Call)
    assert message.timeout <= LONGEST_TIMEOUT


def test_many_deadlines_are_kept_in_bounds(caller: Caller) -> None:
    """A deadline that was met is not remembered for ever."""
    for _ in range(5000):
        caller.answer(caller.call())

    assert len(caller.calls._deadlines) <= 2 * len(caller.calls) + 65
    assert caller.calls.due(200.0) == float("inf")


# --- cancelling ---------------------------------------------------------------------------


def test_cancel_tells_the_receiver_and_settles_nothing(caller: Caller) -> None:
    """Nobody waits for it, so it has no outcome; its answer is refused."""
    call_id = caller.call()

    assert caller.calls.cancel(call_id, caller.now)

    assert caller.sent[-1] == (ONE, messages.Cancel(call_id))
    assert not caller.answer(call_id)
    assert caller.outcomes[call_id] == []
    assert not caller.calls.cancel(call_id, caller.now)


def test_cancel_of_a_waiting_call_tells_nobody() -> None:
    """It was never sent, and never is."""
    caller = Caller()
    caller.changed(State.STARTING, b"")
    call_id = caller.call()

    assert caller.calls.cancel(call_id, caller.now)
    caller.runs()

    assert caller.sent == []
    assert caller.outcomes[call_id] == []


def test_cancel_lets_the_next_one_go(caller: Caller) -> None:
    """A place in the window that is free is taken by whoever waits for it."""
    ids = [caller.call() for _ in range(5)]

    caller.calls.cancel(ids[0], caller.now)

    assert caller.calls_sent() == ids


# --- ends ---------------------------------------------------------------------------------


def test_an_end_loses_what_was_in_flight(caller: Caller) -> None:
    """Each is told how the process ended; those that waited go on waiting for the next one."""
    ids = [caller.call() for _ in range(6)]

    assert caller.calls.ended(ONE, "its process was killed by SIGKILL", caller.now) == 4

    for call_id in ids[:4]:
        error = caller.error(call_id, ServiceLost)
        assert isinstance(error, ServiceLost)
        assert error.cause == "its process was killed by SIGKILL"
    assert caller.calls_sent() == ids[:4]
    caller.runs(TWO)
    assert caller.calls_sent(TWO) == ids[4:]


def test_after_an_end_nothing_is_sent_there(caller: Caller) -> None:
    """The directory's word may come later; until then calls wait."""
    caller.calls.ended(ONE, "killed", caller.now)
    call_id = caller.call()
    caller.runs(ONE)  # an older word of the directory

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


def test_the_end_of_a_stranger_concerns_nobody(caller: Caller) -> None:
    """Calls of other incarnations stay as they are."""
    call_id = caller.call()

    assert caller.calls.ended(OTHER, "killed", caller.now) == 0
    assert caller.outcomes[call_id] == []


# --- never run ----------------------------------------------------------------------------


def test_what_was_never_run_goes_to_the_next_incarnation(caller: Caller) -> None:
    """Handed back, or refused by one that drains: it waits as if unsent, before younger ones."""
    first, second = caller.call(), caller.call()
    assert caller.calls.returned_unsent(second, ONE, caller.now)
    assert caller.calls.returned_unsent(first, ONE, caller.now)
    third = caller.call()
    assert caller.calls_sent() == [first, second]

    caller.runs(TWO)

    assert caller.calls_sent(TWO) == [first, second, third]


def test_what_was_never_run_is_not_lost(caller: Caller) -> None:
    """The end of an incarnation that had handed a call back does not concern the call."""
    call_id = caller.call()
    caller.calls.returned_unsent(call_id, ONE, caller.now)

    assert caller.calls.ended(ONE, "killed", caller.now) == 0
    assert caller.outcomes[call_id] == []


def test_only_the_incarnation_that_has_a_call_hands_it_back(caller: Caller) -> None:
    """A second notice, one for another incarnation and one for nothing are refused."""
    call_id = caller.call()

    assert not caller.calls.returned_unsent(call_id, TWO, caller.now)
    assert not caller.calls.returned_unsent(99, ONE, caller.now)
    assert caller.calls.returned_unsent(call_id, ONE, caller.now)
    assert not caller.calls.returned_unsent(call_id, ONE, caller.now)


def test_no_room_at_the_router_is_tried_again(caller: Caller) -> None:
    """FULL closes nothing: the same incarnation is sent it again once `unblock` says so."""
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


def test_a_late_notice_of_the_old_incarnation_closes_the_new_one_not(caller: Caller) -> None:
    """What the old one never ran goes to the new one, which takes the next call too."""
    first = caller.call()
    caller.runs(TWO)

    caller.calls.returned_unsent(first, ONE, caller.now)
    second = caller.call()

    assert caller.calls_sent(TWO) == [first, second]


def test_a_late_notice_of_the_old_incarnation_opens_the_new_one_not(caller: Caller) -> None:
    """A new one that drains already is not tried again because of the old one."""
    first = caller.call()
    caller.runs(TWO)
    second = caller.call()
    caller.calls.returned_unsent(second, TWO, caller.now)

    caller.calls.returned_unsent(first, ONE, caller.now)

    assert caller.calls_sent(TWO) == [second]


def test_a_service_that_stops_makes_what_it_never_ran_unavailable(caller: Caller) -> None:
    """Where no next incarnation comes, waiting is no use."""
    call_id = caller.call()
    caller.changed(State.STOPPING, b"", wanted=False)

    caller.calls.returned_unsent(call_id, ONE, caller.now)

    caller.error(call_id, ServiceUnavailable)


# --- another router, the end --------------------------------------------------------------


def test_another_router_loses_what_was_in_flight(caller: Caller) -> None:
    """The calls through the old one are lost; those that wait are sent through the new one."""
    ids = [caller.call() for _ in range(5)]

    caller.calls.router_changed("the router restarted", caller.now)
    caller.runs()

    for call_id in ids[:4]:
        assert "the router restarted" in str(caller.error(call_id, ServiceLost))
    assert caller.calls_sent() == ids


def test_leaving_settles_everything(caller: Caller) -> None:
    """Calls in flight and calls that wait get the same last word."""
    ids = [caller.call() for _ in range(6)]

    caller.calls.drop_all(lambda name, method: ServiceLost(name, method, "this program left"))

    for call_id in ids:
        caller.error(call_id, ServiceLost)
    assert len(caller.calls) == 0


# --- streams ------------------------------------------------------------------------------


def test_a_stream_s_items_come_before_its_end(caller: Caller) -> None:
    """Each is handed on; those of others and those of calls that are no streams are refused."""
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
    """The time is for each next value, not for all of them."""
    call_id = caller.start(timeout=5.0, item=lambda value: None, wants_more=lambda: True).id
    for now in (104.0, 108.0, 112.0):
        caller.calls.due(now)
        assert caller.calls.item(call_id, ONE, RESULT, now)

    assert caller.calls.due(116.9) == 117.0
    assert caller.outcomes[call_id] == []
    caller.calls.due(117.0)
    caller.error(call_id, CallTimeout)


def test_a_stream_that_nobody_reads_has_time(caller: Caller) -> None:
    """The deadline runs while somebody waits for the next value, from when they began."""
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
    """And nowhere once the stream has ended or while it waits."""
    call_id = caller.call()
    caller.calls.grant(call_id, 16)
    assert caller.sent[-1] == (ONE, messages.Credit(call_id, 16))
    count = len(caller.sent)

    caller.calls.returned_unsent(call_id, ONE, caller.now)
    caller.calls.grant(call_id, 16)
    caller.calls.grant(99, 16)

    assert len(caller.sent) == count


@pytest.mark.parametrize("frames", [True, False])
def test_who_knows_no_frames_is_sent_the_whole(frames: bool) -> None:
    """A worker of an older release takes large arguments as it ever did."""
    sent: list[messages.Data] = []
    calls = Calls(lambda _, message: sent.append(message), window=1, window_bytes=100)
    manifest = Manifest("t", frames=frames)
    calls.changed("a", Entry("a", "p", 0, manifest, State.RUNNING, True, 1, ONE), 0.0)
    args = Framed([b"x" * 20])
    calls.start(Call(1, "a", "m", args, EMPTY_MAP, 20, 1.0, 1.0, lambda _: None), 0.0)
    (call,) = sent
    assert isinstance(call, messages.Call)
    assert call.frames
    assert call.args == (args if frames else args.joined())
