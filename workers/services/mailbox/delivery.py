"""Deliver messages: fill the receivers' queues from disk, call receivers, apply the outcomes."""

import asyncio
import contextlib
import logging
import math
import random
import sqlite3
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar, assert_never

from msgspec import Raw

from garrison.ipc import DELIVER, CallError, Delivery, InvalidCall, PostedMessage
from garrison.workers import Runtime

from . import lane_rows, notice_rows, notices, plain_queue, schema
from .checksums import DEAD, Message
from .lane_queue import LaneRead
from .notices import HeldLane, PendingNotices
from .receiver_queue import ReceiverQueue
from .replays import Ended, Replays
from .retry import Decision, DeliveryLimits, Outcome, decide, is_expired
from .store import Store
from .system_clock import SystemClock

log = logging.getLogger(__name__)

T = TypeVar("T")

DEAD_LETTER_EVENT = "mail.dead_letter"  # for services that register for it
TRUE = b"\xc3"  # encoded

MAX_RESULT = 64 * 1024  # bytes; a larger result is not kept with its key
MAX_IDLE_QUEUES = 1_000
TICK_S, MAX_TIMER_S = 0.001, 60.0  # added to a retry's time; the longest timer
DRAIN_S = 5.0  # for deliveries in flight when the mailbox stops
REJECTED_S = 0.05  # before the next delivery to a running receiver that rejected one


