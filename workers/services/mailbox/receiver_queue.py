"""One receiver's messages in memory: which is delivered next, and which alone. Pure.

Messages without a lane are delivered in order, `window` at the same time; a retry holds its place
among them. Lanes are delivered side by side, each in order. `window` bounds both together.

Messages that were in delivery together when the receiver died are suspects: one of them may have
caused it. Each is delivered again alone, before all others.
"""

from garrison.ipc import CallError, Overloaded, ServiceLost, ServiceUnavailable

from .checksums import Message
from .lane_queue import LaneQueue
from .plain_queue import PlainQueue


class ReceiverQueue:
    """The messages of one receiver.

    Args:
        receiver: Its NAME.
    """

    def __init__(self, receiver: str) -> None:
        self.receiver = receiver
        self.window = 1  # deliveries at the same time
        self.calls = 0  # deliveries under way
        self.plain = PlainQueue()
        self.lanes = LaneQueue()
        self.suspects: set[str] = set()  # ids
        self.begun: set[str] = set()  # ids of messages whose delivery was cut short
        self._dead_generation = 0  # of the receiver, the last one that died in a delivery
        self._is_lanes_turn = False

    @property
    def has_free_window(self) -> bool:
        """Return True if another delivery may start."""
        return self.calls < self.window

    @property
    def is_busy(self) -> bool:
        """Return True while a message is in delivery, or its outcome is not yet on disk."""
        return bool(self.plain.in_flight) or self.lanes.is_busy

    @property
    def is_idle(self) -> bool:
        """Return True if the queue holds nothing and can be discarded."""
        return self.plain.is_idle and self.lanes.is_idle

    def add_posted(self, message: Message) -> None:
        """Add a message that was just written to disk. Without room it stays there."""
        (self.plain if message.lane is None else self.lanes).add_posted(message)

    def take_next(self) -> Message | None:
        """Return the next message to deliver; None if none may start now."""
        message = None
        if self.suspects:
            if not self.calls:
                message = self.plain.take_one_of(self.suspects)
                message = message or self.lanes.take_one_of(self.suspects)
        elif self.has_free_window:
            is_plain = self.plain.has_ready and len(self.plain.in_flight) < self.window
            if self.lanes.has_ready and (self._is_lanes_turn or not is_plain):
                message = self.lanes.take_next()
            elif is_plain:
                message = self.plain.take_next()
            self._is_lanes_turn = message is not None and message.lane is None
        if message is not None:
            self.calls += 1
        return message

    def end_call(self, message: Message, error: CallError | None) -> bool:
        """Note the end of a delivery; return True if the message was alone in delivery.

        Messages that were in delivery together when the receiver died end one after the other:
        they are known by its generation; 0 is an unknown one.
        """
        self.calls -= 1
        if isinstance(error, ServiceLost):
            self.begun.add(message.id)
            if error.died:
                is_new = error.generation == 0 or error.generation != self._dead_generation
                self._dead_generation = error.generation
                self.suspects.add(message.id)
                return is_new and not self.calls
        elif not isinstance(error, ServiceUnavailable | Overloaded):  # it was not the cause
            self.suspects.discard(message.id)
        return True

    def remove(
        self, message: Message, following: Message | None, now: float, is_notifying: bool = False
    ) -> None:
        """Remove a message that was acknowledged, dropped, or is a dead letter, on disk as well.

        Args:
            message: The message.
            following: The next one of its lane on disk, if it has a lane.
            now: The mailbox's time.
            is_notifying: Its lane goes on once its notice was handled.
        """
        self._forget(message)
        if message.lane is None:
            self.plain.remove(message)
        elif is_notifying:
            self.lanes.begin_notice(message.lane)
        else:
            self.lanes.set_next(message.lane, following, now)

    def _forget(self, message: Message) -> None:
        self.suspects.discard(message.id)
        self.begun.discard(message.id)

    def put_back(self, message: Message) -> None:
        """Return a message to its place in the order, to deliver it again."""
        (self.plain if message.lane is None else self.lanes).put_back(message)

    def retry(self, message: Message, is_known: bool) -> None:
        """Have a message of a lane wait for its retry.

        Args:
            message: The message; `died_at` is its time.
            is_known: False if it was dropped on disk meanwhile.
        """
        assert message.lane is not None
        if not is_known:
            self._forget(message)
            self.lanes.read_again(message.lane)
        elif message.died_at is None:
            self.lanes.put_back(message)
        else:
            self.begun.discard(message.id)  # it is recorded on disk
            self.lanes.retry(message)

    def discard(self, ids: list[str]) -> None:
        """Remove waiting messages that were dropped on disk; deliveries in flight go on."""
        dropped = set(ids)
        gone = self.plain.discard(dropped) | self.lanes.discard(dropped)
        self.suspects -= gone
        self.begun -= gone
