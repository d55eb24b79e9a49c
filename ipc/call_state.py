"""One call of this process, and one callee: what the table of calls keeps of them. Pure."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

from . import messages
from .errors import CallError
from .messages import State, Token, Value

Outcome: TypeAlias = Value | CallError  # the regular end of a stream is an empty Raw

# in place of a batch's number:
QUEUED = 0  # this process has not sent it yet
FORMER = -1  # it was sent through a former router
UNKNOWN = -2


class OpenCall(msgspec.Struct, eq=False):  # three times faster to create than a dataclass
    """One call on its way, or waiting to be sent."""

    id: int
    name: str  # the service's NAME
    method: str
    args: Value
    kwargs: Value
    size: int  # of both: what it counts for in the window
    timeout: float  # as its caller set it, for the text of its error
    deadline: float
    settle: Callable[[Outcome], None]
    item: Callable[[Value], None] | None = None  # receives the items of a stream
    wants_more: Callable[[], bool] | None = None  # for a stream: whether a consumer waits
    credit: int = 0
    to: Token = b""  # the incarnation that it was sent to; empty while it waits
    generation: int = 0  # of that incarnation
    idempotent: bool = False
    sent_again: int = 0
    lost: str = ""  # why it was lost before, if it waits to be sent again
    note: int = 0  # its number in the flight recorder; 0: none
    batch: int = 0  # its batch's number among those to `to`; or QUEUED, FORMER, UNKNOWN
    chain: tuple[str, ...] = ()  # the methods that led to it, outermost first
    attribution: messages.Attribution | None = None  # the answer that it is a part of
    trace: str = ""  # the trace that it is a part of, see `tracing`
    began: float = 0.0

    @property
    def is_reached(self) -> bool:
        """Return True if a message about it may be sent to the incarnation that has it."""
        return bool(self.to) and self.batch != FORMER


@dataclass(slots=True, eq=False)
class Peer:
    """One callee: whether it accepts calls, and how much of its window is used."""

    name: str
    state: State | None = None  # None: not configured
    reason: str = ""  # why it does not run
    paused: str = ""  # who paused it, in words
    takes: bool = False  # it accepts calls now, or will; otherwise they fail at once
    token: Token = b""
    generation: int = 0
    frames: bool = False  # it accepts large values as frames; an older release does not
    closed: Token = b""  # an incarnation that accepts no more: draining, or ended
    blocked: bool = False  # the router's queue to it was full; tried again a moment later
    held: bool = False  # calls to it are about to change their way, see `direct_state`
    calls: int = 0
    bytes: int = 0
    started: int = 0  # calls since `most` was begun, of those that had many beside them
    most: int = 0  # calls in flight together since
    usual: int = 0  # the same before: how many are in flight while its callers are busy
    waiting: OrderedDict[int, OpenCall] = field(
        default_factory=OrderedDict
    )  # in order of their ids
    waiting_bytes: int = 0
    disordered: bool = False  # a call was returned, so `waiting` is to be sorted

    @property
    def is_open(self) -> bool:
        """Return True if an incarnation accepts calls now."""
        usable = bool(self.token) and self.token != self.closed
        return usable and not (self.blocked or self.held)

    def accepts(self, size: int, window: int, window_bytes: int) -> bool:
        """Return True if an incarnation accepts calls now, and this one fits into its window.

        Args:
            size: Bytes of the call.
            window: Calls that may be in flight.
            window_bytes: Bytes of theirs; one larger call may be in flight alone.
        """
        return (  # each call passes here, so `is_open` is inlined
            self.calls < window
            and (self.bytes + size <= window_bytes or not self.calls)
            and self.token != self.closed
            and self.token != b""
            and not (self.blocked or self.held)
        )
