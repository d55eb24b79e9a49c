"""The calls that a message becomes, and what an exception of the library means for it. Pure."""

from datetime import timedelta
from typing import Any, NamedTuple

from garrison.workers import NotSent, Outgoing, RetryLater

from .choices import buttons
from .files import File, sendable

CAPTION_MOST = 1024  # UTF-16 units of a text below a file
AGAIN_S = 5.0
ALBUM = frozenset({"photo", "video"})
TOO_MANY = "Too Many Requests"  # a 429 whose answer has no `retry_after`
TOO_LARGE = "Request Entity Too Large"
# Where Telegram cannot fetch an address: nothing was sent, and the text can have it instead
UNFETCHED = (
    "failed to get http url content",
    "wrong type of the web page",
    "wrong file identifier",
)
BAD_MARKUP = "can't parse entities"
# Of httpx, which the library raises from: the request was not sent
UNSENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError"})


class Target(NamedTuple):
    """Where a message goes."""

    chat: int | str  # an id, or the name of a public chat: "@name"
    topic: int | None


class Call(NamedTuple):
    """One call of Telegram's API: a text, a file, or an album."""

    text: str
    files: list[File]
    buttons: list[list[tuple[str, str]]]
    reply_to: int | None


def target_of(channel: str) -> Target:
    """Return the chat and the topic of a channel.

    Raises:
        NotSent: It is no channel of Telegram.
    """
    chat, _, topic = channel.partition("/")
    is_number = chat.removeprefix("-").isdecimal() and chat.isascii()
    is_name = chat.startswith("@") and len(chat) > 1
    if not (is_number or is_name) or (topic and not (topic.isdecimal() and topic.isascii())):
        raise NotSent(
            f"a channel of Telegram is CHAT or CHAT/TOPIC, where CHAT is a number or @name, not "
            f"{channel!r:.60}"
        )
    return Target(int(chat) if is_number else chat, int(topic) if topic else None)


def calls_of(m: Outgoing, most: int, as_links: bool = False) -> list[Call]:
    """Return the calls that a message becomes, in order.

    Args:
        m: The message.
        most: Largest file, in bytes.
        as_links: Write the addresses of images into the text instead of having Telegram fetch them.

    Raises:
        NotSent: An attachment or a choice cannot be sent.
    """
    files, links = sendable(m.attachments, most)
    if as_links:
        links += [str(one.source) for one in files if is_web(one)]
        files = [one for one in files if not is_web(one)]
    text = "\n".join([m.text, *links]) if links else m.text
    rows = buttons(m.choices)
    reply_to = int(m.reply_to) if m.reply_to and m.reply_to.isdecimal() else None
    groups = [files] if len(files) > 1 and {one.kind for one in files} <= ALBUM else []
    groups = groups or [[one] for one in files]
    caption = len(text) + sum(char > "\uffff" for char in text) <= CAPTION_MOST
    if len(groups) == 1 and caption and not (rows and len(groups[0]) > 1):
        return [Call(text, groups[0], rows, reply_to)]
    calls = [Call("", group, [], None) for group in groups]
    if text.strip():
        calls.insert(0, Call(text, [], rows, None))
    elif rows:
        raise NotSent("a message with choices needs a text, unless it has one file")
    if calls:
        calls[0] = calls[0]._replace(reply_to=reply_to)
    return calls


def is_web(file: File) -> bool:
    """Return whether Telegram is to fetch a file from the web."""
    return isinstance(file.source, str) and file.source.startswith(("http://", "https://"))


def is_unfetched(error: Exception) -> bool:
    """Return whether Telegram refused a message because it could not fetch an address."""
    return any(one in str(error).lower() for one in UNFETCHED)


def as_outcome(error: Exception, library: Any) -> Exception:
    """Return what `deliver` raises for an exception of the library.

    Args:
        error: What the library raised.
        library: The module `telegram.error`.
    """
    text = str(error)
    if isinstance(error, library.RetryAfter):
        return RetryLater(wait_of(error), "Telegram limits how often the bot may write")
    if isinstance(error, library.Forbidden | library.BadRequest):  # before NetworkError, its base
        return NotSent(f"Telegram refused it: {text}")
    if text.startswith(TOO_LARGE):
        return NotSent(f"Telegram refused it: {text}")
    if isinstance(error, library.InvalidToken) or text.startswith(TOO_MANY):
        return RetryLater(AGAIN_S, f"Telegram does not take it now: {text}")
    if type(error.__cause__).__name__ in UNSENT:
        return RetryLater(AGAIN_S, f"Telegram cannot be reached: {text}")
    return error  # it may have been sent


def wait_of(error: Any) -> float:
    """Return the seconds that a `RetryAfter` says."""
    wait = error.retry_after
    return wait.total_seconds() if isinstance(wait, timedelta) else float(wait)
