"""The service whose calls are counted or not, and that says what they took, in seconds."""

import asyncio
import time

from garrison.workers import Plugin, Service


class Counted(Service):
    """Calls another service with its counting switched on or off, which no config does."""

    service_type = "counted"

    async def start_counts(self) -> None:
        """Keep the counts, to be switched on again."""
        self.kept = self.runtime.client.calls.counts

    async def side_by_side(
        self, name: str, count: int, width: int, counting: bool
    ) -> tuple[float, float]:
        """Make so many calls, `width` of them in flight; return their wall and processor time."""
        client = self.runtime.client
        client.calls.counts = self.kept if counting else None
        echo = self.runtime.get_service(name)
        assert echo is not None

        async def some() -> None:
            for _ in range(count // width):
                await echo.echo("Hello")

        began, used = time.perf_counter(), time.process_time()
        await asyncio.gather(*(some() for _ in range(width)))
        return time.perf_counter() - began, time.process_time() - used


plugin = Plugin(name="counted", services=[Counted])
