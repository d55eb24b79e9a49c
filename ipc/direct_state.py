"""The life of one direct route, seen from its caller: a table of stages and events. Pure.

The order of a pair's calls stays when they change their way: new calls are held while a barrier
goes the way that is left, and go the other way once its callee has read everything before it.
"""

from enum import Enum

import msgspec


class Stage(Enum):
    """How far a route is."""

    CONNECTING = "connecting"  # a first barrier was sent over the route itself
    ENTERING = "entering"  # calls are held; a barrier was sent through the router
    DIRECT = "direct"  # calls go directly
    LEAVING = "leaving"  # calls are held; a barrier was sent over the route
    STAYING = "staying"  # calls go directly although it is revoked: the callee did not answer
    EMPTYING = "emptying"  # calls go through the router; some that went directly are in flight
    ENDING = "ending"  # the callee has ended; what it had sent is read
    LOST = "lost"  # disconnected; the notice that says why has yet to come
    CLOSED = "closed"


class Happened(Enum):
    """What happens to a route."""

    PASSED = "the callee has answered the barrier"
    REVOKED = "the supervisor revokes the grant"
    ENDED = "the notice that the callee has ended"
    DISCONNECTED = "its connection ended, and all that came through it was read"
    EMPTY = "no call that went directly is in flight"
    LATE = "the time of this stage is over"


class Act(Enum):
    """What is to be done."""

    ENTER = "hold calls; send a barrier through the router"
    USE = "send what is held, and all later calls, directly"
    LEAVE = "hold calls; send a barrier over the route"
    STAY = "send what is held directly"
    EMPTY = "send what is held, and all later calls, through the router"
    HOLD = "hold calls"
    SETTLE = "end the calls in flight that went directly; send what is held; close"
    CLOSE = "send what is held through the router; close"


class Rule(msgspec.Struct, frozen=True):
    """The next stage, and what to do."""

    stage: Stage
    act: Act | None = None


S, H, A = Stage, Happened, Act
CLOSE = Rule(S.CLOSED, A.CLOSE)
SETTLE = Rule(S.CLOSED, A.SETTLE)
ENDING = Rule(S.ENDING, A.HOLD)
LOST = Rule(S.LOST, A.HOLD)
GONE = {H.ENDED: ENDING, H.DISCONNECTED: LOST}  # while calls may be in flight on the route
UNUSED = {H.REVOKED: CLOSE, H.ENDED: CLOSE, H.DISCONNECTED: CLOSE, H.LATE: CLOSE}

# An event that is not in a stage's row changes nothing there.
TRANSITIONS: dict[Stage, dict[Happened, Rule]] = {
    S.CONNECTING: {**UNUSED, H.PASSED: Rule(S.ENTERING, A.ENTER)},
    S.ENTERING: {**UNUSED, H.PASSED: Rule(S.DIRECT, A.USE)},
    S.DIRECT: {**GONE, H.REVOKED: Rule(S.LEAVING, A.LEAVE)},
    S.LEAVING: {
        **GONE,
        H.PASSED: Rule(S.EMPTYING, A.EMPTY),
        H.LATE: Rule(S.STAYING, A.STAY),
    },
    S.STAYING: {**GONE, H.LATE: Rule(S.LEAVING, A.LEAVE)},
    S.EMPTYING: {**GONE, H.EMPTY: CLOSE, H.LATE: Rule(S.EMPTYING)},
    S.ENDING: {H.DISCONNECTED: SETTLE, H.LATE: SETTLE},
    S.LOST: {H.ENDED: SETTLE, H.LATE: SETTLE},
    S.CLOSED: {},
}

# Seconds until LATE. A stage that is not here may last.
LONGEST_S = {
    S.CONNECTING: 5.0,
    S.ENTERING: 1.0,  # calls are held meanwhile: of a callee whose loop is blocked
    S.LEAVING: 1.0,
    S.STAYING: 5.0,
    S.EMPTYING: 0.25,  # then it is looked again
    S.ENDING: 0.25,  # a dead process's connection ends within 15 ms
    S.LOST: 1.0,  # a living supervisor announces an end within 50 ms
}


def step(stage: Stage, event: Happened) -> Rule | None:
    """Return what follows from an event; None: nothing."""
    return TRANSITIONS[stage].get(event)