class Dispatcher:
    """Delivers messages, each receiver's in order.

    Args:
        runtime: The mailbox's.
        store: Where the messages are.
        clock: The mailbox's time.
        limits: From the config.
        new_id: Returns the id of a new message.
    """

    def __init__(
        self,
        runtime: Runtime,
        store: Store,
        clock: SystemClock,
        limits: DeliveryLimits,
        new_id: Callable[[], str],
    ) -> None:
        self._new_id = new_id
        self._runtime, self._store, self._clock, self._limits = runtime, store, clock, limits
        self.queues: dict[str, ReceiverQueue] = {}
        self.expired = 0  # messages that were not delivered in time
        self.replays = Replays()
        self._notices = PendingNotices()
        self._dropped: dict[str, asyncio.Event] = {}  # by id, of messages that wait for a retry
        self._delivering: set[str] = set()  # ids of messages that their receivers have
        self._stopping = False
        self._held: set[str] = set()  # receivers whose messages are being renamed
        self._landed = asyncio.Event()  # a delivery ended while the mailbox stops
        self._first_seq = store.next_seq()  # older messages may have been in delivery before
        self._timers: dict[str, asyncio.TimerHandle] = {}  # by receiver: the next retry of a lane

    # --- the queues ---------------------------------------------------------------------------

    def add(self, messages: Iterable[tuple[Message, int]]) -> None:
        """Queue messages that are on disk, each with its seq; 0 marks a duplicate."""
        with_room: dict[str, ReceiverQueue] = {}
        for message, seq in messages:
            if seq:
                message.seq = seq
                queue = self.open_queue(message.receiver)
                queue.add_posted(message)
                if queue.has_free_window:  # otherwise the end of a delivery starts the next
                    with_room[message.receiver] = queue
        for queue in with_room.values():
            self.pump(queue)

    def open_queue(self, receiver: str) -> ReceiverQueue:
        """Return a receiver's queue. A new one is filled from disk."""
        queue = self.queues.get(receiver)
        if queue is None:
            queue = self._new_queue(receiver)
            self.pump(queue)
        return queue

    def _new_queue(self, receiver: str) -> ReceiverQueue:
        queue = self.queues[receiver] = ReceiverQueue(receiver)
        for lane in self._notices.lanes_of(receiver):
            queue.lanes.begin_notice(lane)
        return queue

    def receiver_changed(self, receiver: str) -> None:
        """Continue with the queue of a receiver that came, went, or runs again."""
        queues = [self.queues[receiver]] if receiver in self.queues else []
        if receiver == self._runtime.name:  # it may have been resumed
            queues = list(self.queues.values())
        for queue in queues:
            self.pump(queue)

    def reread(self, receivers: Iterable[str]) -> None:
        """Read the queues of receivers for which messages were put back on disk."""
        for receiver in set(receivers):
            queue = self.open_queue(receiver)
            queue.plain.is_complete = False
            queue.lanes.reread()
            self.pump(queue)

    async def hold(self, receivers: set[str]) -> bool:
        """Deliver nothing to some receivers; return True once nothing is in delivery to them, False
        if the mailbox is stopping."""
        self._held |= receivers
        queues = [queue for queue in self.queues.values() if queue.receiver in receivers]
        for queue in queues:
            for message in queue.plain.in_flight.values():
                if (waiting := self._dropped.get(message.id)) is not None:
                    waiting.set()
        while any(queue.is_busy for queue in queues) and not self._stopping:
            self._landed.clear()
            await self._landed.wait()
        return not self._stopping

    def release(self, receivers: set[str], into: str) -> None:
        """Read the queues of receivers again that were held.

        Args:
            receivers: They.
            into: The one that has all their messages now.
        """
        self._held -= receivers
        former = [queue for name in receivers if (queue := self.queues.pop(name, None))]
        for name in receivers:
            if (timer := self._timers.pop(name, None)) is not None:
                timer.cancel()
        self._notices.rename(receivers, into)
        queue = self._new_queue(into)
        for one in former:
            queue.begun |= one.begun
            queue.suspects |= one.suspects
        self.pump(queue)

    def discard(self, ids: Iterable[str]) -> None:
        """Forget messages that were dropped on disk; deliveries in flight go on."""
        ids = list(ids)
        for queue in list(self.queues.values()) if ids else ():
            queue.discard(ids)
            self.pump(queue)
        self._end_notices(ids)
        for message_id in ids:
            if (dropped := self._dropped.get(message_id)) is not None:
                dropped.set()

    def pump(self, queue: ReceiverQueue) -> None:
        """Start every read and delivery that is possible now."""
        message = self._next(queue)
        if message is not None:
            self._spawn(self._deliver_all(queue, message), f"deliver to {queue.receiver}")

    def _next(self, queue: ReceiverQueue) -> Message | None:
        """Start every read and delivery that is possible now, apart from the first delivery:
        return its message."""
        is_replaced = self.queues.get(queue.receiver) is not queue  # it was read again meanwhile
        if self._stopping or is_replaced or queue.receiver in self._held:
            self._landed.set()
            return None
        self._read(queue)
        if self._runtime.paused:
            return None
        first = None
        if self._runtime.client.generation_of(queue.receiver):
            queue.window = self._runtime.client.mail_window_of(queue.receiver)
            first = queue.take_next()
            while (message := queue.take_next()) is not None:
                self._spawn(self._deliver_all(queue, message), f"deliver to {queue.receiver}")
            if queue.is_idle and len(self.queues) > MAX_IDLE_QUEUES:
                self.queues.pop(queue.receiver, None)
        if not queue.lanes.is_idle or queue.receiver in self._timers:
            self._set_timer(queue)
        return first

    def _spawn(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        """Run work that ends; it may begin before the service runs."""
        self._runtime.spawn(work, name, essential=False)

    def _set_timer(self, queue: ReceiverQueue) -> None:
        """Continue with a queue when the next retry of a lane is due."""
        if (timer := self._timers.pop(queue.receiver, None)) is not None:
            timer.cancel()
        due = queue.lanes.next_due()
        if due < math.inf:
            # The mailbox's time counts while the machine is suspended, the loop's does not.
            delay = min(max(due - self._clock.now(), 0.0) + TICK_S, MAX_TIMER_S)
            loop = asyncio.get_running_loop()
            self._timers[queue.receiver] = loop.call_later(delay, self.pump, queue)

    def _read(self, queue: ReceiverQueue) -> None:
        """Start the reads from disk that are possible now."""
        if queue.plain.needs_more:
            queue.plain.is_reading = True
            self._spawn(self._read_plain(queue), f"read {queue.receiver}")
        if queue.lanes.is_idle:
            return
        if (read := queue.lanes.begin_read(self._clock.now())) is not None:
            self._spawn(self._read_lanes(queue, read), f"read lanes of {queue.receiver}")

    async def _read_plain(self, queue: ReceiverQueue) -> None:
        receiver, after, free = queue.receiver, queue.plain.last_seq, queue.plain.free_bytes
        await self._store.execute(
            lambda at: schema.read_waiting(at, receiver, after, plain_queue.MAX_MESSAGES, free),
            callback=lambda found: queue.plain.add_read(*found),  # in order with `add`
        )
        self.pump(queue)

    async def _read_lanes(self, queue: ReceiverQueue, read: LaneRead) -> None:
        await self._store.execute(
            lambda at: lane_rows.read(at, queue.receiver, read),
            callback=lambda found: queue.lanes.add_read(read, found),
        )
        self.pump(queue)

    async def expire(self) -> None:
        """Delete waiting messages that expired; what is in delivery was begun in time."""
        now, kept = self._clock.now(), frozenset(self._delivering)
        ids = await self._store.execute(
            lambda at: schema.expire(at, now, kept), callback=self.discard
        )
        self.expired += len(ids)
        self.replays.end(ids, Ended.EXPIRED)
        if ids:
            log.warning("mail.expired count=%d", len(ids))

    async def drain(self) -> None:
        """Start no further delivery and wait for those in flight, for a limited time."""
        self._stopping = True
        for dropped in self._dropped.values():
            dropped.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while any(queue.is_busy for queue in self.queues.values()):
                    self._landed.clear()
                    await self._landed.wait()

    # --- one delivery -------------------------------------------------------------------------

    async def _deliver_all(self, queue: ReceiverQueue, message: Message | None) -> None:
        """Deliver a message, and then those that follow it."""
        while message is not None:
            await self._deliver(queue, message)
            message = self._next(queue)

    async def _deliver(self, queue: ReceiverQueue, message: Message) -> None:
        now = self._clock.now()
        if is_expired(message, now):
            self.expired += 1
            log.warning("mail.expired id=%s receiver=%s", message.id, message.receiver)
            queue.end_call(message, None)
            await self._remove(queue, message, lambda at: schema.drop(at, [message.id]))
            self.replays.end([message.id], Ended.EXPIRED)
        elif message.died_at is not None and message.died_at > now:  # before a restart
            queue.end_call(message, None)
            await self._retry(queue, Decision(Outcome.RETRY, message, message.died_at - now))
        elif (args := await self._arguments(message)) is None:  # a notice that is void by now
            queue.end_call(message, None)
            await self._remove(queue, message, lambda at: schema.drop(at, [message.id]))
        else:
            await self._call_and_apply(queue, message, args)

    async def _call_and_apply(self, queue: ReceiverQueue, message: Message, args: bytes) -> None:
        self._delivering.add(message.id)
        try:
            error, result = await self._call(queue, message, args)
            is_alone = queue.end_call(message, error)
            now = self._clock.now()
            decision = decide(message, error, self._limits, now, random.random(), is_alone)
            if decision.outcome is not Outcome.ACKNOWLEDGE:
                self._delivering.discard(message.id)
            await self._apply(queue, message, decision, result)
        finally:
            self._delivering.discard(message.id)

    async def _arguments(self, message: Message) -> bytes | None:
        """Return the arguments to deliver; None for the notice of what is no dead letter now."""
        if not notices.is_notice(message):
            return message.args
        dead_id = notices.dead_letter_id(message)
        dead = await self._store.execute(lambda at: schema.get_message(at, dead_id))
        if dead is None or dead.state != DEAD:
            return None
        return notices.arguments(message, dead, self._clock.to_wall_time(dead.posted_at))

    async def _call(
        self, queue: ReceiverQueue, message: Message, args: bytes
    ) -> tuple[CallError | None, bytes]:
        is_again = message.seq < self._first_seq or message.id in queue.begun or message.reason
        mail = PostedMessage(
            message.id,
            max(message.attempts + message.deaths + 1, 2 if is_again else 1),
            self._clock.to_wall_time(message.posted_at),
            message.sender,
            message.key,
            message.lane,
            message.trace,
        )
        delivery = Delivery(mail, message.method, Raw(args), Raw(message.kwargs))
        try:
            result = await self._runtime.client.call_method(
                message.receiver, DELIVER, (delivery,), Raw, self._limits.timeout
            )
        except InvalidCall as error:
            is_notice = notices.is_notice(message)  # the receiver is of a release without them
            return (None, b"") if is_notice else (error, b"")
        except CallError as error:
            return error, b""
        return None, bytes(result)

    async def _apply(
        self, queue: ReceiverQueue, message: Message, decision: Decision, result: bytes
    ) -> None:
        after = decision.message
        match decision.outcome:
            case Outcome.ACKNOWLEDGE:
                if notices.is_notice(message) and result != TRUE:
                    await self._announce(notices.dead_letter_id(message))
                kept, now = result if len(result) <= MAX_RESULT else b"", self._clock.now()
                await self._remove(
                    queue,
                    message,
                    lambda at: schema.acknowledge(at, message, kept, now),
                    lambda _: self.replays.end([message.id], Ended.HANDLED),
                )
            case Outcome.DEAD_LETTER:
                await self._give_up(queue, after)
            case Outcome.RETRY:
                await self._retry(queue, decision)
            case Outcome.REDELIVER:
                if message.lane is None:
                    queue.put_back(after)
                if self._runtime.client.generation_of(
                    queue.receiver
                ):  # it drains, or its window is full
                    await asyncio.sleep(REJECTED_S)
                if message.lane is not None:
                    queue.put_back(after)
            case _:
                assert_never(decision.outcome)

    async def _give_up(self, queue: ReceiverQueue, dead: Message) -> None:
        """Make a message a dead letter, and post a notice to its poster in the same commit."""
        log.error("mail.dead id=%s receiver=%s reason=%s", dead.id, dead.receiver, dead.reason)
        self._runtime.incident(
            "mail.dead", dead.reason, dead.receiver, id=dead.id, method=dead.method
        )
        notice: Message | None = None
        poster = self._runtime.client.directory.current_name(dead.sender)
        if notices.is_announced(dead) and poster in self._runtime.client.directory:
            notice = notices.notice_of(dead, poster, self._new_id(), self._clock.now())

        def give_up(at: sqlite3.Cursor) -> int:
            if not schema.update(at, dead) or notice is None:  # it was dropped, or has no poster
                return 0
            return schema.insert(at, notice, self._store.next_seq())[1]

        def added(seq: int) -> None:
            if notice is not None:
                self.add([(notice, seq)])

        def is_notifying(seq: int) -> bool:
            return bool(seq and notice is not None and self._begin_notice(notice, dead))

        await self._remove(queue, dead, give_up, added, is_notifying)
        if notice is None and notices.is_announced(dead):
            self._emit_dead_letter(dead)

    # --- lanes that wait for a notice -----------------------------------------------------------

    async def load_notices(self) -> None:
        """Have lanes wait for the notices that are on disk; call it before the first queue."""
        for one in await self._store.execute(notice_rows.read):
            if self._is_platform(one.poster):
                self._notices.add(one.id, one.held)

    async def check_notices(self) -> None:
        """Go on with lanes whose notice is damaged or void, or whose platform is not configured."""
        if ids := self._notices.ids:
            found = await self._store.execute(notice_rows.read)
            left = {one.id for one in found if one.poster in self._runtime.client.directory}
            self._end_notices(one for one in ids if one not in left)

    @property
    def held_lanes(self) -> dict[HeldLane, str]:
        """Return the lanes that wait for a notice, each with the notice's id."""
        return self._notices.by_lane()

    def _begin_notice(self, notice: Message, dead: Message) -> bool:
        """Return whether the lane of a dead letter waits for its notice, and note it."""
        if dead.lane is None or not self._is_platform(notice.receiver):
            return False
        return self._notices.add(notice.id, HeldLane(dead.receiver, dead.lane))

    def _is_platform(self, name: str) -> bool:
        entry = self._runtime.client.directory.get(name)
        return entry is not None and entry.manifest.platform

    def _end_notices(self, ids: Iterable[str]) -> None:
        for held in self._notices.end(ids):
            if (queue := self.queues.get(held.receiver)) is not None:
                queue.lanes.end_notice(held.lane)
                self.pump(queue)

    async def _announce(self, dead_id: str) -> None:
        dead = await self._store.execute(lambda at: schema.get_message(at, dead_id))
        if dead is not None:
            self._emit_dead_letter(dead)

    def _emit_dead_letter(self, dead: Message) -> None:
        """Announce a dead letter whose poster is no service or has no `dead_letter`."""
        log.warning("mail.dead_letter id=%s sender=%s", dead.id, dead.sender)
        payload = notices.described(dead) | {"sender": dead.sender, "reason": dead.reason}
        emit = self._runtime.emit_event(DEAD_LETTER_EVENT, payload)
        self._spawn(emit, f"announce {dead.id}")

    async def _remove(
        self,
        queue: ReceiverQueue,
        message: Message,
        operation: Callable[[sqlite3.Cursor], T],
        callback: Callable[[T], None] = lambda _: None,
        is_notifying: Callable[[T], bool] = lambda _: False,
    ) -> None:
        """Remove a message from those that wait, on disk and here; read the next of its lane.

        Args:
            queue: The receiver's.
            message: The message.
            operation: Removes it on disk.
            callback: Called with its result, in the order of the commits.
            is_notifying: Returns, by its result, whether the lane waits for a notice.
        """
        receiver, lane, now = message.receiver, message.lane, self._clock.now()

        def remove(at: sqlite3.Cursor) -> tuple[T, Message | None]:
            result = operation(at)
            return result, None if lane is None else lane_rows.first(at, receiver, lane, now)

        def removed(outcome: tuple[T, Message | None]) -> None:
            queue.remove(message, outcome[1], now, is_notifying(outcome[0]))
            callback(outcome[0])
            if notices.is_notice(message):
                self._end_notices([message.id])

        # The next delivery waits for it, but no post: it shares the commit of the next ones.
        await self._store.execute(remove, callback=removed, patient=True)

    async def _retry(self, queue: ReceiverQueue, decision: Decision) -> None:
        after = decision.message
        if after.lane is None:
            self.pump(queue)  # lanes do not wait for it
            if await self._wait_to_retry(after, decision.delay):
                queue.put_back(after)
            else:
                queue.remove(after, None, self._clock.now())
        else:
            await self._store.execute(
                lambda at: schema.update(at, after),
                callback=lambda is_known: queue.retry(after, is_known),
            )

    async def _wait_to_retry(self, message: Message, delay: float) -> bool:
        """Store the message's state and wait for the delay; False if it was dropped meanwhile."""
        dropped = self._dropped[message.id] = asyncio.Event()
        try:
            if not await self._store.execute(lambda at: schema.update(at, message)):
                return False
            async with asyncio.timeout(0.0 if message.receiver in self._held else delay):
                await dropped.wait()
        except TimeoutError:
            return True
        finally:
            del self._dropped[message.id]
        return self._stopping or message.receiver in self._held
