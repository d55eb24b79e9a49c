"""What the agent remembers of a room, asked of the database, or of itself where there is none.

A database that fails or is late costs no answer: people wait for it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from garrison.workers import DatabaseAdapter, Memory, Runtime

from . import prompt
from .config import Config
from .tasks import Cache

log = logging.getLogger(__name__)

EARLIER = "earlier"  # in a message's metadata: those before it, the oldest first

T = TypeVar("T")


class ConversationHistory:
    """What was said in the rooms.

    Args:
        runtime: The agent's.
        config: How much a model is shown, and how long a database may take.
        own: Who keeps memories where there is no service of type `database`.
    """

    def __init__(self, runtime: Runtime, config: Config, own: DatabaseAdapter) -> None:
        self._runtime, self._config, self._own = runtime, config, own
        self._beginnings: Cache[tuple[str, str]] = Cache(config.rooms, 1 << 20)

    async def conversation(self, memory: Memory) -> list[Memory]:
        """Return what was said in the room, the oldest first, the message last."""
        room, length = memory.room_id, self._config.conversation_length
        if not room:
            return [memory]
        found = await self._ask(
            lambda adapter: adapter.get_memories(room_id=room, count=length + 1)
        )
        source = memory.content.source  # two platforms may call a channel the same
        before = [
            one for one in found or () if one.id != memory.id and one.content.source in {"", source}
        ]
        key = (source, room)
        shown = prompt.recent_messages(
            [memory, *before], length, (self._beginnings.get(key) or b"").decode()
        )
        self._beginnings.put(key, shown[0].id.encode())
        return shown

    async def learn(self, memory: Memory) -> None:
        """Remember the messages of its room that a message brings along, where they are unknown:
        an agent that was killed has forgotten them, and who asks has not."""
        try:
            brought = msgspec.convert(memory.metadata.get(EARLIER, []), list[Memory])
        except msgspec.ValidationError:  # an author's own word
            return
        memory.metadata.pop(EARLIER, None)
        earlier = [one for one in brought if one.room_id == memory.room_id]
        earlier = earlier[-self._config.conversation_length :]
        if not earlier:
            return
        known = await self._ask(lambda adapter: adapter.count_memories(memory.room_id))
        for one in earlier if known is not None and known < len(earlier) else ():
            if not await self.remember(one):
                return  # the database is late or gone: people wait for the answer

    async def remember(self, memory: Memory) -> bool:
        """Keep a message; False where that failed."""
        if not memory.agent_id:
            memory = msgspec.structs.replace(memory, agent_id=self._runtime.agent_id)
        return await self._ask(lambda adapter: adapter.create_memory(memory)) is not None

    async def known(self, memory_id: str) -> Memory | None:
        """Return a message that was kept."""
        return await self._ask(lambda adapter: adapter.get_memory_by_id(memory_id))

    async def _ask(self, ask: Callable[[DatabaseAdapter], Awaitable[T]]) -> T | None:
        """Return what a database says; None where it fails or is late."""
        try:
            if not self._runtime.has_database:
                return await ask(self._own)  # no call to itself over the bus
            async with asyncio.timeout(self._config.provider_timeout):
                return await ask(self._runtime.database_adapter)
        except Exception as error:  # noqa: BLE001 (whatever it is, an answer goes before it)
            log.warning("database.failed error=%s", str(error) or "it was late")
            return None
