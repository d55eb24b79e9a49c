"""Notices of dead letters to the services that posted them. Pure.

A notice is a posted message. It names the dead letter and has no copy of its arguments, so that it
is small: these are read when it is delivered.
"""

from typing import Any

import msgspec
from msgspec import Raw

from garrison.ipc import DEAD_LETTER, EMPTY_MAP, EVENT

from .checksums import Message

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[str, str]).decode


def is_notice(message: Message) -> bool:
    """Return True if a message is a notice."""
    return message.method == DEAD_LETTER


def is_announced(message: Message) -> bool:
    """Return True if the end of a message is announced: it is no event and no notice itself."""
    return message.method not in {DEAD_LETTER, EVENT}


def notice_of(dead: Message, notice_id: str, now: float) -> Message:
    """Return the notice of a dead letter for its poster: one for each message, by its key."""
    return Message(
        id=notice_id,
        receiver=dead.sender,
        method=DEAD_LETTER,
        args=_encode((dead.id, dead.reason)),
        kwargs=bytes(EMPTY_MAP),
        key=f"{DEAD_LETTER}/{dead.id}",
        posted_at=now,
        lane=f"{DEAD_LETTER}/{dead.lane or ''}",  # it holds up no other messages for the poster
    )


def dead_letter_id(notice: Message) -> str:
    """Return the id of the message that a notice is about."""
    return _decode(notice.args)[0]


def arguments(notice: Message, dead: Message, posted_at: float) -> bytes:
    """Return the arguments of `dead_letter`.

    Args:
        notice: The notice.
        dead: The dead letter.
        posted_at: When it was posted, by the wall clock.
    """
    mail = described(dead) | {
        "args": Raw(dead.args),
        "kwargs": Raw(dead.kwargs),
        "posted_at": posted_at,
    }
    return _encode((mail, _decode(notice.args)[1]))


def described(dead: Message) -> dict[str, Any]:
    """Return what identifies a dead letter, without its arguments."""
    return {
        "id": dead.id,
        "service": dead.receiver,
        "method": dead.method,
        "key": dead.key,
        "lane": dead.lane,
    }
