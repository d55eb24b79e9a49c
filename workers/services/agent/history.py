"""A room's earlier messages, from the database service or else from the agent's own memory.

If the database fails or is slow, the agent answers without it. Where it does not run, it is not
waited for: not in backoff, and in a start that takes long once alone.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from garrison.ipc import State
from garrison.workers import DatabaseAdapter, Memory, Runtime, state

from . import prompt
from .config import Config
from .tasks import Cache

log = logging.getLogger(__name__)

EARLIER = "earlier"  # key in a message's metadata: the messages before it, the oldest first

T = TypeVar("T")


class ConversationHistory:
    """The messages of the rooms.

    Args:
        runtime: The agent's.
        config: For the conversation's length and the database's timeout.
        own: Stores memories if there is no service of type `database`.
    """

    def __init__(self, runtime: Runtime, config: Config, own: DatabaseAdapter) -> None:
        self._runtime, self._config, self._own = runtime, config, own
        self._is_away = False  # a query waited in vain, and the database has not run since then
        self._first_ids: Cache[tuple[str, str]] = Cache(config.rooms, 1 << 20)

    async def conversation(self, memory: Memory) -> list[Memory]:
        """Return the messages of the room, the oldest first and this message last."""
        room, length = memory.room_id, self._config.conversation_length
        if not room:
            return [memory]
        found = await self._query(
            lambda adapter: adapter.get_memories(room_id=room, count=length + 1)
        )
        source = memory.content.source  # two platforms may use the same room id
        before = [
            one for one in found or () if one.id != memory.id and one.content.source in {"", source}
        ]
        key = (source, room)
        shown = prompt.recent_messages(
            [memory, *before], length, (self._first_ids.get(key) or b"").decode()
        )
        self._first_ids.put(key, shown[0].id.encode())
        return shown

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
        known = await self._query(lambda adapter: adapter.count_memories(memory.room_id))
        for one in earlier if known is not None and known < len(earlier) else ():
            if not await self.remember(one):
                return  # the database fails: do not delay the answer further

    async def remember(self, memory: Memory) -> bool:
        """Store a message; False if that failed."""
        if not memory.agent_id:
            memory = msgspec.structs.replace(memory, agent_id=self._runtime.agent_id)
        return await self._query(lambda adapter: adapter.create_memory(memory)) is not None

    async def get(self, memory_id: str) -> Memory | None:
        """Return a stored message; None if it is unknown."""
        return await self._query(lambda adapter: adapter.get_memory_by_id(memory_id))

    async def _query(self, query: Callable[[DatabaseAdapter], Awaitable[T]]) -> T | None:
        """Return a query's result; None if the database fails or is slow."""
        try:
            if not self._runtime.has_database:
                return await query(self._own)  # directly, not over the bus
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
