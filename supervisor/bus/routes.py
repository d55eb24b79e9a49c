"""Decides where a message goes, and counts what members have sent each other. Pure.

A message is `[source, destination, batch, *blobs]`; the source is set by the ROUTER. Of a message
that is delivered, the batch and the blobs are not read here.
"""

from collections import deque
from collections.abc import Container
from typing import Any, TypeAlias

from msgspec import Raw

from garrison.ipc.errors import WireError
from garrison.ipc.messages import EMPTY_MAP, FULL, GONE, Call, Token, decode_few, encode

Frames: TypeAlias = list[Any]  # bytes; after the batch also frames of libzmq

ROUTED_FRAMES = 64  # of one message: a batch and its large arguments
NEW_MOST = 1024  # pairs that have just met; the oldest are dropped
PLAIN = 3  # frames of a message without large arguments
NOTHING = Raw(b"\x90")  # no arguments
RETURNED_WHOLE = 4096  # bytes of a batch that returns as it is
READ_MOST = 2 << 20  # of a batch that is read; members split theirs, so more is one message
CALL_TAG, INTEGERS = 0, {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}  # of MessagePack: bytes that follow
UNREAD, TIMEOUT_S = "unread", 1.0  # of a call of which its id alone was read


def route(
    frames: Frames, live: Container[Token], connected: Container[Token], max_message: int
) -> Frames | None:
    """Return what to send for one message that arrived; None if the message is invalid.

    A message is returned as GONE, to be sent to the next incarnation, or as FULL, to be sent again
    a moment later. The latter holds for members on their way from a former router to this one.

    Args:
        frames: As they arrived.
        live: Members.
        connected: Those of them that may send and receive.
        max_message: Bytes of one message. The socket bounds each frame; this bounds their sum.
    """
    if not PLAIN <= len(frames) <= ROUTED_FRAMES:
        return None
    if len(frames) > PLAIN and sum(map(len, frames)) > max_message:
        return None
    source, destination = frames[0], frames[1]
    if destination in connected and source in connected:
        frames[0], frames[1] = destination, source
        return frames
    later = source not in connected or destination in live
    return [source, FULL if later else GONE, destination, frames[2]]


def calls_alone(batch: bytes) -> bytes:
    """Return what the sender of a batch that was not delivered needs of it: the ids of its calls.

    Else a member that does not read would be kept its answers for, and so would those who answer.
    Of a very large batch the head alone is read: the loop would stand still for the rest.
    """
    if len(batch) <= RETURNED_WHOLE:
        return batch
    if len(batch) > READ_MOST:
        return _call_at_head(batch)
    try:
        calls = [one for one in decode_few(batch) if isinstance(one, Call)]
    except WireError:  # its sender refuses it, or has a bound for it in the router
        return batch
    return encode([Call(one.id, one.method, NOTHING, EMPTY_MAP, one.timeout) for one in calls])


def _call_at_head(batch: bytes) -> bytes:
    """Return the one call that a batch has, by its id; nothing if it has another message; the batch
    if it has more than one."""
    if batch[0] != 0x91 or batch[1] & 0xF0 != 0x90:
        return batch
    if batch[2] != CALL_TAG:
        return encode([])
    first = batch[3]
    size = INTEGERS.get(first, 0)
    if not size and first > 0x7F:
        return batch
    number = int.from_bytes(batch[4 : 4 + size], "big") if size else first
    return encode([Call(number, UNREAD, NOTHING, EMPTY_MAP, TIMEOUT_S)])


class PeerTable:
    """Counts messages between members, so that an end is announced to those it concerns."""

    def __init__(self) -> None:
        self._sent: dict[Token, dict[Token, int]] = {}  # destination → source → messages
        self._new: deque[tuple[Token, Token]] = deque(maxlen=NEW_MOST)

    def count(self, source: Token, destination: Token) -> None:
        """Count one message."""
        sources = self._sent.get(destination)
        if sources is None:
            sources = self._sent[destination] = {}
        number = sources.get(source)
        if number is None:
            self._new.append((source, destination))
            number = 0
        sources[source] = number + 1

    def link(self, source: Token, destination: Token) -> None:
        """Note a pair whose messages do not come through here: a direct route."""
        self._sent.setdefault(destination, {}).setdefault(source, 0)

    @property
    def has_new(self) -> bool:
        """Return True if `take_new` has something to return."""
        return bool(self._new)

    def take_new(self) -> list[tuple[Token, Token]]:
        """Return each source and destination whose first message was counted since the last."""
        new = list(self._new)
        self._new.clear()
        return new

    def forget(self, token: Token) -> set[Token]:
        """Remove a member; return all that sent to it or received from it."""
        partners = set(self._sent.pop(token, ()))
        for destination, sources in self._sent.items():
            if sources.pop(token, None) is not None:
                partners.add(destination)
        return partners

    def to(self, token: Token) -> dict[Token, int]:
        """Return how many messages each source has sent to a member."""
        return dict(self._sent.get(token, {}))
