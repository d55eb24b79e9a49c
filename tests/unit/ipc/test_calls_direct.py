"""Calls over a direct route: which way each goes, and what a supervisor's end means for them."""

from tests.support.calls import ONE, RESULT, TWO, Caller

from garrison.ipc import messages
from garrison.ipc.errors import CallTimeout, ServiceLost

ADDRESS = b"d" + bytes(15)


def ways(caller: Caller) -> list[bytes]:
    """Return where the calls were sent."""
    return [to for to, message in caller.sent if isinstance(message, messages.Call)]


def direct() -> Caller:
    """Return a caller with a route to the one service."""
    caller = Caller()
    caller.runs()
    caller.calls.release(ONE, ADDRESS, caller.now)
    return caller


def test_held_calls_go_the_way_that_is_released() -> None:
    """In order, those that were made meanwhile first."""
    caller = Caller()
    caller.runs()
    caller.call()
    caller.calls.hold(ONE)
    held = [caller.call(), caller.call()]
    assert ways(caller) == [ONE]
    caller.calls.release(ONE, ADDRESS, caller.now)
    assert ways(caller) == [ONE, ADDRESS, ADDRESS]
    assert caller.answer(held[0], ADDRESS)
    assert not caller.answer(held[1], ONE)  # the callee answers the way that a call came


def test_a_call_that_is_held_until_its_deadline_times_out() -> None:
    """The callee did not answer the barrier, as it would have answered no call."""
    caller = Caller()
    caller.runs()
    caller.calls.hold(ONE)
    call = caller.call(timeout=1.0)
    caller.calls.due(caller.now + 2.0)
    assert isinstance(caller.outcomes[call][0], CallTimeout)


def test_another_incarnation_is_neither_held_nor_direct() -> None:
    """A route is to one alone."""
    caller = direct()
    caller.calls.hold(ONE)
    caller.runs(TWO)
    caller.call()
    assert ways(caller) == [TWO]


def test_what_concerns_a_direct_call_goes_its_way() -> None:
    """Its cancellation, also after later calls go another way."""
    caller = direct()
    call = caller.call()
    caller.calls.release(ONE, b"", caller.now)
    assert caller.calls.has_sent(ADDRESS)
    caller.calls.cancel(call, caller.now)
    assert caller.sent[-1] == (ADDRESS, messages.Cancel(call))
    assert not caller.calls.has_sent(ADDRESS)


def test_a_supervisor_s_end_concerns_no_direct_call() -> None:
    """Those in flight go on, and so do new ones; calls through it are lost."""
    caller = Caller()
    caller.runs()
    routed = caller.call()
    caller.calls.release(ONE, ADDRESS, caller.now)
    first = caller.call()
    caller.calls.router_left()
    second = caller.call()
    caller.calls.end_former("the router restarted", caller.now)
    assert isinstance(caller.outcomes[routed][0], ServiceLost)
    assert ways(caller) == [ONE, ADDRESS, ADDRESS]
    assert caller.answer(first, ADDRESS)
    assert caller.answer(second, ADDRESS)
    assert caller.outcomes[first] == caller.outcomes[second] == [RESULT]


def test_without_a_router_calls_wait_once_their_route_is_closed() -> None:
    """What would be sent to no router could be reported as lost, although it was never run."""
    caller = direct()
    caller.calls.router_left()
    caller.calls.release(ONE, b"", caller.now)
    caller.call()
    assert ways(caller) == []
    caller.runs()
    assert ways(caller) == [ONE]


def test_a_refused_call_waits_for_the_next_incarnation() -> None:
    """Also one that was sent directly: its callee drains."""
    caller = direct()
    call = caller.call()
    caller.calls.returned_unsent(call, ADDRESS, caller.now)
    caller.call()
    assert ways(caller) == [ADDRESS]
    caller.runs(TWO)
    assert ways(caller) == [ADDRESS, TWO, TWO]


def test_what_a_callee_never_read_is_sent_again() -> None:
    """Batches are counted by route."""
    caller = direct()
    first, second = caller.call(), caller.call()
    caller.calls.posted([first], 1)
    caller.calls.posted([second], 2)
    caller.calls.hold(ONE)
    caller.calls.ended(ONE, "it was killed", caller.now, 0)
    assert caller.outcomes[first] == []
    caller.calls.ended(ADDRESS, "it was killed", caller.now, 1)
    assert isinstance(caller.outcomes[first][0], ServiceLost)
    caller.runs(TWO)
    assert ways(caller) == [ADDRESS, ADDRESS, TWO]
    assert caller.answer(second, TWO)
