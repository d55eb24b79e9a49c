"""How far each stream was handed over: a position counts when all before it are done. Pure."""

from collections import deque
from collections.abc import Iterator

import msgspec

REFUSED_MOST = 256  # positions of a stream to wait for; of more, it reaches none until a restart


class Stream(msgspec.Struct):
    """The messages of one stream that are not handed over, and those behind one of them."""

    first: int = 1  # place of the first of them
    open: deque[tuple[str, bool]] = msgspec.field(
        default_factory=deque
    )  # position, whether it is done
    reached: str = ""
    refused: set[str] = msgspec.field(
        default_factory=set
    )  # positions of messages that were not taken
    is_stuck: bool = False  # one of them has no position, or there are too many

    @property
    def blocked(self) -> bool:
        """Return whether a message was not taken: no later position counts until it is."""
        return self.is_stuck or bool(self.refused)


class Streams:
    """All streams of a platform. A stream without a name, and an empty position, do not count."""

    def __init__(self) -> None:
        self._streams: dict[str, Stream] = {}
        self._keeps_reached = True

    def add(self, stream: str, position: str) -> int:
        """Note the next message of a stream; return its place there."""
        if not stream:
            return 0
        known = self._streams.setdefault(stream, Stream())
        known.open.append((position, False))
        return known.first + len(known.open) - 1

    def done(self, stream: str, place: int) -> str | None:
        """Note that a message is handed over; return the position that is now reached, if any."""
        known = self._streams.get(stream)
        if known is None or not place:
            return None
        index = place - known.first
        known.open[index] = (known.open[index][0], True)
        moved = None
        while known.open and known.open[0][1]:
            position, _ = known.open.popleft()
            known.first += 1
            known.refused.discard(position)
            moved = position or moved
        if moved is None or known.blocked:
            return None
        known.reached = moved
        if not (known.open or self._keeps_reached):
            del self._streams[stream]
        return moved

    def pass_over(self, stream: str, position: str) -> str | None:
        """Note a message that need not be handed over; return what `done` does."""
        return self.done(stream, self.add(stream, position))

    def block(self, stream: str, position: str) -> None:
        """Note that a message of a stream was not taken: it is to be received again."""
        if not stream:
            return
        known = self._streams.setdefault(stream, Stream())
        if position and len(known.refused) < REFUSED_MOST:
            known.refused.add(position)
        else:
            known.is_stuck = True

    def reached(self) -> Iterator[tuple[str, str]]:
        """Yield each stream and its position, where it has one."""
        for name, stream in list(self._streams.items()):
            if stream.reached:
                yield name, stream.reached

    def forget_reached(self) -> None:
        """Keep no stream from now on of which every message is handed over."""
        self._keeps_reached = False
        for name, stream in list(self._streams.items()):
            if not (stream.open or stream.blocked):
                del self._streams[name]
