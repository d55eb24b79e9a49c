"""Posting from any client: what is checked before, and what the mailbox's answers mean."""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw

from .caller import Caller
from .errors import InvalidCall, Overloaded, RemoteError, ServiceUnavailable
from .mail import EventPost, PostRequest
from .messages import LONGEST_TIMEOUT, Entry

MAILBOX = "mailbox"
AROUND = 66 * 1024  # bytes around a delivery's arguments; a little more than around a call's

_encode = msgspec.msgpack.Encoder().encode


async def post(
    client: Caller,
    service: str | Callable[..., object],
    method: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    key: str | None,
    expires: float | None,
) -> str:
    """Post one message; see `Client.post`."""
    entry = client.entry_of(service)
    if entry is None:
        raise ServiceUnavailable(str(service), method, "not configured")
    check_postable(entry, method)
    if expires is not None and not 0 < expires <= LONGEST_TIMEOUT:
        raise InvalidCall(entry.name, method, f"expires is seconds above 0, not {expires!r}")
    sent = encoded(entry.name, method, args), encoded(entry.name, method, kwargs)
    check_size(client, entry.name, method, len(sent[0]) + len(sent[1]) + 4 * len(key or ""))
    letter = PostRequest(entry.name, method, *sent, key, expires, client.name)
    posted: str = await ask_mailbox(client, "post", letter, str, once=key is not None)
    return posted


async def post_event(client: Caller, event: str, payload: Any) -> int:
    """Post an event to all who ever listened; return how many they are."""
    sent = encoded(MAILBOX, "post_event", payload)
    check_size(client, MAILBOX, "post_event", len(sent) + 4 * len(event))
    told = EventPost(event, sent, client.name, client.agent)
    count: int = await ask_mailbox(client, "post_event", told, int, once=False)
    return count


def check_postable(entry: Entry, method: str) -> None:
    """Raise InvalidCall where a message to that method could never be delivered."""
    known = {info.name: info for info in entry.manifest.methods}
    if method not in known:
        why = entry.manifest.left_out.get(method, "no such method")
        raise InvalidCall(entry.name, method, why)
    if known[method].stream:
        raise InvalidCall(entry.name, method, "a stream cannot be posted")


def check_size(client: Caller, service: str, method: str, size: int) -> None:
    """Raise InvalidCall where so many bytes could be posted, and not be delivered."""
    if size > client.max_message - AROUND:
        detail = f"its arguments have {size} bytes; max_message allows {client.max_message}"
        raise InvalidCall(service, method, detail)


def encoded(service: str, method: str, value: Any) -> Raw:
    """Return a value as it travels. Raises InvalidCall where it cannot."""
    try:
        return Raw(_encode(value))
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise InvalidCall(service, method, f"its arguments cannot travel: {error}") from error


async def ask_mailbox(client: Caller, method: str, said: Any, result: type, once: bool) -> Any:
    """Return what the mailbox answers.

    Args:
        client: Who asks.
        method: Of the mailbox's.
        said: Its argument.
        result: What it returns.
        once: Where it is lost it may be asked again: it counts once.

    Raises:
        ServiceUnavailable: There is no mailbox.
        Overloaded: It is full.
        CallError: It failed.
    """
    mailbox = client.entry_of(MAILBOX)
    if mailbox is None:
        detail = f"not configured: add [plugins.{MAILBOX}] to the config"
        raise ServiceUnavailable(MAILBOX, method, detail)
    decode: Any = msgspec.msgpack.Decoder(result).decode
    future = client.loop.create_future()
    client.call(mailbox.name, method, (said,), {}, None, decode, future, idempotent=once)
    try:
        return await future
    except RemoteError as error:
        if error.type_name != "MailboxFull":
            raise
        raise Overloaded(mailbox.name, method, error.detail.partition(": ")[2]) from error
