"""The service that posts to another from its own worker, and the one that is posted to."""

import asyncio
import time

from garrison.workers import Plugin, Runtime, Service


class Post(Service):
    """Posts to another of its kind, as an author's code does, and says how long it took."""

    service_type = "post"

    def __init__(self, runtime: Runtime | None = None) -> None:
        super().__init__(runtime)
        self.taken = 0
        self.more = asyncio.Condition()

    async def take(self, text: str) -> None:
        """Be posted to."""
        self.taken += 1
        async with self.more:
            self.more.notify_all()

    async def count(self) -> int:
        """Return how many messages were delivered."""
        taken: int = self.taken
        return taken

    async def until(self, count: int) -> None:
        """Return when so many were."""
        async with self.more:
            await self.more.wait_for(lambda: self.taken >= count)

    async def one_by_one(self, name: str, text: str, count: int) -> list[float]:
        """Return the time of each post until it was acknowledged, one after another."""
        times: list[float] = []
        for _ in range(count):
            began = time.perf_counter()
            await self.runtime.post(name, "take", text)
            times.append(time.perf_counter() - began)
        return times

    async def side_by_side(self, name: str, text: str, count: int, width: int) -> float:
        """Return the time of so many posts by `width` posters."""

        async def some() -> None:
            for _ in range(count // width):
                await self.runtime.post(name, "take", text)

        began = time.perf_counter()
        await asyncio.gather(*(some() for _ in range(width)))
        return time.perf_counter() - began


plugin = Plugin(name="post", services=[Post])
