"""A database whose memories outlive its process: a line of JSON for each, in its data folder."""

from pathlib import Path
from typing import Self

import msgspec

from garrison.workers import Memory, Plugin, Runtime, as_memory
from garrison.workers.services.agent.config import Config as AgentConfig
from garrison.workers.services.agent.database import MemoryDatabase


class ShelfService(MemoryDatabase):
    """Has the agent's own database, and writes each message down before it is stored there."""

    service_type = "database"
    Config = AgentConfig

    path: Path

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        """Read what was written; the line of a killed process may be cut off."""
        shelf = cls(runtime)
        shelf._open_database()
        shelf.path = runtime.data_folder / "memories"
        lines = shelf.path.read_bytes().splitlines() if shelf.path.exists() else []
        for line in lines:
            try:
                table, memory = msgspec.json.decode(line, type=tuple[str, Memory])
            except msgspec.DecodeError:
                continue
            await super(ShelfService, shelf).create_memory(memory, table)
        return shelf

    async def create_memory(
        self, memory: Memory, table_name: str = "messages", unique: bool = False
    ) -> str:
        """Write a memory down, and store it."""
        memory = as_memory(memory)
        with self.path.open("ab") as file:
            file.write(msgspec.json.encode((table_name, memory)) + b"\n")
        return await super().create_memory(memory, table_name, unique)


plugin = Plugin("shelf", services=[ShelfService])
