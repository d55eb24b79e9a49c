"""One receiver's messages in memory: which come next, how many are on their way. Pure.

A lane holds a beginning of what waits on disk, in order, bounded in number and bytes; the rest is
read when that runs low. A message leaves it when its acknowledgement is on disk.
"""

from collections import deque
from collections.abc import Iterable

from .schema import Message

MOST, MOST_BYTES = 256, 4 * 1024 * 1024  # of one lane


class ReceiverQueue:
    """The messages of one receiver.

    Args:
        receiver: Its NAME.
    """

    def __init__(self, receiver: str) -> None:
        self.receiver = receiver
        self.window = 1  # deliveries on their way at the same time
        self.flying: dict[int, Message] = {}  # by seq
        self.reading = False  # more is being read from disk
        self.whole = False  # nothing waits on disk that is not here
        self._ready: deque[Message] = deque()
        self._bytes = 0
        self._after = 0  # the last seq that was taken into memory

    @property
    def after(self) -> int:
        """Return where to go on reading."""
        return self._after

    @property
    def room(self) -> int:
        """Return how many bytes may be read from disk."""
        return max(MOST_BYTES - self._bytes, 0)

    @property
    def idle(self) -> bool:
        """Tell whether it can be forgotten."""
        return self.whole and not (self._ready or self.flying or self.reading)

    @property
    def wants_more(self) -> bool:
        """Tell whether it is time to read on."""
        few = len(self._ready) <= MOST // 4 and self._bytes <= MOST_BYTES // 4
        return few and not (self.whole or self.reading)

    def posted(self, letter: Message) -> None:
        """Take a message that is on disk by now; one that finds no room here stays there alone."""
        if not self.whole:
            return
        if len(self._ready) >= MOST or self._bytes + letter.size > MOST_BYTES:
            self.whole = False
            return
        self._take(letter)

    def read(self, letters: Iterable[Message], whole: bool) -> None:
        """Take what was read from disk, in order.

        Args:
            letters: Those after `after`, no more than `room` bytes.
            whole: There were no more.
        """
        self.reading = False
        for letter in letters:
            self._take(letter)
        self.whole = whole

    def _take(self, letter: Message) -> None:
        if letter.seq <= self._after:
            return  # it was posted while what is on disk was read
        self._after = letter.seq
        self._ready.append(letter)
        self._bytes += letter.size

    def next(self) -> Message | None:
        """Return the next message to deliver, which is on its way then."""
        if len(self.flying) >= self.window or not self._ready:
            return None
        letter = self._ready.popleft()
        self._bytes -= letter.size
        self.flying[letter.seq] = letter
        return letter

    def landed(self, letter: Message) -> None:
        """Take a message off: it was acknowledged, or is a dead letter, on disk as well."""
        self.flying.pop(letter.seq, None)

    def back(self, letter: Message) -> None:
        """Put a message back in its place: it is to be delivered again, before those after it."""
        self.flying.pop(letter.seq, None)
        self._bytes += letter.size
        behind = [one for one in self._ready if one.seq < letter.seq]
        if not behind:
            self._ready.appendleft(letter)
            return
        ordered = sorted([*self._ready, letter], key=lambda one: one.seq)
        self._ready = deque(ordered)

    def forget(self, ids: Iterable[str]) -> None:
        """Drop messages that wait, as they were dropped on disk."""
        gone = set(ids)
        kept = [letter for letter in self._ready if letter.id not in gone]
        self._ready = deque(kept)
        self._bytes = sum(letter.size for letter in kept)
