"""The agent's part of `garrison person`: what it has recorded and remembers of a person.

A message of the person that is being answered is finished first, and erased with its answer. One
that arrives meanwhile is a new one.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Any, Protocol

import msgspec

from garrison.ipc import CallError, State
from garrison.workers import Busy, IsPerson, Memory, Runtime, is_person
from garrison.workers.sqlite.forgetting import forget_again, overwrite

from .memory.erasure import MemoryErasure
from .record import erasing
from .record.erasing import IsOf
from .record.rows import MessageKey, Record
from .record.store import AnswerStore

log = logging.getLogger(__name__)

IDS = 500  # of sends, in one call to a platform
BUSY_S = 5.0  # before the command is worth repeating
PLATFORM_S = 60.0  # for a platform to find sends

Counts = dict[str, int]
Found = list[tuple[int, MessageKey]]


class InProgress(Protocol):
    """A message that is being answered."""

    @property
    def memory(self) -> Memory:
        """Return the message."""
        ...

    @property
    def ended(self) -> asyncio.Event:
        """Return what is set when nothing more of it is written."""
        ...


class Finishing(msgspec.Struct, frozen=True):
    """The messages that are being answered."""

    works: Mapping[MessageKey, InProgress]
    seconds: float  # to wait for those of a person
    forgotten: Callable[[MessageKey], object]  # called with each message that was erased

    async def wait(self, matches: IsPerson) -> None:
        """Wait until the present messages of a person are answered.

        Raises:
            Busy: One is not in time.
        """
        memories = [(work.memory, work.ended) for work in self.works.values()]
        ends = [
            ended for memory, ended in memories if matches(memory.content.source, memory.entity_id)
        ]
        try:
            async with asyncio.timeout(self.seconds):
                for ended in ends:
                    await ended.wait()
        except TimeoutError:
            text = "a message of this person is still being answered; repeat the command"
            raise Busy(text, BUSY_S) from None


class RecordErasure:
    """Finds, exports and erases the records of persons.

    Args:
        runtime: The agent's.
        store: The record of answers.
        finishing: The messages that are being answered.
    """

    def __init__(self, runtime: Runtime, store: AnswerStore, finishing: Finishing) -> None:
        self._runtime, self._store, self._finishing = runtime, store, finishing

    async def forget(self, source: str, person: str) -> Counts:
        """Erase the records of a person, and what their platform keeps of the answers.

        Args:
            source: NAME of the platform's service.
            person: The id there.

        Raises:
            Busy: A message of theirs is still being answered.
            NotOverwritten: The disk is full.
        """
        matches = is_person(source, person)
        await self._finishing.wait(matches)
        counts = await self._erase(lambda of, one, _: matches(of, one), person)
        await overwrite(self._store.execute, self._store.path)
        return counts

    async def apply_tombstones(self) -> None:
        """Erase whom a restored file brought back; nothing if it was looked through since.

        Raises:
            NotOverwritten: The disk is full.
        """
        await forget_again(
            self._runtime,
            self._store.execute,
            self._store.path,
            lambda: self._erase(self._runtime.was_forgotten),
        )

    async def export(self, source: str, person: str) -> AsyncIterator[dict[str, Any]]:
        """Yield each record of a person with its answer, and what their platform keeps of that."""
        matches = is_person(source, person)
        async for found in self._scan(lambda of, one, _: matches(of, one), person):
            for record in await self._store.execute(
                partial(erasing.records, keys=[key for _, key in found])
            ):
                yield {"store": "answers", **exported(record)}
                ids = [part.memory.id for part in record.parts]
                for row in await self._of_platform(record.key.source, "export_sends", ids, list):
                    yield {"store": "sends", **row}

    async def _erase(self, is_of: IsOf, person: str = "") -> Counts:
        counts: Counts = {"messages": 0, "rows": 0, "sends": 0, "contexts": 0}
        cleared = set[tuple[str, str]]()
        async for found in self._scan(is_of, person):
            old = [(seq, key) for seq, key in found if key not in self._finishing.works]
            # What others keep goes first: the rows, which lead there, are deleted last.
            for room in {(key.source, key.room) for _, key in old} - cleared:
                clear = partial(erasing.clear_context, room=room)
                counts["contexts"] += await self._store.execute(clear)
                cleared.add(room)
            for source in {key.source for _, key in old}:
                seqs = [seq for seq, key in old if key.source == source]
                ids = await self._store.execute(partial(erasing.part_ids, seqs=seqs))
                counts["sends"] += await self._of_platform(source, "forget_sends", ids, int)
                counts["rows"] += await self._store.execute(partial(erasing.delete, seqs=seqs))
            counts["messages"] += len(old)
            for _, key in old:
                self._finishing.forgotten(key)
        return counts

    async def _scan(self, is_of: IsOf, person: str) -> AsyncIterator[Found]:
        """Yield the person's messages, some at a time."""
        last = 0
        while True:
            scanned = await self._store.execute(
                partial(erasing.scan, after=last, is_of=is_of, person=person)
            )
            if scanned.found:
                yield scanned.found
            if not (last := scanned.last):
                return

    async def _of_platform(self, source: str, method: str, ids: list[str], kind: type) -> Any:
        """Return the sum of a platform's answers about sends; of one that does not run, nothing.

        Args:
            source: Its NAME.
            method: Takes ids.
            ids: Of responses.
            kind: What it returns.
        """
        result, client = kind(), self._runtime.client
        entry = client.directory.get(source)
        known = () if entry is None or entry.state is not State.RUNNING else entry.manifest.methods
        if not any(one.name == method for one in known):
            return result
        for start in range(0, len(ids), IDS):
            try:
                result += await client.call_method(
                    source, method, (ids[start : start + IDS],), kind, PLATFORM_S, idempotent=True
                )
            except CallError as error:
                log.warning("person.sends_kept source=%s error=%s", source, error)
                break
        return result


class AgentErasure:
    """Finds, exports and erases what the agent keeps of persons.

    Args:
        records: Its record of answers.
        memories: Its memories.
    """

    def __init__(self, records: RecordErasure, memories: MemoryErasure) -> None:
        self._records, self._memories = records, memories

    async def forget(self, source: str, person: str) -> Counts:
        """Erase what is kept of a person; return how much, by kind.

        Args:
            source: NAME of the platform's service.
            person: The id there.

        Raises:
            Busy: A message of theirs is still being answered.
            NotOverwritten: The disk is full.
        """
        recorded = await self._records.forget(source, person)
        return recorded | await self._memories.forget(source, person)  # answers are remembered

    async def export(self, source: str, person: str) -> AsyncIterator[dict[str, Any]]:
        """Yield what is kept of a person; `store` is the kind."""
        for part in (self._records, self._memories):
            async for row in part.export(source, person):
                yield row

    async def apply_tombstones(self) -> None:
        """Erase whom a restored file brought back.

        Raises:
            NotOverwritten: The disk is full.
        """
        await self._records.apply_tombstones()
        await self._memories.apply_tombstones()


def exported(record: Record) -> dict[str, Any]:
    """Return everything that is recorded of a message, as plain values."""
    value: dict[str, Any] = msgspec.to_builtins(record)
    return value
