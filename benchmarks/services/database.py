"""The agent's own database in a process of its own: what a call to one costs."""

from typing import Self

from garrison.workers import Plugin, Runtime
from garrison.workers.services.agent.config import Config as AgentConfig
from garrison.workers.services.agent.database import AgentDatabase


class DatabaseService(AgentDatabase):
    """The agent's own database, beside it."""

    service_type = "database"
    Config = AgentConfig

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        """Open the file."""
        service = cls(runtime)
        await service._start_database()
        return service

    async def stop(self) -> None:
        """Close the file."""
        await self._stop_database()


plugin = Plugin("database", services=[DatabaseService])
