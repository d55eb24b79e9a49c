"""What the agent's file of memories keeps of a person: found, exported, erased."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from garrison.workers import Runtime, is_person
from garrison.workers.sqlite.forgetting import forget_again, overwrite

from . import erasing
from .erasing import IsOf, Place
from .store import MemoryStore

Counts = dict[str, int]


class MemoryErasure:
    """Finds, exports and erases memories and tasks of persons, and values cached under their id.

    Args:
        runtime: The agent's.
        store: The file.
    """

    def __init__(self, runtime: Runtime, store: MemoryStore) -> None:
        self._runtime, self._store = runtime, store

    async def forget(self, source: str, person: str) -> Counts:
        """Erase what is kept of a person; return how much, by kind.

        Raises:
            NotOverwritten: The disk is full.
        """
        matches = is_person(source, person)
        counts = await self._erase(lambda of, one, _: matches(of, one), person)
        seqs = await self._store.execute(partial(erasing.cached, person=person))
        counts["cached values"] = await self._delete("cache", seqs)
        await overwrite(self._store.write, self._store.path)
        return counts

    async def apply_tombstones(self) -> None:
        """Erase whom a restored file brought back; nothing if it was looked through since.

        Raises:
            NotOverwritten: The disk is full.
        """
        await forget_again(
            self._runtime,
            self._store.write,
            self._store.path,
            lambda: self._erase(self._runtime.was_forgotten),
        )

    async def export(self, source: str, person: str) -> AsyncIterator[dict[str, Any]]:
        """Yield the memories of a person with the answers to them, and their tasks."""
        matches = is_person(source, person)
        async for seqs in self._memories(lambda of, one, _: matches(of, one), person):
            read = partial(erasing.read_memories, seqs=seqs)
            for memory in await self._store.execute(read):
                yield {"store": "memories", "memory": memory}
        find = partial(erasing.tasks, is_of=lambda of, one, _: matches(of, one), person=person)
        seqs = await self._store.execute(find)
        for task in await self._store.execute(partial(erasing.read_tasks, seqs=seqs)):
            yield {"store": "tasks", "task": task}

    async def _erase(self, is_of: IsOf, person: str = "") -> Counts:
        counts = {"memories": 0}
        async for seqs in self._memories(is_of, person):
            counts["memories"] += await self._delete("memories", seqs)
        seqs = await self._store.execute(partial(erasing.tasks, is_of=is_of, person=person))
        return counts | {"tasks": await self._delete("tasks", seqs)}

    async def _memories(self, is_of: IsOf, person: str) -> AsyncIterator[list[int]]:
        """Yield the memories of a person and the answers to them, some at a time."""
        last = 0
        while True:
            scan = partial(erasing.memories, after=last, is_of=is_of, person=person)
            scanned = await self._store.execute(scan)
            places = dict[Place, set[str]]()
            for place, memory_id in scanned.found.values():
                places.setdefault(place, set()).add(memory_id)
            seqs = dict.fromkeys(scanned.found)
            for place, ids in places.items():
                find = partial(erasing.answers, place=place, ids=ids)
                seqs |= dict.fromkeys(await self._store.execute(find))
            if seqs:
                yield list(seqs)
            if not (last := scanned.last):
                return

    async def _delete(self, table: str, seqs: list[int]) -> int:
        return await self._store.write(partial(erasing.delete, table=table, seqs=seqs))
