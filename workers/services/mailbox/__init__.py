"""The mailbox service: a posted message is on disk before it is acknowledged; delivered in order.

It knits four things together: the file (`store`), who is next (`lanes`), what becomes of a message
(`policy`), and a time that no setting of the wall clock changes (`clock`).
"""

import asyncio
import contextlib
import logging
import random
import re
import secrets
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Self

import msgspec
from msgspec import Meta, Raw

from garrison.ipc import (
    DELIVER,
    EMPTY_MAP,
    EVENT,
    CallError,
    Delivery,
    EventPost,
    PostedMessage,
    PostRequest,
)
from garrison.workers import PermanentFailure, Plugin, Runtime, Service

from . import schema
from .clock import Clock, ClockReading
from .lanes import MOST, ReceiverQueue
from .retry import Next, Verdict, decide, expired
from .schema import Message
from .store import Damaged, MailboxFull, NewerFile, Store, quarantine

log = logging.getLogger(__name__)

FILE = "mailbox.db"
LOGS = re.compile("-(wal|shm)$")
BOOT = Path("/proc/sys/kernel/random/boot_id")
PRUNE_S = 60.0
TIME_BYTES = 100  # of what the file notes of the clocks
REPORT_S = 1.0  # at the least: counting takes a twentieth of the time at the most
NEEDS_HELP = ("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH")
REPORT_SHARE = 20
RESULT_MOST = 64 * 1024  # bytes of a result that its key keeps
SHOWN = 1_000  # letters in one list
LANES_KEPT = 1_000  # of receivers for whom nothing waits
LAND_S = 5.0  # for deliveries on their way, when the mailbox stops

_encode = msgspec.msgpack.Encoder().encode


Count = Annotated[int, Meta(ge=1)]


