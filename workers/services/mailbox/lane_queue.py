"""One receiver's lanes in memory: which of them is delivered next, which wait, which to read. Pure.

Of a lane, at most its first message is in memory; the others are on disk. Lanes that are in memory
are bounded in number and bytes; the others are found again by a pass over the lanes on disk, in the
order of their names. Times are the mailbox's own, in seconds.
"""

import heapq
import math
from collections import deque
from collections.abc import Container
from enum import Enum

import msgspec

from .checksums import Message

MAX_READY, MAX_BYTES = 1_000, 4 * 1024 * 1024  # lanes that can be delivered, and their messages
MAX_WAITING = 10_000  # lanes whose retry is not due; further ones are only on disk
MAX_READ = 100  # lanes read by name at a time
PASS_PAUSE_S = 1.0  # between passes that look for retries which are due


class Stage(Enum):
    """Where a lane is."""

    READY = "ready"  # its first message is in memory and can be delivered
    BUSY = "busy"  # in delivery, or the outcome is being written
    WAITING = "waiting"  # its first message is retried later
    UNREAD = "unread"  # its first message must be read from disk
    NOTIFYING = "notifying"  # it goes on once the notice of its dead letter was handled


class Lane(msgspec.Struct):
    """One lane."""

    stage: Stage
    head: Message | None = None  # its first message; while it waits without the arguments
    due: float = 0.0  # when a lane that waits is read again


class LaneRead(msgspec.Struct, frozen=True):
    """What to read from disk: lanes by name, or a part of the pass over all of them."""

    lanes: tuple[str, ...]
    after: str  # of a pass: the lane that was reached
    known: frozenset[str]  # of a pass: lanes to leave out
    most: int  # messages
    max_bytes: int
    now: float  # a message that is retried later is read without its arguments


class LanesFound(msgspec.Struct, frozen=True):
    """What was read."""

    heads: list[Message]  # the first message of each lane that has one
    last: str  # the lane that was reached; by name: the last one that was looked up
    is_end: bool  # nothing is left of what was requested


