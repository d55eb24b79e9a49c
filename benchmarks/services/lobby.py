"""A platform whose people and rooms are in its own process: a message in, its answer out."""

import asyncio
import itertools
import time

from garrison.workers import Content, Memory, Outgoing, Platform, Plugin, Runtime


class LobbyService(Platform):
    """Takes the time from a message to the answer to it."""

    service_type = "lobby"

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._numbers = itertools.count(1)
        self._pending: dict[str, asyncio.Future[float]] = {}

    async def one_by_one(self, text: str, count: int) -> list[float]:
        """Send a text in one room, again after each answer; return the seconds of each."""
        return [await self._exchange("room-0", text) for _ in range(count)]

    async def in_rooms(self, text: str, count: int, rooms: int) -> float:
        """Send a text `count` times in each of `rooms` rooms, at once; return the total seconds."""
        began = time.perf_counter()
        exchanges = (
            self._exchange(f"room-{room}", text) for _ in range(count) for room in range(rooms)
        )
        await asyncio.gather(*exchanges)
        return time.perf_counter() - began

    async def deliver(self, m: Outgoing) -> str:
        """Note the time."""
        if (answered := self._pending.pop(m.reply_to or "", None)) is not None:
            answered.set_result(time.perf_counter())
        return m.id

    async def _exchange(self, room: str, text: str) -> float:
        number = str(next(self._numbers))
        answered: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._pending[number] = answered
        began = time.perf_counter()
        memory = Memory(
            content=Content(text), id=number, room_id=room, entity_id=f"person-{number}"
        )
        await self.receive(memory, room, number)
        return await answered - began


plugin = Plugin("lobby", services=[LobbyService])
