"""Messages that outlast their sender: what is posted, and what a receiver is told of it."""

from contextvars import ContextVar

import msgspec
from msgspec import Raw

from .frames import joined
from .messages import EMPTY_MAP, Call


class PostedMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """The posted message that a method is being run for; `runtime.message` has it."""

    id: str
    attempt: int = 1  # 1 for the first delivery; more, where an earlier one ended in vain
    posted_at: float = 0.0  # seconds since the epoch
    sender: str = ""  # NAME of who posted it
    key: str | None = None


class PostRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message on its way to the mailbox."""

    service: str  # NAME
    method: str
    args: Raw  # a list
    kwargs: Raw = EMPTY_MAP  # a map
    key: str | None = None
    expires: float | None = None  # seconds from now
    sender: str = ""


class EventPost(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event on its way to the mailbox."""

    event: str
    payload: Raw
    sender: str = ""
    agent: str = ""  # those of its agent hear it, and those who are everybody's


class Delivery(msgspec.Struct, frozen=True):
    """A message on its way to its receiver."""

    mail: PostedMessage
    method: str
    args: Raw
    kwargs: Raw


DELIVER = "$mail"  # the method that the mailbox calls, with a `Delivery`
MESSAGE: ContextVar[PostedMessage | None] = ContextVar("garrison_message", default=None)

EVENT = "$event"  # the method that subscribers of an event are called with, or are posted

_delivery = msgspec.msgpack.Decoder(tuple[Delivery])


def unpack_delivery(call: Call) -> tuple[PostedMessage, Call]:
    """Return what the mailbox hands over: of which message, and the call itself.

    Raises:
        msgspec.MsgspecError, UnicodeDecodeError, RecursionError: It is none.
    """
    (delivery,) = _delivery.decode(joined(call.args))
    args, kwargs = delivery.args, delivery.kwargs
    inner = Call(call.id, delivery.method, args, kwargs, call.timeout, frames=call.frames)
    return delivery.mail, inner