class LaneQueue:
    """The lanes of one receiver."""

    def __init__(self) -> None:
        self.is_reading = False
        self._lanes: dict[str, Lane] = {}
        self._ready: deque[str] = deque()
        self._unread: deque[str] = deque()
        self._retries: list[tuple[float, str]] = []  # a heap; entries may be out of date
        self._waiting = self._bytes = 0
        self._busy = 0
        # The pass over the lanes on disk.
        self._reached: str | None = None  # None: no pass is under way
        self._is_missed = True  # lanes that could be delivered may be only on disk
        self._missed_due = math.inf  # the earliest retry that is only on disk
        self._next_pass = 0.0

    # --- state --------------------------------------------------------------------------------

    @property
    def is_complete(self) -> bool:
        """Return True if every lane that has messages on disk is in memory."""
        return self._reached is None and not self._is_missed and self._missed_due == math.inf

    @property
    def is_busy(self) -> bool:
        """Return True if a message is in delivery."""
        return self._busy > 0

    @property
    def is_idle(self) -> bool:
        """Return True if there is nothing to do now or later."""
        return not (self._lanes or self.is_reading) and self.is_complete

    @property
    def has_ready(self) -> bool:
        """Return True if a message can be delivered."""
        return bool(self._ready)

    @property
    def size(self) -> int:
        """Return how many lanes are in memory."""
        return len(self._lanes)

    def next_due(self) -> float:
        """Return when there is something to read; infinite if that needs something to end first."""
        while self._retries and not self._is_current(*self._retries[0]):
            heapq.heappop(self._retries)
        due = math.inf
        if self._retries and not self.is_reading and self._has_room():
            due = self._retries[0][0]
        if self._missed_due < math.inf and not self.is_reading and self._is_low:
            due = min(due, max(self._missed_due, self._next_pass))
        return due

    def _is_current(self, due: float, name: str) -> bool:
        lane = self._lanes.get(name)
        return lane is not None and lane.stage is Stage.WAITING and lane.due == due

    @property
    def _is_low(self) -> bool:
        return len(self._ready) <= MAX_READY // 4 and self._bytes <= MAX_BYTES // 4

    def _has_room(self, size: int = 0) -> bool:
        is_small = not self._bytes or self._bytes + size <= MAX_BYTES
        return len(self._ready) + len(self._unread) < MAX_READY and is_small

    # --- messages that come -------------------------------------------------------------------

    def add_posted(self, message: Message) -> None:
        """Add a message that was just written to disk; it stays there if its lane is known."""
        assert message.lane is not None
        if message.lane in self._lanes:
            return
        if not self._has_room(message.size):
            self._is_missed = True
        elif self.is_complete:
            self._set_ready(message.lane, message)
        else:  # others of its lane may be on disk
            self._set_unread(message.lane)

    def begin_read(self, now: float) -> LaneRead | None:
        """Return what to read from disk now; None if there is nothing."""
        if self.is_reading:
            return None
        self._wake(now)
        room = MAX_READY - len(self._ready), MAX_BYTES - self._bytes
        if self._unread and min(room) > 0:
            count = min(len(self._unread), MAX_READ, room[0])
            names = tuple(self._unread.popleft() for _ in range(count))
            self.is_reading = True
            return LaneRead(names, "", frozenset(), count, room[1], now)
        if self._needs_pass(now):
            if self._reached is None:
                self._reached, self._is_missed, self._missed_due = "", False, math.inf
            self.is_reading = True
            return LaneRead((), self._reached, frozenset(self._lanes), *room, now)
        return None

    def _needs_pass(self, now: float) -> bool:
        is_due = max(self._missed_due, self._next_pass) <= now
        return self._is_low and (self._reached is not None or self._is_missed or is_due)

    def _wake(self, now: float) -> None:
        """Have the lanes read whose retry is due."""
        while self._retries and self._retries[0][0] <= now and self._has_room():
            due, name = heapq.heappop(self._retries)
            if self._is_current(due, name):
                self._waiting -= 1
                self._set_unread(name)

    def add_read(self, read: LaneRead, found: LanesFound) -> None:
        """Add what was read, in the order of the commits.

        Args:
            read: From `begin_read`.
            found: What is on disk.
        """
        self.is_reading = False
        if read.lanes:
            self._add_named(read, found)
            return
        for message in found.heads:
            assert message.lane is not None
            if message.lane not in self._lanes:
                self._add_head(message.lane, message, read.now)
        self._reached = None if found.is_end else found.last
        if found.is_end:
            self._next_pass = read.now + PASS_PAUSE_S

    def _add_named(self, read: LaneRead, found: LanesFound) -> None:
        heads = {message.lane: message for message in found.heads}
        end = len(read.lanes) if found.is_end else read.lanes.index(found.last) + 1
        for name in read.lanes[:end]:
            if (message := heads.get(name)) is not None:
                self._add_head(name, message, read.now)
            else:
                del self._lanes[name]
        self._unread.extendleft(reversed(read.lanes[end:]))

    def _add_head(self, name: str, message: Message, now: float) -> None:
        if message.died_at is not None and message.died_at > now:
            self._set_waiting(name, message)
        else:
            self._set_ready(name, message)

    # --- deliveries ---------------------------------------------------------------------------

    def take_next(self) -> Message | None:
        """Return the first message of the lane whose turn it is, to deliver it."""
        return self._take(self._ready.popleft()) if self._ready else None

    def take_one_of(self, ids: Container[str]) -> Message | None:
        """Return a message with one of these ids, if it can be delivered."""
        for name in self._ready:
            head = self._lanes[name].head
            if head is not None and head.id in ids:
                self._ready.remove(name)
                return self._take(name)
        return None

    def _take(self, name: str) -> Message:
        lane = self._lanes[name]
        assert lane.head is not None
        lane.stage = Stage.BUSY
        self._busy += 1
        self._bytes -= lane.head.size
        return lane.head

    def set_next(self, name: str, message: Message | None, now: float) -> None:
        """Continue a lane whose message is gone from disk.

        Args:
            name: The lane.
            message: Its next one; None if there is none.
            now: The time.
        """
        self._busy -= 1
        if message is None:
            del self._lanes[name]
        elif self._is_missed or self._reached is not None or not self._has_room(message.size):
            del self._lanes[name]  # others wait on disk for a place: it is their turn
            self._is_missed = True
        else:
            self._add_head(name, message, now)

    def put_back(self, message: Message) -> None:
        """Deliver a message again, as soon as possible."""
        assert message.lane is not None
        self._busy -= 1
        self._set_ready(message.lane, message, is_first=True)

    def retry(self, message: Message) -> None:
        """Deliver a message again at its time; until then the lane waits."""
        assert message.lane is not None
        self._busy -= 1
        self._set_waiting(message.lane, message)

    def read_again(self, name: str) -> None:
        """Read a lane whose message was dropped during its delivery."""
        self._busy -= 1
        self._set_unread(name)

    def begin_notice(self, name: str) -> None:
        """Deliver nothing of a lane until `end_notice`. Its message is gone from disk, or nothing
        of it is in memory."""
        lane = self._lanes.get(name)
        if lane is not None and lane.stage is Stage.BUSY:
            self._busy -= 1
        self._lanes[name] = Lane(Stage.NOTIFYING)

    def end_notice(self, name: str) -> None:
        """Go on with a lane."""
        lane = self._lanes.get(name)
        if lane is not None and lane.stage is Stage.NOTIFYING:
            self._set_unread(name)

    def discard(self, ids: Container[str]) -> set[str]:
        """Read the lanes again of which the first message was dropped on disk; return those ids."""
        gone: set[str] = set()
        for name, lane in self._lanes.items():
            if lane.head is None or lane.head.id not in ids:
                continue
            if lane.stage is Stage.READY:
                self._ready.remove(name)
                self._bytes -= lane.head.size
            elif lane.stage is Stage.WAITING:
                self._waiting -= 1
            else:
                continue
            gone.add(lane.head.id)
            lane.stage, lane.head = Stage.UNREAD, None
            self._unread.append(name)
        return gone

    def reread(self) -> None:
        """Look for lanes on disk: messages were put back there."""
        self._is_missed = True

    # --- stages -------------------------------------------------------------------------------

    def _set_ready(self, name: str, message: Message, is_first: bool = False) -> None:
        self._lanes[name] = Lane(Stage.READY, message)
        self._bytes += message.size
        if is_first:
            self._ready.appendleft(name)
        else:
            self._ready.append(name)

    def _set_unread(self, name: str) -> None:
        self._lanes[name] = Lane(Stage.UNREAD)
        self._unread.append(name)

    def _set_waiting(self, name: str, message: Message) -> None:
        due = message.died_at or 0.0
        if self._waiting >= MAX_WAITING:
            self._lanes.pop(name, None)
            self._missed_due = min(self._missed_due, due)
            return
        head = msgspec.structs.replace(message, args=b"", kwargs=b"")
        self._lanes[name] = Lane(Stage.WAITING, head, due)
        self._waiting += 1
        heapq.heappush(self._retries, (due, name))
