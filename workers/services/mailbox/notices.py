"""Notices of dead letters to the services that posted them. Pure.

A notice is a posted message. It names the dead letter and has no copy of its arguments, so that it
is small: these are read when it is delivered.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from garrison.ipc import DEAD_LETTER, EMPTY_MAP, EVENT

from .checksums import Message

LANE = f"{DEAD_LETTER}/"  # what the lane of a notice begins with
PENDING_MOST = 10_000  # notices that lanes wait for; for a further one, its lane does not wait

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[str, str]).decode


def is_notice(message: Message) -> bool:
    """Return True if a message is a notice."""
    return message.method == DEAD_LETTER


def is_announced(message: Message) -> bool:
    """Return True if the end of a message is announced: it is no event and no notice itself."""
    return message.method not in {DEAD_LETTER, EVENT}


def notice_of(dead: Message, poster: str, notice_id: str, now: float) -> Message:
    """Return the notice of a dead letter for its poster: one for each message, by its key."""
    return Message(
        id=notice_id,
        receiver=poster,
        method=DEAD_LETTER,
        args=_encode((dead.id, dead.reason)),
        kwargs=bytes(EMPTY_MAP),
        key=f"{DEAD_LETTER}/{dead.id}",
        posted_at=now,
        lane=f"{LANE}{dead.lane or ''}",  # it holds up no other messages for the poster
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


class HeldLane(NamedTuple):
    """A lane that goes on once the notice of its dead letter was handled."""

    receiver: str
    lane: str


class PendingNotices:
    """The notices to platforms that lanes wait for.

    A platform sends a text in place of the answer. The answers behind it are in the same room, so
    they follow it.
    """

    def __init__(self) -> None:
        self._lanes: dict[str, HeldLane] = {}  # by the notice's id

    def __len__(self) -> int:
        return len(self._lanes)

    @property
    def ids(self) -> list[str]:
        """Return the notices."""
        return list(self._lanes)

    def add(self, notice_id: str, held: HeldLane) -> bool:
        """Have a lane wait for a notice; False if too many do."""
        if len(self._lanes) >= PENDING_MOST:
            return False
        self._lanes[notice_id] = held
        return True

    def end(self, ids: Iterable[str]) -> list[HeldLane]:
        """Note that notices are handled or gone; return the lanes that go on."""
        ended = [held for one in ids if (held := self._lanes.pop(one, None)) is not None]
        waiting = set(self._lanes.values()) if ended else set()
        return [held for held in ended if held not in waiting]

    def lanes_of(self, receiver: str) -> Iterator[str]:
        """Yield the lanes of a receiver that wait."""
        for held in set(self._lanes.values()):
            if held.receiver == receiver:
                yield held.lane

    def by_lane(self) -> dict[HeldLane, str]:
        """Return the id of the notice that each lane waits for."""
        return {held: one for one, held in reversed(self._lanes.items())}  # of several the first

    def rename(self, old: Iterable[str], new: str) -> None:
        """Make the lanes of some receivers another's."""
        former = set(old)
        for one, held in self._lanes.items():
            if held.receiver in former:
                self._lanes[one] = held._replace(receiver=new)
