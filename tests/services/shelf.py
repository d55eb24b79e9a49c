"""A database of an author's own: the agent's methods over a file of its own, for all agents."""

from typing import Self

from garrison.workers import Plugin, Runtime
from garrison.workers.services.agent.config import Config as AgentConfig
from garrison.workers.services.agent.database import AgentDatabase


class ShelfService(AgentDatabase):
    """Keeps memories in a file, as the agent does without a database."""

    service_type = "database"
    Config = AgentConfig

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        """Open the file."""
        shelf = cls(runtime)
        await shelf._start_database()
        return shelf

    async def stop(self) -> None:
        """Close the file."""
        await self._stop_database()


plugin = Plugin("shelf", services=[ShelfService])
