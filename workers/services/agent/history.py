"""A room's earlier messages, from the database service or else from the agent's own file.

If the database fails or is slow, the agent answers without it, and keeps the messages in its file
until the database takes them. Where it does not run, it is not waited for: not in backoff, and in
a start that takes long once alone.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from garrison.ipc import State
from garrison.workers import DatabaseAdapter, Memory, Runtime, state
from garrison.workers.sqlite.store import StoreFull

from . import prompt
from .cache import Cache
from .config import Config
from .memory.file_database import FileDatabase
from .memory.memory_rows import Wanted

log = logging.getLogger(__name__)

EARLIER = "earlier"  # key in a message's metadata: the messages before it, the oldest first

T = TypeVar("T")


class ConversationHistory:
    """The messages of the rooms.

    Args:
        runtime: The agent's.
        config: For the conversation's length and the database's timeout.
        own: Stores memories if there is no service of type `database`, or while that fails.
    """

    def __init__(self, runtime: Runtime, config: Config, own: FileDatabase) -> None:
        self._runtime, self._config, self._own = runtime, config, own
        self._is_away = False  # a query waited in vain, and the database has not run since then
        self._first_ids: Cache[tuple[str, str]] = Cache(config.rooms, 1 << 20)
        self._writing: set[asyncio.Future[int]] = set()
        # By room: the number of changes before, and its messages, which are being read.
        self._ahead: dict[str, tuple[int, asyncio.Future[list[Memory]]]] = {}

    async def conversation(self, memory: Memory) -> list[Memory]:
        """Return the messages of the room, the oldest first and this message last."""
        room, length = memory.room_id, self._config.conversation_length
        if not room:
            return [memory]
        changes, reading = self._ahead.pop(room, (-1, None))
        if reading is not None and changes == self._own.changes:
            found = await reading
        else:
            found = await self._messages(room, length + 1)
        source = memory.content.source  # two platforms may use the same room id
        before = [
            one for one in found if one.id != memory.id and one.content.source in {"", source}
        ]
        key = (source, room)
        shown = prompt.recent_messages(
            [memory, *before], length, (self._first_ids.get(key) or b"").decode()
        )
        self._first_ids.put(key, shown[0].id.encode())
        return shown

    def read_ahead(self, memory: Memory) -> None:
        """Begin to read the conversation in the file, for `conversation`: beside what the answer
        does before it needs that."""
        room = memory.room_id
        if not room or self._runtime.has_database:
            return
        reading = asyncio.ensure_future(self._messages(room, self._config.conversation_length + 1))
        self._ahead[room] = (self._own.changes, reading)
        if len(self._ahead) > self._config.rooms:
            del self._ahead[next(iter(self._ahead))]

    async def restore(self, memory: Memory) -> None:
        """Store the earlier messages that a message carries, if the room's history lacks them.

        The caller still has them after the agent's process was restarted and lost them.
        """
        try:
            carried = msgspec.convert(memory.metadata.get(EARLIER, []), list[Memory])
        except msgspec.ValidationError:  # the metadata has another meaning
            return
        memory.metadata.pop(EARLIER, None)
        earlier = [one for one in carried if one.room_id == memory.room_id]
        earlier = earlier[-self._config.conversation_length :]
        if not earlier:
            return
        known = await self._count(memory.room_id)
        fails = False
        for one in earlier if known is not None and known < len(earlier) else ():
            if fails:  # do not delay the answer further
                self._keep(self._with_agent(one))
            else:
                fails = not await self.remember(one)

    async def remember(self, memory: Memory) -> bool:
        """Store a message; False if the database failed, and it is in the file for now.

        `written` waits for the file.
        """
        memory = self._with_agent(memory)
        if self._runtime.has_database:
            stored = await self._query(lambda adapter: adapter.create_memory(memory))
            if stored is not None:
                return True
        self._keep(memory)
        return not self._runtime.has_database

    def _with_agent(self, memory: Memory) -> Memory:
        if memory.agent_id:
            return memory
        return msgspec.structs.replace(memory, agent_id=self._runtime.agent_id)

    def _keep(self, memory: Memory) -> None:
        """Store a message in the file."""
        try:
            writing = self._own.remember(memory, self._runtime.agent)
        except ValueError as error:  # larger than all together may be
            log.warning("memory.not_stored error=%s", error)
            return
        self._writing.add(writing)
        writing.add_done_callback(self._written)

    async def written(self) -> None:
        """Wait until the messages so far outlast this process."""
        if self._writing:
            await asyncio.wait(set(self._writing))

    async def get(self, memory_id: str) -> Memory | None:
        """Return a stored message; None if it is unknown."""
        if self._runtime.has_database:
            return await self._query(lambda adapter: adapter.get_memory_by_id(memory_id))
        return await _or_none(self._own.get_memory_by_id(memory_id, self._runtime.agent))

    async def _messages(self, room: str, count: int) -> list[Memory]:
        """Return the latest messages of a room, the newest first."""
        found: list[Memory] = []
        if self._runtime.has_database:
            query = self._query(lambda adapter: adapter.get_memories(room_id=room, count=count))
            found = await query or []
            if not self._own.store.count("memories").rows:
                return found
        wanted = Wanted(agent=self._runtime.agent, table="messages", rooms=[room])
        known = {one.id for one in found}
        own = await _or_none(self._own.get_memories(wanted, count)) or []
        more = [one for one in own if one.id not in known]  # what the database has not taken yet
        return sorted([*found, *more], key=lambda one: -one.created_at)[:count] if found else more

    async def _count(self, room: str) -> int | None:
        """Return the number of messages of a room; None if the database fails."""
        if self._runtime.has_database:
            return await self._query(lambda adapter: adapter.count_memories(room))
        wanted = Wanted(agent=self._runtime.agent, table="messages", rooms=[room])
        return await _or_none(self._own.count_memories(wanted))

    def _written(self, writing: "asyncio.Future[int]") -> None:
        self._writing.discard(writing)
        if not writing.cancelled() and (error := writing.exception()) is not None:
            log.warning("memory.not_stored error=%s", error)

    async def _query(self, query: Callable[[DatabaseAdapter], Awaitable[T]]) -> T | None:
        """Return a query's result; None if the database fails, is slow, or is left out."""
        try:
            adapter = self._runtime.database_adapter
            if self._leaves_out(state(adapter)):
                return None
            async with asyncio.timeout(self._config.provider_timeout):
                return await query(adapter)
        except Exception as error:  # noqa: BLE001 (the agent answers without the database)
            # one that has just been killed is back sooner than that
            self._is_away = isinstance(error, TimeoutError)
            log.warning("database.failed error=%s", str(error) or "timeout")
            return None

    def _leaves_out(self, now: State | None) -> bool:
        """Return whether a database in this state is not called; log the beginning of that."""
        if now is State.RUNNING:
            self._is_away = False
        elif now is State.BACKOFF and not self._is_away:
            self._is_away = True
            log.warning("database.left_out it is in backoff: answers go without it until it runs")
        return self._is_away


async def _or_none(reading: Awaitable[T]) -> T | None:
    """Return what is read in the file; None if it cannot be read: the agent answers without it."""
    try:
        return await reading
    except (StoreFull, sqlite3.Error) as error:
        log.warning("memory.not_read error=%s", error)
        return None
