"""Deliver messages: fill the receivers' queues from disk, call receivers, apply the outcomes."""

import asyncio
import contextlib
import logging
import math
import random
import sqlite3
from collections.abc import Callable, Iterable
from typing import assert_never

from msgspec import Raw

from garrison.ipc import DELIVER, CallError, Delivery, PostedMessage
from garrison.workers import Runtime

from . import lane_rows, plain_queue, schema
from .checksums import Message
from .lane_queue import LaneRead
from .receiver_queue import ReceiverQueue
from .retry import Decision, DeliveryLimits, Outcome, decide, is_expired
from .store import Store
from .system_clock import SystemClock

log = logging.getLogger(__name__)

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
    """

    def __init__(
        self, runtime: Runtime, store: Store, clock: SystemClock, limits: DeliveryLimits
    ) -> None:
        self._runtime, self._store, self._clock, self._limits = runtime, store, clock, limits
        self.queues: dict[str, ReceiverQueue] = {}
        self.expired = 0  # messages that were not delivered in time
        self._dropped: dict[str, asyncio.Event] = {}  # by id, of messages that wait for a retry
        self._stopping = False
        self._landed = asyncio.Event()  # a delivery ended while the mailbox stops
        self._first_seq = store.next_seq()  # older messages may have been in delivery before
        self._timers: dict[str, asyncio.TimerHandle] = {}  # by receiver: the next retry of a lane

    # --- the queues ---------------------------------------------------------------------------

    def add(self, messages: Iterable[tuple[Message, int]]) -> None:
        """Queue messages that are on disk, each with its seq; 0 marks a duplicate."""
        for message, seq in messages:
            if seq:
                message.seq = seq
                queue = self.open_queue(message.receiver)
                queue.add_posted(message)
                if queue.has_free_window:  # otherwise the end of a delivery starts the next
                    self.pump(queue)

    def open_queue(self, receiver: str) -> ReceiverQueue:
        """Return a receiver's queue. A new one is filled from disk."""
        queue = self.queues.get(receiver)
        if queue is None:
            queue = self.queues[receiver] = ReceiverQueue(receiver)
            self.pump(queue)
        return queue

    def receiver_changed(self, receiver: str) -> None:
        """Continue with the queue of a receiver that came, went, or runs again."""
        queue = self.queues.get(receiver)
        if queue is not None:
            self.pump(queue)

    def reread(self, receivers: Iterable[str]) -> None:
        """Read the queues of receivers for which messages were put back on disk."""
        for receiver in set(receivers):
            queue = self.open_queue(receiver)
            queue.plain.is_complete = False
            queue.lanes.reread()
            self.pump(queue)

    def discard(self, ids: Iterable[str]) -> None:
        """Forget messages that were dropped on disk; deliveries in flight go on."""
        ids = list(ids)
        for queue in list(self.queues.values()) if ids else ():
            queue.discard(ids)
            self.pump(queue)
        for message_id in ids:
            if (dropped := self._dropped.get(message_id)) is not None:
                dropped.set()

    def pump(self, queue: ReceiverQueue) -> None:
        """Start every read and delivery that is possible now."""
        if self._stopping:
            self._landed.set()
            return
        self._read(queue)
        if self._runtime.client.generation_of(queue.receiver):
            queue.window = self._runtime.client.mail_window_of(queue.receiver)
            while (message := queue.take_next()) is not None:
                self._runtime.spawn(self._deliver(queue, message), f"deliver {message.id}")
            if queue.is_idle and len(self.queues) > MAX_IDLE_QUEUES:
                self.queues.pop(queue.receiver, None)
        self._set_timer(queue)

    def _set_timer(self, queue: ReceiverQueue) -> None:
        """Continue with a queue when the next retry of a lane is due."""
        due = queue.lanes.next_due()
        if (timer := self._timers.pop(queue.receiver, None)) is not None:
            timer.cancel()
        if due < math.inf:
            # The mailbox's time counts while the machine is suspended, the loop's does not.
            delay = min(max(due - self._clock.now(), 0.0) + TICK_S, MAX_TIMER_S)
            loop = asyncio.get_running_loop()
            self._timers[queue.receiver] = loop.call_later(delay, self.pump, queue)

    def _read(self, queue: ReceiverQueue) -> None:
        """Start the reads from disk that are possible now."""
        if queue.plain.needs_more:
            queue.plain.is_reading = True
            self._runtime.spawn(self._read_plain(queue), f"read {queue.receiver}")
        if (read := queue.lanes.begin_read(self._clock.now())) is not None:
            self._runtime.spawn(self._read_lanes(queue, read), f"read lanes of {queue.receiver}")

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
        """Delete waiting messages that expired."""
        now = self._clock.now()
        ids = await self._store.execute(lambda at: schema.expire(at, now), callback=self.discard)
        self.expired += len(ids)
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

    async def _deliver(self, queue: ReceiverQueue, message: Message) -> None:
        now = self._clock.now()
        if is_expired(message, now):
            self.expired += 1
            log.warning("mail.expired id=%s receiver=%s", message.id, message.receiver)
            queue.end_call(message, None)
            await self._remove(queue, message, lambda at: schema.drop(at, [message.id]))
        elif message.died_at is not None and message.died_at > now:  # before a restart
            queue.end_call(message, None)
            await self._retry(queue, Decision(Outcome.RETRY, message, message.died_at - now))
        else:
            error, result = await self._call(queue, message)
            is_alone = queue.end_call(message, error)
            now = self._clock.now()
            decision = decide(message, error, self._limits, now, random.random(), is_alone)
            await self._apply(queue, message, decision, result)
        self.pump(queue)

    async def _call(self, queue: ReceiverQueue, message: Message) -> tuple[CallError | None, bytes]:
        is_again = message.seq < self._first_seq or message.id in queue.begun or message.reason
        mail = PostedMessage(
            message.id,
            max(message.attempts + message.deaths + 1, 2 if is_again else 1),
            self._clock.to_wall_time(message.posted_at),
            message.sender,
            message.key,
            message.lane,
        )
        delivery = Delivery(mail, message.method, Raw(message.args), Raw(message.kwargs))
        try:
            result = await self._runtime.client.call_method(
                message.receiver, DELIVER, (delivery,), Raw, self._limits.timeout
            )
        except CallError as error:
            return error, b""
        return None, bytes(result)

    async def _apply(
        self, queue: ReceiverQueue, message: Message, decision: Decision, result: bytes
    ) -> None:
        after = decision.message
        match decision.outcome:
            case Outcome.ACKNOWLEDGE:
                kept, now = result if len(result) <= MAX_RESULT else b"", self._clock.now()
                await self._remove(
                    queue, message, lambda at: schema.acknowledge(at, message, kept, now)
                )
            case Outcome.DEAD_LETTER:
                log.error(
                    "mail.dead id=%s receiver=%s reason=%s", after.id, after.receiver, after.reason
                )
                await self._remove(queue, message, lambda at: schema.update(at, after))
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

    async def _remove(
        self, queue: ReceiverQueue, message: Message, operation: Callable[[sqlite3.Cursor], object]
    ) -> None:
        """Remove a message from those that wait, on disk and here; read the next of its lane."""
        receiver, lane, now = message.receiver, message.lane, self._clock.now()

        def remove(at: sqlite3.Cursor) -> Message | None:
            operation(at)
            return None if lane is None else lane_rows.first(at, receiver, lane, now)

        await self._store.execute(
            remove, callback=lambda following: queue.remove(message, following, now)
        )

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
            async with asyncio.timeout(delay):
                await dropped.wait()
        except TimeoutError:
            return True
        finally:
            del self._dropped[message.id]
        return self._stopping
