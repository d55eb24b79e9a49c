"""The mailbox's part of `garrison person`: messages that wait, dead letters, kept answers.

A message that is in delivery is deleted too, and its delivery goes on. A kept answer does not state
whom it was for: those of the person's platform are all cleared. The keys stay, which are ids alone:
a message that is posted again is still known.
"""

import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any

import msgspec

from garrison.workers import IsPerson, Runtime, is_about, is_person
from garrison.workers.sqlite import erasing
from garrison.workers.sqlite.forgetting import forget_again, overwrite

from . import checksums, damage, schema
from .admin import damaged_details, summary
from .checksums import Message
from .delivery import Dispatcher
from .store import Store
from .system_clock import SystemClock

SCANNED = 200  # rows of one transaction
SCANNED_BYTES = 8 * 1024 * 1024  # of their arguments, about

_decode = msgspec.msgpack.Decoder().decode

Counts = dict[str, int]


class ScannedMessages(msgspec.Struct, frozen=True):
    """Some messages that were looked through."""

    last: int  # seq; 0: there are no more
    found: list[Message]  # that may be of the person


class PersonErasure:
    """Finds, exports and erases what the mailbox has of persons.

    Args:
        runtime: The mailbox's.
        store: Where the messages are.
        clock: The mailbox's time.
        dispatcher: Forgets messages that were deleted.
    """

    def __init__(
        self, runtime: Runtime, store: Store, clock: SystemClock, dispatcher: Dispatcher
    ) -> None:
        self._runtime, self._store, self._clock = runtime, store, clock
        self._dispatcher = dispatcher

    async def forget(self, source: str, person: str) -> Counts:
        """Delete the messages of a person, and the kept answers of their platform.

        Raises:
            NotOverwritten: The disk is full.
        """
        matches = is_person(source, person)
        counts = await self._erase(lambda _: matches, person, source)
        await overwrite(self._store.execute, self._store.path)
        return counts

    async def apply_tombstones(self) -> None:
        """Delete the messages of whom a restored file brought back; nothing if it was looked
        through since."""
        await forget_again(
            self._runtime,
            self._store.execute,
            self._store.path,
            lambda: self._erase(self._was_forgotten),
        )

    async def export(self, source: str, person: str) -> AsyncIterator[dict[str, Any]]:
        """Yield the messages of a person."""
        matches = is_person(source, person)
        async for message in self._messages(lambda _: matches, person):
            shown = summary(message, self._clock.now())
            args, kwargs = _decode(message.args), _decode(message.kwargs)
            yield {"store": f"{shown['state']} messages", **shown, "args": args, "kwargs": kwargs}
        for lost in await self._store.execute(
            partial(damage.holding, wanted=erasing.needle(person))
        ):
            yield {"store": "damaged messages", **damaged_details(lost)}

    async def _erase(
        self, matches_of: Callable[[Message], IsPerson], person: str = "", source: str = ""
    ) -> Counts:
        ids = [message.id async for message in self._messages(matches_of, person)]
        counts = {"messages": 0, "damaged": 0, "results": 0}
        for start in range(0, len(ids), SCANNED):
            counts["messages"] += await self._drop(ids[start : start + SCANNED])
        if person:
            forget = partial(damage.drop_holding, wanted=erasing.needle(person))
            counts["damaged"] = await self._store.execute(forget)
        counts["results"] = await self._clear_results(source)
        return counts

    async def _messages(
        self, matches_of: Callable[[Message], IsPerson], person: str
    ) -> AsyncIterator[Message]:
        last, wanted = 0, erasing.needle(person) if person else b""
        while True:
            scanned = await self._store.execute(partial(_scan, after=last, wanted=wanted))
            for message in scanned.found:
                if _is_of(message, matches_of(message)):
                    yield message
            if not (last := scanned.last):
                return

    async def _drop(self, ids: list[str]) -> int:
        return await self._store.execute(
            partial(schema.drop, ids=ids), callback=lambda _: self._dispatcher.discard(ids)
        )

    async def _clear_results(self, source: str) -> int:
        count, after = 0, ""
        while True:
            cleared, after = await self._store.execute(
                partial(_clear_answers, source=source, after=after)
            )
            count += cleared
            if not after:
                return count

    def _was_forgotten(self, message: Message) -> IsPerson:
        at = self._clock.to_wall_time(message.posted_at)
        return lambda source, person: self._runtime.was_forgotten(source, person, at)


def _is_of(message: Message, matches: IsPerson) -> bool:
    try:
        values = [_decode(message.args), _decode(message.kwargs)]
    except (msgspec.MsgspecError, ValueError):  # it was never decoded here
        return False
    return is_about(values, matches)


def _scan(cursor: sqlite3.Cursor, after: int, wanted: bytes) -> ScannedMessages:
    """Read some messages; where `wanted` is no part of the arguments, without them.

    Args:
        cursor: Reads.
        after: The last seq that was seen.
        wanted: Bytes; empty: any message.
    """
    rows = cursor.execute(
        "SELECT seq, length(args) + length(kwargs), "
        "?1 = x'' OR instr(args, ?1) OR instr(kwargs, ?1) "
        f"FROM letters WHERE seq > ?2 ORDER BY seq LIMIT {SCANNED}",
        (wanted, after),
    ).fetchall()
    found, size, last = list[Message](), 0, after
    for seq, length, is_wanted in rows:
        size += length if is_wanted else 0
        if found and size > SCANNED_BYTES:
            return ScannedMessages(last, found)
        last = seq
        if is_wanted:
            query = f"SELECT {schema.READ} FROM letters WHERE seq = ?"
            found.append(checksums.message(cursor.execute(query, (seq,)).fetchone()))
    return ScannedMessages(last if len(rows) == SCANNED else 0, found)


def _clear_answers(cursor: sqlite3.Cursor, source: str, after: str) -> tuple[int, str]:
    """Clear some of the answers that are kept with their keys.

    Args:
        cursor: Of the open transaction.
        source: NAME of the platform; empty: of all.
        after: The last key that was seen.

    Returns:
        How many, and the last key; "" if there are no more.
    """
    rows = cursor.execute(
        "SELECT key, id, done_at, result, checksum FROM keys WHERE result IS NOT NULL "
        f"AND key > ? ORDER BY key LIMIT {SCANNED}",
        (after,),
    ).fetchall()
    count = 0
    for row in rows:
        key, message_id, done_at, result = checksums.key(row)
        if _is_answer(result or b"", source):
            schema.set_key(cursor, (key, message_id, done_at, None))
            count += 1
    return count, rows[-1][0] if len(rows) == SCANNED else ""


def _is_answer(result: bytes, source: str) -> bool:
    """Return whether a result is an answer of an agent to a message of a platform."""
    try:
        value = _decode(result)
    except (msgspec.MsgspecError, ValueError):
        return False
    responses = value.get("responses") if isinstance(value, Mapping) else None
    contents = [one.get("content") for one in responses or () if isinstance(one, Mapping)]
    sources = {one.get("source") for one in contents if isinstance(one, Mapping)}
    return bool(sources) and (not source or source in sources)
