"""What pages use of recorded lines and events: reading and following."""

from garrison.ipc.log_events import LogEvent
from garrison.workers import Runtime

from .following import Following
from .live_events import LiveEvents
from .live_lines import LiveLines
from .reading import RecordReading


class Records:
    """Reads pages, and follows what comes after them.

    Args:
        runtime: The service's.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.reading = RecordReading(runtime)
        self.lines: Following[tuple[str, str], LiveLines] = Following(lambda one: len(one[1]))
        self.events: Following[LogEvent, LiveEvents] = Following(lambda one: len(one.text()))

    async def close(self) -> None:
        """Follow no more."""
        await self.lines.close()
        await self.events.close()
