"""Posted messages, which outlast their sender: what travels, and how a client posts."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from . import values
from .errors import InvalidCall, Overloaded, RemoteError, ServiceUnavailable
from .frames import joined
from .joined_posts import POST
from .messages import EMPTY_MAP, LONGEST_TIMEOUT, TRACE_MOST, Call, Entry
from .tracing import TRACE, Sending

if TYPE_CHECKING:
    from .caller import Caller

MAILBOX = "mailbox"  # the service_type that stores and delivers posted messages
DELIVER = "$mail"  # the method that the mailbox calls, with a `Delivery`
DEAD_LETTER = "$dead_letter"  # the method that the mailbox calls at the poster of a dead letter
EVENT = "$event"  # the method of an event's subscribers: called, or posted if it is durable
MAX_LANE = 512  # characters
AROUND = 66 * 1024  # bytes around a delivery's arguments; a little more than around a call's

_encode = values.encode


# --- what travels -------------------------------------------------------------------------


class PostedMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """The posted message that a method is being run for; `runtime.message` has it."""

    id: str
    attempt: int = 1  # 1 for the first delivery; more if an earlier one failed or may have begun
    posted_at: float = 0.0  # seconds since the epoch
    sender: str = ""  # NAME of the service that posted it
    key: str | None = None
    lane: str | None = None
    trace: str = ""  # that it was posted in, as W3C Trace Context has it


class DeadLetter(msgspec.Struct, frozen=True, omit_defaults=True):
    """A posted message that the mailbox gave up, as the `dead_letter` of its poster gets it."""

    id: str
    service: str  # NAME of its receiver
    method: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    key: str | None = None
    lane: str | None = None
    posted_at: float = 0.0  # seconds since the epoch


class PostRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message on its way to the mailbox."""

    service: str  # NAME
    method: str
    args: Raw  # a list
    kwargs: Raw = EMPTY_MAP  # a map
    key: str | None = None
    expires: float | None = None  # seconds from now
    sender: str = ""
    lane: str | None = None  # messages of one lane are delivered one after the other
    trace: str = ""  # that it is posted in, see `tracing`


