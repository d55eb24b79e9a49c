"""What a message is at Discord, how it is found again, and what an exception means for it. Pure."""

from typing import TYPE_CHECKING, Any

from garrison.workers import NotSent, Outgoing, RetryLater

from .incoming import CHOICE, COMMAND

if TYPE_CHECKING:
    import discord

UNAUTHORIZED, TOO_MANY = 401, 429
REFUSED = frozenset({400, 403, 404, 405, 413})  # of statuses: the message can never be sent so
AGAIN_S = 5.0


def as_outcome(error: Exception, library: Any, http: Any) -> Exception:
    """Return what `deliver` raises for an exception of the library.

    Args:
        error: What the library raised.
        library: The module `discord`.
        http: The module `aiohttp`, which the library sends with.
    """
    raised: Any = error  # the library is not imported for its types
    if isinstance(error, library.RateLimited):
        return RetryLater(raised.retry_after, "Discord limits how often the bot may write")
    if isinstance(error, library.HTTPException):
        if raised.status in REFUSED:
            return NotSent(f"Discord refused it: {raised.text or error} ({raised.status})")
        if raised.status in {UNAUTHORIZED, TOO_MANY}:
            return RetryLater(AGAIN_S, f"Discord does not take it now: {error}")
    if isinstance(error, http.ClientConnectorError):
        return RetryLater(AGAIN_S, f"Discord cannot be reached: {error}")
    return error  # it may have been sent


def text_of(m: Outgoing) -> str:
    """Return the text of a message, with the addresses of what cannot be shown."""
    links = [one.url for one in m.attachments if one.url.startswith(("http://", "https://"))]
    shown = [one.url for one in m.attachments if one.content_type.startswith("image/")]
    return "\n".join([m.text.strip(), *(url for url in links if url not in shown)]).strip()


def reference_of(m: Outgoing) -> str | None:
    """Return the message that this one refers to; None: none, as with the answer to a command."""
    if not m.reply_to or m.reply_to.startswith(COMMAND):
        return None
    return m.reply_to.removeprefix(CHOICE)


def is_sent(sent: "discord.Message", m: Outgoing) -> bool:
    """Return whether a message of the bot, in its channel's history, is an outgoing one."""
    if sent.nonce is not None and str(sent.nonce) == m.nonce:
        return True
    command = sent.interaction_metadata
    if sent.flags.loading or (command and m.answers != f"{COMMAND}{command.id}"):
        return False
    refers_to = str(sent.reference.message_id) if sent.reference else None
    return sent.content == text_of(m) and refers_to == reference_of(m)
