"""The service's methods of log entries; see `DatabaseAdapter`."""

from typing import Any

from garrison.workers import Log, idempotent

from .methods import Methods


class LogMethods(Methods):
    """What happened: the use of models and the like."""

    async def create_log(self, log: Log, agent_id: str | None = None) -> str:
        """Store a log entry; return its id."""
        return await self._stores.logs.create(self._agent(agent_id), log)

    async def log(
        self,
        *,
        type: str,
        body: dict[str, Any],
        entity_id: str = "",
        room_id: str = "",
        agent_id: str | None = None,
    ) -> None:
        """elizaOS's form of `create_log`."""
        entry = Log(type=type, body=body, entity_id=entity_id, room_id=room_id)
        await self._stores.logs.create(self._agent(agent_id), entry)

    @idempotent
    async def get_logs(
        self,
        *,
        entity_id: str | None = None,
        room_id: str | None = None,
        type: str | None = None,
        count: int | None = None,
        offset: int = 0,
        agent_id: str | None = None,
    ) -> list[Log]:
        """Return log entries, newest first."""
        where = {"entity_id": entity_id, "room_id": room_id, "type": type}
        return await self._stores.logs.select(self._agent(agent_id), where, count, offset)

    @idempotent
    async def delete_log(self, log_id: str, agent_id: str | None = None) -> None:
        """Delete a log entry."""
        await self._stores.logs.delete(self._agent(agent_id), log_id)
