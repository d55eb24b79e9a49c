"""A database in the memory of a process of its own: what a call to one costs, without a disk."""

from typing import Self

from garrison.workers import Plugin, Runtime
from garrison.workers.services.agent.config import Config as AgentConfig
from garrison.workers.services.agent.database import MemoryDatabase


class DatabaseService(MemoryDatabase):
    """The agent's own database, beside it."""

    service_type = "database"
    Config = AgentConfig

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        """Begin empty."""
        service = cls(runtime)
        service._open_database()
        return service


plugin = Plugin("database", services=[DatabaseService])
