"""The table of calls in flight: what an end, a return or another router makes of them."""

import pytest
from msgspec import Raw
from tests.support.calls import ONE, OTHER, RESULT, TWO, Caller

from garrison.ipc import messages
from garrison.ipc.call_state import OpenCall
from garrison.ipc.calls import Calls
from garrison.ipc.errors import (
    CallTimeout,
    Overloaded,
    ServiceLost,
    ServiceUnavailable,
)
from garrison.ipc.messages import (
    EMPTY_MAP,
    Entry,
    Framed,
    Manifest,
    State,
    Value,
)


@pytest.fixture
def caller() -> Caller:
    """Return a caller of a running service."""
    made = Caller()
    made.runs()
    return made


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
        caller.calls.posted([call_id], number)
    read = calls if delivered < 0 else calls[:delivered]

    assert caller.calls.ended(ONE, "was killed", caller.now, delivered) == len(read)
    caller.runs(TWO)

    for call_id in read:
        caller.error(call_id, ServiceLost)
    assert caller.calls_sent(TWO) == [call_id for call_id in calls if call_id not in read]


def test_a_call_of_unknown_batch_is_lost(caller: Caller) -> None:
    """After a batch came back, counts say nothing about those that were sent by then."""
    first = caller.call()
    caller.calls.posted([first], 5)
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
