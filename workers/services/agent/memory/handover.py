"""Hands over what the agent's file holds to the database that is configured in its place.

In batches, tasks first: each is removed from the file once the database has it. What was sent
when the process was killed is sent again, and stored once, because ids stay the same.
"""

import asyncio
import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Awaitable
from functools import partial
from typing import Any

from garrison.ipc import CallError, InvalidCall, RemoteError
from garrison.ipc import State as ServiceState
from garrison.workers import DatabaseAdapter, Runtime, state, with_timeout
from garrison.workers.sqlite.store import StoreFull

from . import handover_rows as rows
from . import schema
from .store import MemoryStore

log = logging.getLogger(__name__)

BATCH_S = 30.0  # for the database to store a batch
RETRY_S = 30.0  # before another attempt
REFUSED_MOST = 20  # rows in a row; more are a fault of the database, not theirs
TO, AT = "handed_over_to", "handed_over_at"  # notes about the file
NEEDS = {"tasks": "create_task", "memories": "create_memory", "cache": "set_cache"}

Row = tuple[str, int]  # table and number


class HandOver:
    """The way of the file's contents to a database.

    Args:
        runtime: The agent's.
        store: The file.
    """

    def __init__(self, runtime: Runtime, store: MemoryStore) -> None:
        self._runtime, self._store = runtime, store
        self._changed = asyncio.Event()
        self._generation = ("", 0)  # of the database that refused rows
        self._refused: set[Row] = set()
        self._in_a_row: list[Row] = []  # refused, one after the other
        self._lacking: set[str] = set()  # tables that the database does not have
        self._done: Counter[str] = Counter()

    async def run(self) -> None:
        """Hand over whenever a database runs, and note when the file is used again."""
        self._runtime.client.on_service_change(lambda name: self._changed.set())
        while True:
            self._changed.clear()
            try:
                await self._step()
            except (CallError, AttributeError, StoreFull) as error:  # gone meanwhile, a full disk
                log.warning("memory.handover_paused error=%s", error)
            wait = RETRY_S if self._runtime.has_database and self._rest() else None
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _step(self) -> None:
        if not self._runtime.has_database:
            await self._use_file_again()
            return
        adapter = self._runtime.database_adapter
        if state(adapter) is not ServiceState.RUNNING:
            return
        name = repr(adapter).removeprefix("<service ").partition(":")[0]
        generation = (name, self._runtime.client.generation_of(name))
        if generation != self._generation:
            self._generation, self._refused, self._lacking = generation, set(), set()
        if self._rest():
            await self._hand_over(with_timeout(adapter, BATCH_S), name)

    def _rest(self) -> int:
        """Return how many rows are still to be handed over."""
        there = sum(self._store.count(table).rows for table in NEEDS if table not in self._lacking)
        return there - sum(table not in self._lacking for table, _ in self._refused)

    async def _hand_over(self, adapter: DatabaseAdapter, name: str) -> None:
        """Hand over everything.

        Raises:
            CallError: The database failed; the rest is still in the file.
        """
        try:
            for table, hand_over in (
                ("tasks", self._tasks),
                ("memories", self._memories),
                ("cache", self._values),
            ):
                if self._has(adapter, name, table):
                    await hand_over(adapter)
        except CallError:
            await self._report(name)
            raise
        await self._report(name)

    async def _report(self, name: str) -> None:
        done, self._done = self._done, Counter()
        if done.total():
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            await self._store.write(partial(_note, name=name, at_time=now))
            log.info(
                "memory.handed_over database=%s memories=%d tasks=%d cached=%d left=%d",
                name,
                done["memories"],
                done["tasks"],
                done["cache"],
                self._rest() + len(self._refused),
            )

    def _has(self, adapter: DatabaseAdapter, name: str, table: str) -> bool:
        """Return whether the database has the method that a table needs."""
        if hasattr(adapter, NEEDS[table]):
            return True
        if self._store.count(table).rows and table not in self._lacking:
            log.warning("memory.not_handed_over table=%s: %s has no %s", table, name, NEEDS[table])
        self._lacking.add(table)
        return False

    async def _tasks(self, adapter: DatabaseAdapter) -> None:
        after = 0
        while batch := await self._store.execute(partial(rows.tasks, after=after)):
            after, stored = batch[-1].number, list[int]()
            for one in batch:
                row = ("tasks", one.number)
                if row not in self._refused and await self._takes(
                    row, adapter.create_task(one.task, agent_id=one.agent)
                ):
                    stored.append(one.number)
            await self._remove("tasks", stored)

    async def _memories(self, adapter: DatabaseAdapter) -> None:
        after, at_once = 0, hasattr(adapter, "create_memories")
        while batch := await self._store.execute(partial(rows.memories, after=after)):
            after = max(batch.rows)
            left = {
                number: memory
                for number, memory in batch.rows.items()
                if ("memories", number) not in self._refused
            }
            if not (left and at_once and await self._takes_all(adapter, batch, left)):
                stored = [
                    number
                    for number, memory in left.items()
                    if await self._takes(
                        ("memories", number),
                        adapter.create_memory(
                            memory, batch.table, memory.unique, agent_id=batch.agent
                        ),
                    )
                ]
                await self._remove("memories", stored)

    async def _takes_all(
        self, adapter: DatabaseAdapter, batch: rows.Memories, left: dict[int, Any]
    ) -> bool:
        """Store memories at once; False if one of them is refused."""
        try:
            await adapter.create_memories(list(left.values()), batch.table, agent_id=batch.agent)
        except (RemoteError, InvalidCall):
            return False
        await self._remove("memories", list(left))
        return True

    async def _values(self, adapter: DatabaseAdapter) -> None:
        after = 0
        while batch := await self._store.execute(
            partial(rows.values, after=after, now=time.time())
        ):
            after, stored = batch[-1].number, list[int]()
            for one in batch:
                row = ("cache", one.number)
                if row not in self._refused and await self._takes(row, _put(adapter, one)):
                    stored.append(one.number)
            await self._remove("cache", stored)

    async def _takes(self, row: Row, storing: Awaitable[Any]) -> bool:
        """Store one row; False if the database refuses it: it stays in the file.

        Raises:
            CallError: The database fails, or refuses one row after the other.
        """
        try:
            await storing
        except (RemoteError, InvalidCall) as error:
            self._refused.add(row)
            self._in_a_row.append(row)
            if len(self._in_a_row) == 1:
                log.warning("memory.not_taken table=%s error=%s", row[0], error)
            if len(self._in_a_row) < REFUSED_MOST:
                return False
            self._refused.difference_update(self._in_a_row)
            self._in_a_row.clear()
            raise
        self._in_a_row.clear()
        return True

    async def _remove(self, table: str, numbers: list[int]) -> None:
        if numbers:
            await self._store.write(partial(rows.remove, table=table, numbers=numbers))
            self._done[table] += len(numbers)

    async def _use_file_again(self) -> None:
        """Say what the file lacks, where a database that took its contents is not configured."""
        name = await self._store.execute(partial(schema.note, name=TO))
        if name:
            at_time = await self._store.execute(partial(schema.note, name=AT))
            log.warning(
                "memory.file_used_again database=%s handed_over=%s: it is not configured any more; "
                "what was stored until now is in it alone",
                name,
                at_time,
            )
            await self._store.write(partial(_note, name="", at_time=""))


async def _put(adapter: DatabaseAdapter, one: rows.OneValue) -> None:
    """Store a cached value, unless the database has a newer one."""
    if await adapter.get_cache(one.key, agent_id=one.agent) is not None:
        return
    left = {} if one.expires is None else {"ttl": max(one.expires - time.time(), 0.001)}
    await adapter.set_cache(one.key, one.value, **left, agent_id=one.agent)


def _note(cursor: sqlite3.Cursor, name: str, at_time: str) -> None:
    schema.set_note(cursor, TO, name)
    schema.set_note(cursor, AT, at_time)