class EventPost(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event on its way to the mailbox."""

    event: str
    payload: Raw
    sender: str = ""
    agent: str = ""  # delivered to this agent's services and to shared ones
    trace: str = ""  # that it is posted in


class Delivery(msgspec.Struct, frozen=True):
    """A message on its way to its receiver."""

    mail: PostedMessage
    method: str
    args: Raw
    kwargs: Raw


MESSAGE: ContextVar[PostedMessage | None] = ContextVar("garrison_message", default=None)

_delivery = msgspec.msgpack.Decoder(tuple[Delivery])


def unpack_delivery(call: Call) -> tuple[PostedMessage, Call]:
    """Return the posted message of a delivery, and the call that it stands for.

    Raises:
        msgspec.MsgspecError, UnicodeDecodeError, RecursionError: The call is no delivery.
    """
    (delivery,) = _delivery.decode(joined(call.args))
    args, kwargs = delivery.args, delivery.kwargs
    inner = Call(
        *(call.id, delivery.method, args, kwargs, call.timeout),
        frames=call.frames,
        trace=delivery.mail.trace[:TRACE_MOST],
    )
    return delivery.mail, inner


# --- posting ------------------------------------------------------------------------------


async def post(
    client: "Caller",
    service: str | Callable[..., object],
    method: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    key: str | None,
    expires: float | None,
    lane: str | None = None,
) -> str:
    """Post one message; see `Client.post`."""
    entry = client.entry_of(service)
    if entry is None:
        raise ServiceUnavailable(str(service), method, "not configured")
    check_postable(entry, method)
    if expires is not None and not 0 < expires <= LONGEST_TIMEOUT:
        raise InvalidCall(entry.name, method, f"expires is seconds above 0, not {expires!r}")
    if lane is not None and not (isinstance(lane, str) and 0 < len(lane) <= MAX_LANE):
        detail = f"lane is 1 to {MAX_LANE} characters, not {lane!r:.80}"
        raise InvalidCall(entry.name, method, detail)
    encoded = (
        encode_value(entry.name, method, args),
        encode_value(entry.name, method, kwargs, "kwargs"),
    )
    size = len(encoded[0]) + len(encoded[1]) + 4 * len(key or "") + 4 * len(lane or "")
    check_size(client, entry.name, method, size)
    with sending(client, entry.name, method) as sent:
        request = PostRequest(
            *(entry.name, method, *encoded, key, expires, client.name, lane), sent.trace
        )
        message_id = await _store(client, request, size, key is not None)
        sent.message_id = message_id
    return message_id


async def post_event(client: "Caller", event: str, payload: Any) -> int:
    """Post an event to all services that ever subscribed to it; return how many they are."""
    encoded = encode_value(MAILBOX, "post_event", payload, "payload")
    check_size(client, MAILBOX, "post_event", len(encoded) + 4 * len(event))
    with sending(client, event, EVENT) as sent:
        request = EventPost(event, encoded, client.name, client.agent, sent.trace)
        count: int = await ask_mailbox(client, "post_event", request, int, False)
    return count


def sending(client: "Caller", service: str, method: str) -> AbstractContextManager[Sending]:
    """Begin a message's span where traces are on; otherwise it is of the trace that work is in."""
    producer = client.calls.producer
    if producer is None:
        return nullcontext(Sending(TRACE.get()))
    return producer.sending(service, method)


def check_postable(entry: Entry, method: str) -> None:
    """Raise InvalidCall if a message to that method could never be delivered."""
    info = next((info for info in entry.manifest.methods if info.name == method), None)
    if info is None:
        raise InvalidCall(entry.name, method, entry.manifest.why_not(method))
    if info.stream:
        raise InvalidCall(entry.name, method, "a stream cannot be posted")


def check_size(client: "Caller", service: str, method: str, size: int) -> None:
    """Raise InvalidCall if a message of this size could be posted, but not delivered."""
    if size > client.max_message - AROUND:
        detail = f"its arguments have {size} bytes; max_message allows {client.max_message}"
        raise InvalidCall(service, method, detail)


def encode_value(service: str, method: str, value: Any, root: str = "args") -> Raw:
    """Return a value as it travels. Raises InvalidCall if it cannot be encoded."""
    try:
        return Raw(_encode(value))
    except values.BAD_VALUE as error:
        why = values.problem(value, error, root, "pass")
        raise InvalidCall(service, method, f"its arguments cannot travel: {why}") from error


async def ask_mailbox(
    client: "Caller", method: str, request: Any, result: type, idempotent: bool
) -> Any:
    """Call a method of the mailbox; return its result.

    Args:
        client: The caller.
        method: The mailbox's method.
        request: Its argument.
        result: The type of its result.
        idempotent: A lost call is sent again.

    Raises:
        ServiceUnavailable: No mailbox is configured.
        Overloaded: The mailbox is full.
        CallError: The call failed.
    """
    mailbox = _mailbox(client, method)
    decode: Any = msgspec.msgpack.Decoder(result).decode
    future = client.loop.create_future()
    client.call(mailbox.name, method, (request,), {}, None, decode, future, idempotent)
    try:
        return await future
    except RemoteError as error:
        if not _is_full(error):
            raise
        raise _overloaded(error, mailbox.name, method) from error


async def _store(client: "Caller", request: PostRequest, size: int, keyed: bool) -> str:
    """Have the mailbox store a message, with others of this turn; return its id."""
    mailbox = _mailbox(client, POST)
    post = client.new_post(request, size, keyed)
    if post is None:
        message_id: str = await ask_mailbox(client, POST, request, str, keyed)
        return message_id
    client.posts.add(mailbox, post)
    try:
        return await post.future
    except asyncio.CancelledError:
        client.posts.withdraw(post)
        raise
    except RemoteError as error:
        if not _is_full(error):
            raise
        raise _overloaded(error, mailbox.name, POST) from error


def _mailbox(client: "Caller", method: str) -> Entry:
    mailbox = client.entry_of(MAILBOX)
    if mailbox is None:
        detail = f"not configured: add [plugins.{MAILBOX}] to the config"
        raise ServiceUnavailable(MAILBOX, method, detail)
    return mailbox


def _is_full(error: RemoteError) -> bool:
    return error.type_name == "MailboxFull"


def _overloaded(error: RemoteError, mailbox: str, method: str) -> Overloaded:
    return Overloaded(mailbox, method, error.detail.partition(": ")[2])