class MailboxService(Service):
    """Keeps messages until they were handled."""

    service_type = "mailbox"
    capability_description = "Takes messages that must not be lost, and delivers them in order"

    class Config(msgspec.Struct):
        """What `[services.mailbox.config]` may say. Times are seconds, sizes are bytes."""

        max_attempts: Count = 10
        timeout: Annotated[float, Meta(gt=0, le=86_400)] = 300.0  # for one delivery
        max_bytes: Annotated[int, Meta(ge=1 << 20)] = 1 << 30
        max_dead: Count = 10_000  # dead letters; the oldest give way
        keep_keys: Annotated[float, Meta(ge=0)] = 7 * 86_400.0  # of delivered messages
        max_keys: Count = 100_000  # likewise; the oldest give way

    config: Config
    store: Store
    last_id: int
    clock: Clock

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        service.store = await asyncio.to_thread(_open, runtime, service.config.max_bytes)
        service.store.begin(asyncio.get_running_loop())
        service.last_id = 0
        service.clock = Clock(await service.store.change(schema.last_kept), _read_clocks())
        await service._keep_time()
        service.lanes = dict[str, ReceiverQueue]()
        service.expired, service.stopping = 0, False
        service.landing = asyncio.get_running_loop().create_future()
        service.pauses = dict[str, asyncio.Event]()  # by id, of those that are tried again later
        service.listening = await service.store.change(schema.subscriptions)
        runtime.client.on_service_change(service._changed)
        for entry in runtime.client.directory:
            service._changed(entry.name)
        service.spawn(service._watch_store(), "store")
        for receiver, *_ in await service.store.change(schema.counts):
            service._lane(receiver)
        service.every(PRUNE_S, service._prune)
        await service._report()
        service.spawn(service._go_on_reporting(), "report")
        return service

    def _now(self) -> float:
        """Return the mailbox's own time."""
        return self.clock.at(time.clock_gettime(time.CLOCK_BOOTTIME))

    async def _keep_time(self) -> None:
        kept = self.clock.kept(_read_clocks())
        with contextlib.suppress(MailboxFull):  # what is kept for deliveries is not for this
            await self.store.change(lambda at: schema.keep_time(at, kept), TIME_BYTES)

    # --- posting ------------------------------------------------------------------------------

    def _new_id(self) -> str:
        """Return an id that no other message has: microseconds and chance, one after the other, so
        that the index of ids grows at its end; at random it would be written all over."""
        microseconds = int(self._now() * 1e6)
        self.last_id = max(self.last_id + 1, microseconds << 12 | random.getrandbits(12))
        return f"{self.last_id:016x}"

    async def post(self, post: PostRequest) -> str:
        """Keep a message until its receiver has handled it; return its id once it is on disk.

        Raises:
            MailboxFull: There is no room.
        """
        now = self._now()
        letter = Message(
            id=self._new_id(),
            receiver=post.service,
            method=post.method,
            args=bytes(post.args),
            kwargs=bytes(post.kwargs),
            key=post.key,
            sender=post.sender,
            posted_at=now,
            expires_at=None if post.expires is None else now + post.expires,
        )
        kept, _ = await self.store.change(
            lambda at: schema.insert(at, letter),
            letter.size,
            lambda found: self._posted([(letter, found[1])]),
        )
        return kept

    async def post_event(self, said: EventPost) -> int:
        """Post an event to everyone who ever listened to it; return how many they are.

        Raises:
            MailboxFull: There is no room; nobody is told then.
        """
        args = _encode((said.event, said.payload))
        letters = [
            Message(
                id=self._new_id(),
                receiver=receiver,
                method=EVENT,
                args=args,
                kwargs=bytes(EMPTY_MAP),
                sender=said.sender,
                posted_at=self._now(),
            )
            for receiver, events in self.listening.items()
            if said.event in events and self._hears(receiver, said.agent)
        ]
        if letters:
            await self.store.change(
                lambda at: [schema.insert(at, letter)[1] for letter in letters],
                sum(letter.size for letter in letters),
                lambda places: self._posted(zip(letters, places, strict=True)),
            )
        return len(letters)

    def _hears(self, receiver: str, agent: str) -> bool:
        """Tell whether a receiver hears an agent's events: everybody's are for all."""
        entry = self.runtime.client.directory.get(receiver)
        return entry is not None and (not agent or entry.agent in {"", agent})

    def _posted(self, kept: Iterable[tuple[Message, int]]) -> None:
        """Deliver letters that are on disk by now, each at its place; 0 was there before."""
        for letter, seq in kept:
            if seq:
                letter.seq = seq
                lane = self._lane(letter.receiver)
                lane.posted(letter)
                if len(lane.flying) < lane.window:  # else when one of those has landed
                    self._pump(lane)

    async def result(self, key: str) -> dict[str, Any]:
        """Return what became of a key's message: `known`, `done`, and its `result`."""
        found = await self.store.change(lambda at: schema.key(at, key))
        if found is None:
            return {"known": False, "done": False, "result": None}
        letter_id, done_at, kept = found
        value = msgspec.msgpack.decode(kept) if kept else None
        return {"known": True, "id": letter_id, "done": done_at is not None, "result": value}

    async def _listens(self, receiver: str, events: set[str]) -> None:
        await self.store.change(lambda at: schema.subscribe(at, receiver, events))
        if not self.listening.get(receiver):  # it may have come back meanwhile
            self.listening.pop(receiver, None)

    # --- delivering ---------------------------------------------------------------------------

    def _lane(self, receiver: str) -> ReceiverQueue:
        """Return a receiver's lane; a new one is read from disk."""
        lane: ReceiverQueue | None = self.lanes.get(receiver)
        if lane is None:
            lane = self.lanes[receiver] = ReceiverQueue(receiver)
            self._pump(lane)
        return lane

    def _changed(self, name: str) -> None:
        """Go on where a receiver came, or went, and know what it listens to while it runs."""
        entry = self.runtime.client.directory.get(name)
        events = set() if entry is None else set(entry.events)
        is_known = entry is None or self.runtime.client.generation_of(name)
        if is_known and events != self.listening.get(name, set()):
            self.listening[name] = events
            self.spawn(self._listens(name, events), f"events of {name}")
        lane = self.lanes.get(name)
        if lane is not None:
            self._pump(lane)

    def _pump(self, lane: ReceiverQueue) -> None:
        """Have delivered what can be."""
        if self.stopping:
            if not self.landing.done():
                self.landing.set_result(None)
            return
        if lane.wants_more:
            lane.reading = True
            self.spawn(self._read(lane), f"read {lane.receiver}")
        if not self.runtime.client.generation_of(lane.receiver):
            return
        lane.window = self.runtime.client.mail_window_of(lane.receiver)
        while (letter := lane.next()) is not None:
            self.spawn(self._deliver(lane, letter), f"deliver {letter.id}")
        if lane.idle and len(self.lanes) > LANES_KEPT:
            self.lanes.pop(lane.receiver, None)

    async def stop(self) -> None:
        """Let deliveries land, write what waits, and close the file."""
        self.stopping = True
        for pause in self.pauses.values():
            pause.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAND_S):
                await self._landed()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAND_S):
                await self._keep_time()
        self.store.end()
        await asyncio.to_thread(self.store.close)

    async def _landed(self) -> None:
        while any(lane.flying for lane in self.lanes.values()):
            self.landing = asyncio.get_running_loop().create_future()
            await self.landing

    # --- looking at it, and mending -----------------------------------------------------------

    async def ls(self, receiver: str | None = None, most: int = 100) -> dict[str, Any]:
        """Return counts by receiver, and the oldest messages.

        Args:
            receiver: A NAME; None is all.
            most: Messages, of each state.
        """
        most = max(1, min(most, SHOWN))
        counts = await self.store.change(schema.counts)
        letters = await self.store.change(lambda at: schema.listed(at, receiver, most))
        now = self._now()
        return {
            "receivers": [
                {
                    "receiver": name,
                    "waiting": waiting,
                    "dead": dead,
                    "oldest_s": None if oldest is None else max(now - oldest, 0.0),
                    "oldest_dead_s": None if oldest_dead is None else max(now - oldest_dead, 0.0),
                }
                for name, waiting, dead, oldest, oldest_dead in counts
                if receiver in {None, name}
            ],
            "letters": [shown(letter, now) | {"bytes": size} for letter, size in letters],
            "damaged": [str(path) for path in self._damaged()],
        }

    async def show(self, letter_id: str) -> dict[str, Any]:
        """Return one message, with its arguments.

        Raises:
            LookupError: There is none.
        """
        letter = await self.store.change(lambda at: schema.one(at, letter_id))
        if letter is None:
            raise LookupError(f"no message {letter_id}: it was delivered, dropped, or never posted")
        return shown(letter, self._now()) | {
            "args": msgspec.msgpack.decode(letter.args),
            "kwargs": msgspec.msgpack.decode(letter.kwargs),
        }

    async def replay(self, ids: list[str] | None = None) -> int:
        """Have dead letters delivered again, behind what waits; return how many.

        Args:
            ids: Which; None is all.
        """

        def replayed(receivers: list[str]) -> None:
            for receiver in set(receivers):
                lane = self._lane(receiver)
                lane.whole = False
                self._pump(lane)

        found = await self.store.change(lambda at: schema.replay(at, ids), then=replayed)
        return len(found)

    async def drop(self, ids: list[str]) -> int:
        """Forget messages, waiting or dead; return how many. One on its way is still delivered."""
        return await self.store.change(
            lambda at: schema.drop(at, ids), then=lambda _: self._forget(ids)
        )

    def _forget(self, ids: list[str]) -> None:
        for lane in self.lanes.values():
            lane.forget(ids)
        for one in ids:
            if (pause := self.pauses.get(one)) is not None:
                pause.set()

    # --- keeping house ------------------------------------------------------------------------

    async def _watch_store(self) -> None:
        """Crash with the file: a fresh start looks at it again."""
        await self.store.failed

    async def _prune(self) -> None:
        c = self.config
        now = self._now()
        before = now - c.keep_keys
        late = await self.store.change(lambda at: schema.expire(at, now), then=self._forget)
        self.expired += len(late)
        if late:
            log.warning("mail.expired count=%d", len(late))
        await self._keep_time()
        gone = await self.store.change(lambda at: schema.prune(at, before, c.max_keys, c.max_dead))
        if gone:
            log.warning("mail.pruned dead=%d most=%d", gone, c.max_dead)

    async def _go_on_reporting(self) -> None:
        while True:
            began = time.monotonic()
            await self._report()
            took = time.monotonic() - began
            await asyncio.sleep(max(REPORT_S, REPORT_SHARE * took))

    async def _report(self) -> None:
        counts = await self.store.change(schema.counts)
        oldest = min((row[3] for row in counts if row[3] is not None), default=None)
        self.runtime.report(
            waiting=sum(row[1] for row in counts),
            oldest_s=0.0 if oldest is None else round(max(self._now() - oldest, 0.0), 1),
            dead=sum(row[2] for row in counts),
            damaged=len(self._damaged()),
        )

    def _damaged(self) -> list[Path]:
        found = self.runtime.data_folder.glob(f"{FILE}.damaged-*")
        return sorted({path.with_name(LOGS.sub("", path.name)) for path in found})

    async def _read(self, lane: ReceiverQueue) -> None:
        after, room = lane.after, lane.room
        await self.store.change(
            lambda at: schema.waiting(at, lane.receiver, after, MOST, room),
            then=lambda found: lane.read(*found),  # between what was posted before and after it
        )
        self._pump(lane)

    async def _deliver(self, lane: ReceiverQueue, letter: Message) -> None:
        if expired(letter, self._now()):
            self.expired += 1
            log.warning("mail.expired id=%s receiver=%s", letter.id, letter.receiver)
            await self.store.change(lambda at: schema.drop(at, [letter.id]))
            lane.landed(letter)
            self._pump(lane)
            return
        error, result = await self._call(letter)
        chance, most = random.random(), self.config.max_attempts
        verdict = decide(letter, error, most, self._now(), chance)
        await self._carry_out(lane, letter, verdict, result)

    async def _call(self, letter: Message) -> tuple[CallError | None, bytes]:
        mail = PostedMessage(
            letter.id,
            letter.attempts + letter.deaths + 1,
            self.clock.on_the_wall(letter.posted_at, _read_clocks()),
            letter.sender,
            letter.key,
        )
        delivery = Delivery(mail, letter.method, Raw(letter.args), Raw(letter.kwargs))
        try:
            answer = await self.runtime.client.call_method(
                letter.receiver,
                DELIVER,
                (delivery,),
                Raw,
                self.config.timeout,
            )
        except CallError as error:
            return error, b""
        return None, bytes(answer)

    async def _carry_out(
        self, lane: ReceiverQueue, letter: Message, verdict: Verdict, result: bytes
    ) -> None:
        after = verdict.letter
        match verdict.next:
            case Next.ACKNOWLEDGE:
                kept, now = result if len(result) <= RESULT_MOST else b"", self._now()
                await self.store.change(lambda at: schema.acknowledge(at, letter, kept, now))
                lane.landed(letter)
            case Next.DEAD:
                log.error(
                    "mail.dead id=%s receiver=%s reason=%s", after.id, after.receiver, after.reason
                )
                await self.store.change(lambda at: schema.note(at, after))
                lane.landed(letter)
            case Next.AGAIN:
                if await self._paused(after, verdict.wait):
                    lane.back(after)
                else:  # it was dropped meanwhile
                    lane.landed(letter)
            case Next.AWAY:
                lane.back(after)
                if self.runtime.client.generation_of(lane.receiver):
                    await asyncio.sleep(0.05)  # it drains, or its window is full
        self._pump(lane)

    async def _paused(self, letter: Message, seconds: float) -> bool:
        """Note a letter, and wait until it is to be tried again; False where it was dropped."""
        dropped = self.pauses[letter.id] = asyncio.Event()
        try:
            if not await self.store.change(lambda at: schema.note(at, letter)):
                return False
            async with asyncio.timeout(seconds):
                await dropped.wait()
        except TimeoutError:
            return True
        finally:
            del self.pauses[letter.id]
        return bool(self.stopping)


