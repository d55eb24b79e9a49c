"""The mailbox service: stores posted messages on disk and delivers them in order.

`store` writes the file, `delivery` calls the receivers, `retry` decides the outcome, `admin` serves
the operator.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator
from typing import Annotated, Any, Self

import msgspec
from msgspec import Meta

from garrison.ipc import EMPTY_MAP, EVENT, TRACE_MOST, EventPost, PostRequest
from garrison.workers import Plugin, Runtime, Service, idempotent
from garrison.workers.sqlite.opening import open_or_explain

from . import damage, schema
from .admin import Admin
from .checksums import Message
from .delivery import Dispatcher
from .erasure import PersonErasure
from .insertion import Insertion
from .renaming import Renaming
from .retry import DeliveryLimits
from .store import MailboxFull, Store
from .system_clock import SystemClock

log = logging.getLogger(__name__)

FILE = "mailbox.db"
PRUNE_S = 60.0  # between deletions of what is expired or old
CLOCK_BYTES = 100  # of the clock record in the file
CLOSE_S = 5.0  # to save the clock when the mailbox stops
SCANNED = 500  # messages verified after each of them
REPORT_S = 1.0  # minimum time between reports to `garrison status`
REPORT_SHARE = 20  # counting takes at most a twentieth of the time

Count = Annotated[int, Meta(ge=1)]

_encode = msgspec.msgpack.Encoder().encode


class MailboxService(Service):
    """Stores messages until their receivers have handled them."""

    service_type = "mailbox"
    _serves_paused = True  # what is posted is kept, and delivered later
    capability_description = "Stores posted messages on disk and delivers them in order"

    class Config(msgspec.Struct):
        """`[services.mailbox.config]`. Times are seconds, sizes are bytes."""

        max_attempts: Count = 10
        timeout: Annotated[float, Meta(gt=0, le=86_400)] = 300.0  # for one delivery
        # After the post, in which a receiver may put a message off with RetryLater.
        retry_for: Annotated[float, Meta(ge=0, le=366 * 86_400)] = 86_400.0
        max_bytes: Annotated[int, Meta(ge=1 << 20)] = 1 << 30
        max_dead: Count = 10_000  # dead letters; the oldest are deleted
        # Of dead letters; 0: only `max_dead` deletes them.
        keep_dead: Annotated[float, Meta(ge=0)] = 0.0
        keep_keys: Annotated[float, Meta(ge=0)] = 7 * 86_400.0  # of delivered messages
        max_keys: Count = 100_000  # of delivered messages; the oldest are deleted

    config: Config
    store: Store
    clock: SystemClock
    dispatcher: Dispatcher
    subscriptions: dict[str, set[str]]  # by receiver; also of receivers that do not run now
    _admin: Admin
    _renaming: Renaming
    _erasure: PersonErasure
    _last_id: int
    _scanned: int  # seq up to which messages were verified; 0 begins again

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        config = service.config
        path = runtime.data_folder / FILE
        service.store = store = await asyncio.to_thread(
            open_or_explain, path, "the mailbox", lambda: Store(path, config.max_bytes)
        )
        store.start(asyncio.get_running_loop())
        service.clock = clock = SystemClock(await store.execute(schema.get_clock))
        await service._save_clock()
        limits = DeliveryLimits(config.timeout, config.max_attempts, config.retry_for)
        service.dispatcher = Dispatcher(runtime, store, clock, limits, service._new_id)
        await service.dispatcher.load_notices()
        service._admin = Admin(runtime.data_folder / FILE, store, clock, service.dispatcher)
        service._erasure = PersonErasure(runtime, store, clock, service.dispatcher)
        await service._erasure.apply_tombstones()
        service._last_id = service._scanned = 0
        service.subscriptions = await store.execute(schema.get_subscriptions)
        service._renaming = Renaming(runtime, store, service.dispatcher, service.subscriptions)
        for entry in runtime.client.directory:
            if former := service._renaming.pending(entry.name):
                await service._renaming.handle(entry.name, former)
        runtime.client.on_service_change(service._service_changed)
        for entry in runtime.client.directory:
            service._service_changed(entry.name)
        service.spawn(service._watch_store(), "store")
        for receiver, *_ in await store.execute(schema.count_by_receiver):
            service.dispatcher.open_queue(receiver)
        service.every(PRUNE_S, service._prune, while_paused=True)
        await service._report()
        service.spawn(service._report_forever(), "report")
        return service

    async def stop(self) -> None:
        """Wait for deliveries in flight, write what is pending, and close the file."""
        await self.dispatcher.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._save_clock()
        self.store.begin_close()
        await asyncio.to_thread(self.store.wait_closed)

    # --- posting ------------------------------------------------------------------------------

    async def post(self, post: PostRequest) -> str:
        """Store a message until its receiver has handled it; return its id once it is on disk.

        Raises:
            MailboxFull: There is no room.
        """
        (message_id,) = await self.post_all([post])
        return message_id

    async def post_all(self, posts: list[PostRequest]) -> list[str]:
        """Store messages in their order, all of them or none; return their ids as `post` does.

        Raises:
            MailboxFull: There is no room.
        """
        now = self.clock.now()
        names = {post.service for post in posts}
        receivers = {name: self.runtime.client.directory.current_name(name) for name in names}
        messages = [self._message(post, receivers[post.service], now) for post in posts]
        stored = await self.store.execute(
            Insertion(messages, self.store.next_seq),
            sum(message.size for message in messages),
            lambda stored: self.dispatcher.add(
                (message, seq) for message, (_, seq) in zip(messages, stored, strict=True)
            ),
        )
        return [message_id for message_id, _ in stored]

    def _message(self, post: PostRequest, receiver: str, now: float) -> Message:
        return Message(
            id=self._id_at(now),
            receiver=receiver,
            method=post.method,
            args=bytes(post.args),
            kwargs=bytes(post.kwargs),
            key=post.key,
            sender=post.sender,
            posted_at=now,
            expires_at=None if post.expires is None else now + post.expires,
            lane=post.lane or None,
            trace=post.trace[:TRACE_MOST],
        )

    async def post_event(self, event: EventPost) -> int:
        """Post an event to every service that ever subscribed to it; return how many.

        Raises:
            MailboxFull: There is no room; the event is posted to none of them.
        """
        args = _encode((event.event, event.payload))
        messages = [
            Message(
                id=self._new_id(),
                receiver=receiver,
                method=EVENT,
                args=args,
                kwargs=bytes(EMPTY_MAP),
                sender=event.sender,
                posted_at=self.clock.now(),
                trace=event.trace[:TRACE_MOST],
            )
            for receiver, events in self.subscriptions.items()
            if event.event in events and self._receives_events_of(receiver, event.agent)
        ]
        if messages:
            await self.store.execute(
                lambda at: [
                    schema.insert(at, message, self.store.next_seq())[1] for message in messages
                ],
                sum(message.size for message in messages),
                lambda seqs: self.dispatcher.add(zip(messages, seqs, strict=True)),
            )
        return len(messages)

    async def result(self, key: str) -> dict[str, Any]:
        """Return the state of a key's message: `known`, `id`, `done`, and its `result`."""
        found = await self.store.execute(lambda at: schema.get_key(at, key))
        if found is None:
            return {"known": False, "done": False, "result": None}
        message_id, done_at, encoded = found
        value = msgspec.msgpack.decode(encoded) if encoded else None
        return {"known": True, "id": message_id, "done": done_at is not None, "result": value}

    def _new_id(self) -> str:
        """Return a unique id: microseconds and random bits, always increasing.

        Increasing ids extend the index at its end; random ones would write all over it.
        """
        return self._id_at(self.clock.now())

    def _id_at(self, now: float) -> str:
        microseconds = int(now * 1e6)
        self._last_id = max(self._last_id + 1, microseconds << 12 | random.getrandbits(12))
        return f"{self._last_id:016x}"

    # --- subscriptions ------------------------------------------------------------------------

    def _receives_events_of(self, receiver: str, agent: str) -> bool:
        """Return True if a receiver is shared or belongs to the agent; "" is any agent."""
        entry = self.runtime.client.directory.get(receiver)
        return entry is not None and (not agent or entry.agent in {"", agent})

    def _service_changed(self, name: str) -> None:
        """Update the subscriptions of a service that runs or is gone, and continue its queue."""
        entry = self.runtime.client.directory.get(name)
        if former := self._renaming.pending(name):
            self.spawn(self._renaming.handle(name, former), f"rename to {name}")
        events = set() if entry is None else set(entry.events)
        is_known = entry is None or self.runtime.client.generation_of(name)
        if is_known and events != self.subscriptions.get(name, set()):
            self.subscriptions[name] = events
            saving = self._save_subscriptions(name, events)
            self.spawn(saving, f"events of {name}", essential=False)
        self.dispatcher.receiver_changed(name)

    async def _save_subscriptions(self, receiver: str, events: set[str]) -> None:
        await self.store.execute(lambda at: schema.set_subscriptions(at, receiver, events))
        if not self.subscriptions.get(receiver):  # it may have subscribed again meanwhile
            self.subscriptions.pop(receiver, None)

    # --- administration -----------------------------------------------------------------------

    async def ls(self, receiver: str | None = None, most: int = 100) -> dict[str, Any]:
        """Return counts by receiver, the oldest messages of each state, and damaged files.

        Args:
            receiver: A NAME; None is all.
            most: Maximum number of messages of each state.
        """
        return await self._admin.ls(receiver, most)

    async def show(self, message_id: str) -> dict[str, Any]:
        """Return one message with its arguments.

        Raises:
            LookupError: There is no such message.
        """
        return await self._admin.show(message_id)

    async def replay(self, ids: list[str] | None = None, receivers: list[str] | None = None) -> int:
        """Deliver dead letters again, behind the waiting messages; return how many.

        Args:
            ids: The messages.
            receivers: NAMEs whose dead letters are delivered, besides. Both None: all are.
        """
        return await self._admin.replay(ids, receivers)

    async def outcomes(self, ids: list[str]) -> list[dict[str, Any]]:
        """Return what became of messages, in their order; for pages that follow a replay.

        Args:
            ids: At most 1,000.

        Returns:
            `id` and `state` of each: `waiting`, `dead` or `damaged`, then with `receiver`,
            `method`, `reason` and `retry_s`. Or how it left: `handled`, `dropped` or `expired` if
            it was replayed by its id since this process began, else `gone`.
        """
        return await self._admin.outcomes(ids)

    async def drop(self, ids: list[str]) -> int:
        """Delete messages, waiting or dead; return how many. Deliveries in flight go on."""
        return await self._admin.drop(ids)

    @idempotent
    async def forget_person(self, source: str, person: str) -> dict[str, int]:
        """Delete the messages of a person, waiting or dead; return how many, by kind.

        Args:
            source: NAME of the platform's service.
            person: The id there.
        """
        return await self._erasure.forget(source, person)

    async def export_person(self, source: str, person: str) -> AsyncIterator[dict[str, Any]]:
        """Yield the messages of a person with their arguments; `store` is the kind."""
        async for row in self._erasure.export(source, person):
            yield row

    # --- background work ----------------------------------------------------------------------

    async def _watch_store(self) -> None:
        """Crash if the writer thread fails: the next start checks the file again."""
        await self.store.failed

    async def _save_clock(self) -> None:
        record = self.clock.record()
        with contextlib.suppress(MailboxFull):  # it must not use the space kept for deliveries
            await self.store.execute(lambda at: schema.save_clock(at, record), CLOCK_BYTES)

    async def _prune(self) -> None:
        config = self.config
        await self.dispatcher.expire()
        await self.dispatcher.check_notices()
        await self._save_clock()
        now = self.clock.now()
        before = now - config.keep_keys
        dead_before = now - (config.keep_dead or float("inf"))
        pruned = await self.store.execute(
            lambda at: schema.prune(at, before, config.max_keys, config.max_dead, dead_before)
        )
        if pruned:
            log.warning("mail.pruned dead=%d most=%d", pruned, config.max_dead)
        after = self._scanned
        self._scanned = await self.store.execute(lambda at: damage.scan(at, after, SCANNED))

    async def _report_forever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await self._report()
            await asyncio.sleep(max(REPORT_S, REPORT_SHARE * (loop.time() - began)))

    async def _report(self) -> None:
        self.runtime.report(**await self._admin.counts())


plugin = Plugin(
    name="mailbox", services=[MailboxService], preload=["garrison.workers.services.mailbox"]
)
