"""One message's record in progress: changed in memory, written before its effects."""

import asyncio
import hashlib
import logging
import sqlite3
from typing import Any

import msgspec

from garrison.workers import Busy, Content, Memory, Processed, RetryLater

from .record import schema
from .record.resume import answer_of, is_finished, may_have_sent
from .record.rows import MessageKey, Part, PlannedStep, Record
from .record.store import AnswerStore, RecordFull

log = logging.getLogger(__name__)

DROPPED_MOST = 300  # characters of a dropped message that are recorded
# What need not be on disk first is written with what must: each commit takes milliseconds, and the
# next one waits for it.
SOON_S = 0.02
_encode = msgspec.msgpack.Encoder().encode
Mark = tuple[str, int, str | None, int]  # a step or a part as it is on disk
FULL_S = 30.0  # before a posted message that the record had no room for is delivered again


class Origin(msgspec.Struct, frozen=True):
    """How a message came."""

    posted: bool = False  # by the mailbox, which delivers it again after an error
    attempt: int = 1


class Recording:
    """The record of one message, and its writes to disk.

    Args:
        store: The file.
        record: What is recorded so far.
        perhaps_sent: Parts may have been sent of which there is no record.
    """

    def __init__(self, store: AnswerStore, record: Record, perhaps_sent: bool) -> None:
        self._store, self.record, self.perhaps_sent = store, record, perhaps_sent
        self._timer: asyncio.TimerHandle | None = None
        self._on_disk: set[Mark] = set()

    @property
    def is_finished(self) -> bool:
        """Return True if the answer is complete."""
        return is_finished(self.record)

    @property
    def answer(self) -> Processed:
        """Return the answer so far, as the caller gets it."""
        return answer_of(self.record)

    async def write(self) -> None:
        """Write the record; return once it is on disk.

        Raises:
            RetryLater: There is no room.
        """
        self._cancel_timer()
        try:
            await self._start_write()
        except RecordFull as error:
            raise RetryLater(FULL_S, str(error)) from error

    def write_soon(self) -> None:
        """Write the record within `SOON_S`, unless another write does it before."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(SOON_S, self.write_now)

    def write_now(self) -> None:
        """Write the record, without waiting."""
        self._cancel_timer()
        self._start_write().add_done_callback(_log_error)

    def _start_write(self) -> asyncio.Future[None]:
        write = _Write(self.record, self._on_disk)
        done = self._store.execute(write)
        done.add_done_callback(lambda done: self._written(write, done))
        return done

    def _written(self, write: "_Write", done: asyncio.Future[None]) -> None:
        if not done.cancelled() and done.exception() is None:
            self._on_disk |= write.marks

    async def flush(self) -> None:
        """Write what `write_soon` has not written yet: the next attempt reads it.

        Raises:
            RetryLater: There is no room.
        """
        if self._timer is not None:
            await self.write()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


async def open_recording(
    store: AnswerStore, key: MessageKey, memory: Memory, origin: Origin, now: float
) -> Recording:
    """Return a message's record, a new one if there is none.

    Args:
        store: The file.
        key: Which message.
        memory: The message.
        origin: How it came.
        now: Seconds since the epoch.

    Raises:
        Busy: There is no room for a new one.
        RetryLater: Likewise, for a posted message.
        schema.UnreadableRecord: There is one that cannot be read.
        sqlite3.Error: The file cannot be read.
    """
    found = await store.execute(lambda at: schema.find(at, key))
    perhaps = may_have_sent(origin.attempt) or bool(memory.metadata.get("caught_up"))
    if found is not None:
        found.posted = found.posted or origin.posted
        return Recording(store, found, perhaps)
    if store.is_full:
        text = "the record of answers is full: see answers_bytes and keep_answers"
        raise RetryLater(FULL_S, text) if origin.posted else Busy(text, FULL_S)
    recording = Recording(store, Record(key, memory, now, origin.posted), perhaps)
    recording.write_soon()
    return recording


async def open_dropped(
    store: AnswerStore, key: MessageKey, memory: Memory, origin: Origin, now: float
) -> Recording | None:
    """Return a new record of a message that is dropped; None if the message has a record already.

    Little of the message is kept, so that a flood does not fill the disk. Arguments are those of
    `open_recording`.
    """
    if await store.execute(lambda at: schema.find(at, key)) is not None:
        return None
    text = memory.content.text[:DROPPED_MOST]
    content = Content(text, source=key.source, channel_type=memory.content.channel_type)
    kept = Memory(
        content=content,
        id=memory.id,
        entity_id=memory.entity_id,
        agent_id=memory.agent_id,
        created_at=memory.created_at,
        room_id=memory.room_id,
        world_id=memory.world_id,
    )
    return Recording(store, Record(key, kept, now, origin.posted), origin.attempt > 1)


def hash_of(responses: list[Memory]) -> str:
    """Return a hash of the responses' contents; "" without responses."""
    if not responses:
        return ""
    contents = [response.content for response in responses]
    return hashlib.sha256(_encode(contents)).hexdigest()[:16]


class _Write:
    """An operation that stores a record as it is now: it may change before the thread runs it.

    Args:
        record: The record.
        on_disk: The steps and parts that need not be written.
    """

    def __init__(self, record: Record, on_disk: set[Mark]) -> None:
        steps = [step for step in record.steps if _mark(step) not in on_disk]
        parts = [part for part in record.parts if _mark(part) not in on_disk]
        self.marks = {*map(_mark, steps), *map(_mark, parts)}
        self._record = msgspec.structs.replace(
            record,
            why=msgspec.structs.replace(record.why),
            steps=[_copy_step(step) for step in steps],
            parts=[_copy_part(part) for part in parts],
        )

    def __call__(self, cursor: sqlite3.Cursor) -> None:
        schema.put(cursor, self._record)


def _mark(one: PlannedStep | Part) -> Mark:
    """Return what changes where a step or a part changes."""
    if isinstance(one, PlannedStep):
        return ("step", one.number, one.state, len(one.results))
    return ("part", one.number, one.outcome, len(one.problem))


def _copy_step(step: PlannedStep) -> PlannedStep:
    return msgspec.structs.replace(step, results=list(step.results))


def _copy_part(part: Part) -> Part:
    return msgspec.structs.replace(part)


def _log_error(done: "asyncio.Future[Any]") -> None:
    if not done.cancelled() and (error := done.exception()) is not None:
        log.warning("answers.not_written error=%s", error)
