"""The errors of calls that their callee did not answer. Pure."""

from .call_state import OpenCall, Peer
from .errors import CallError, CallTimeout, Overloaded, ServiceLost, ServiceUnavailable
from .messages import State


def unavailable(peer: Peer, call: OpenCall) -> CallError:
    """Return the error of a call that need not wait for its callee."""
    if call.lost:  # it may have run
        return ServiceLost(call.name, call.method, call.lost)
    if peer.paused:
        return ServiceUnavailable(call.name, call.method, peer.paused)
    state = peer.state.value if peer.state else "not configured"
    detail = f"{state}: {peer.reason}" if peer.reason else state
    return ServiceUnavailable(call.name, call.method, detail)


def timeout_error(peer: Peer, call: OpenCall) -> CallError:
    """Return the error of a call at its deadline."""
    if call.to:
        return CallTimeout(call.name, call.method, f"{call.timeout:g}", call.chain)
    if peer.held and peer.token:  # it did not answer the barrier, as it would no call
        return CallTimeout(call.name, call.method, f"{call.timeout:g}", call.chain)
    if call.lost:
        return ServiceLost(call.name, call.method, call.lost)
    if peer.is_open or peer.blocked:
        detail = f"its window stayed full for {call.timeout:g} s ({peer.calls} calls in flight)"
        return Overloaded(call.name, call.method, detail)
    if peer.state is State.RUNNING and not peer.paused:  # but not open: its process has ended
        return ServiceUnavailable(call.name, call.method, "restarting")
    return unavailable(peer, call)