def _read_clocks() -> ClockReading:
    try:
        boot = BOOT.read_text("ascii").strip()
    except OSError:  # every life is another run then: the wall clock tells
        boot = secrets.token_hex(8)
    return ClockReading(boot, time.clock_gettime(time.CLOCK_BOOTTIME), time.time())


def shown(letter: Message, now: float) -> dict[str, Any]:
    """Return a message as people read it, without its arguments."""
    return {
        "id": letter.id,
        "receiver": letter.receiver,
        "method": letter.method,
        "state": "dead" if letter.state == schema.DEAD else "waiting",
        "sender": letter.sender,
        "key": letter.key,
        "age_s": max(now - letter.posted_at, 0.0),
        "expires_s": None if letter.expires_at is None else letter.expires_at - now,
        "attempts": letter.attempts,
        "deaths": letter.deaths,
        "death": letter.death,
        "reason": letter.reason,
        "bytes": len(letter.args) + len(letter.kwargs),
    }


def _open(runtime: Runtime, max_bytes: int) -> Store:
    """Return the open file; one that is damaged is set aside, and named."""
    path = runtime.data_folder / FILE
    try:
        try:
            return Store(path, max_bytes)
        except Damaged as error:
            aside = quarantine(path)
            log.error("mail.damaged file=%s set_aside=%s error=%s", path, aside, error)
            return Store(path, max_bytes)
    except NewerFile as error:
        raise PermanentFailure(str(error)) from error
    except (sqlite3.Error, OSError) as error:
        text = f"{path} cannot be opened: {error}"
        if getattr(error, "sqlite_errorname", "").startswith(NEEDS_HELP):
            raise PermanentFailure(f"{text}; mend its folder or its mode, then start it") from error
        raise RuntimeError(text) from error


plugin = Plugin(name="mailbox", services=[MailboxService])
