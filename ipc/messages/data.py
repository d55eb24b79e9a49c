"""Data messages: what services send each other over the bus.

A frame of the bus is `[peer][batch]`; a batch is a list of messages. Large values of a message may
follow it as frames of their own, see `ipc.frames`.
"""

from typing import TYPE_CHECKING, TypeAlias

import msgspec
from msgspec import Raw

from garrison.ipc.errors import Fault
from garrison.ipc.marks import Identifier, Text

from .types import CallId, Chain, Credits, Name, Timeout, Token, Trace

Frame: TypeAlias = bytes | Raw
_encode = msgspec.msgpack.Encoder().encode


class Framed:
    """A value of which parts travel as frames of their own.

    Args:
        value: `bytes` as they are; a Raw, the encoding of anything; or the arguments of a call as
            a list or a map of both.
    """

    __slots__ = ("size", "value")

    def __init__(self, value: "Frame | list[Frame] | dict[str, Frame]") -> None:
        self.value = value
        if isinstance(value, list):
            self.size = sum(map(len, value))
        elif isinstance(value, dict):
            self.size = sum(map(len, value.values()))
        else:
            self.size = len(value)

    def __len__(self) -> int:
        return self.size

    def joined(self) -> Raw:
        """Return the encoding, in one piece."""
        return self.value if isinstance(self.value, Raw) else Raw(_encode(self.value))


if TYPE_CHECKING:
    Value: TypeAlias = Raw | Framed  # a Framed exists only inside one process, before encoding
else:
    Value: TypeAlias = Raw


class Attribution(msgspec.Struct, array_like=True, frozen=True):
    """Which answer a call belongs to: its models' use is counted, and limited, by these."""

    agent: Identifier = ""  # NAME of the agent; empty in a host without agents
    keeper: Identifier = ""  # NAME of the service that keeps the budgets; empty: there are none
    source: Identifier = ""  # NAME of the service that received the message
    room: Identifier = ""
    person: Identifier = ""
    task: Identifier = ""


class Call(msgspec.Struct, tag=0, array_like=True, frozen=True):
    """Run a method. For a stream, `credit` items may be sent before the first `Credit`."""

    id: CallId
    method: Name
    args: Value  # a list
    kwargs: Value  # a map
    timeout: Timeout  # what is left of the caller's deadline
    credit: Credits = 0
    frames: bool = False  # the caller accepts frames; an older release leaves this out
    chain: Chain = ()  # the methods that led to it, outermost first: "service.method"
    attribution: Attribution | None = None  # the answer that it is a part of, if it is of one
    trace: Trace = ""  # the trace that it is a part of, if it is of one


class Reply(msgspec.Struct, tag=1, array_like=True, frozen=True):
    """The method returned."""

    id: CallId
    result: Value


class Failed(msgspec.Struct, tag=2, array_like=True, frozen=True):
    """The method raised, or the arguments did not fit it."""

    id: CallId
    fault: Fault


class Refused(msgspec.Struct, tag=3, array_like=True, frozen=True):
    """The call was not run: the callee is draining."""

    id: CallId


class Cancel(msgspec.Struct, tag=4, array_like=True, frozen=True):
    """The caller no longer waits."""

    id: CallId


class Item(msgspec.Struct, tag=5, array_like=True, frozen=True):
    """The next value of a stream."""

    id: CallId
    value: Value


class Done(msgspec.Struct, tag=6, array_like=True, frozen=True):
    """A stream came to its end."""

    id: CallId


class Credit(msgspec.Struct, tag=7, array_like=True, frozen=True):
    """The caller of a stream accepts this many more items."""

    id: CallId
    items: Credits


class Ended(msgspec.Struct, tag=8, array_like=True, frozen=True):
    """An incarnation has ended. The supervisor sends it after the incarnation's last message."""

    token: Token
    cause: Text
    delivered: int = -1  # of the receiver's batches to it: later ones were never run; -1: unknown
    direct: int = -1  # the same of the receiver's batches on its direct route


class Frames(msgspec.Struct, tag=9, array_like=True, frozen=True):
    """The last message of a batch: this many frames follow, for the message before this one.

    A release that does not know it rejects the whole batch, as it must.
    """

    count: int


class Sync(msgspec.Struct, tag=10, array_like=True, frozen=True):
    """To the router: this member has read the Welcome of `boot`, so what follows is for it.

    What came before was for a former router, and is returned.
    """

    boot: Identifier


class Synced(msgspec.Struct, tag=11, array_like=True, frozen=True):
    """The router's answer to a Sync: the first message that the member receives from it."""

    boot: Identifier


class Barrier(msgspec.Struct, tag=12, array_like=True, frozen=True):
    """To a callee: answer with `Passed` once all that was sent before this has been read.

    A caller that changes the way of its calls waits for that, so their order stays.
    """

    number: CallId


class Passed(msgspec.Struct, tag=13, array_like=True, frozen=True):
    """The answer to a `Barrier`."""

    number: CallId


Data: TypeAlias = (
    Call
    | Reply
    | Failed
    | Refused
    | Cancel
    | Item
    | Done
    | Credit
    | Ended
    | Frames
    | Sync
    | Synced
    | Barrier
    | Passed
)
