"""Settles tasks; those of one moment share a statement on a server, where each is a round trip."""

import asyncio
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from . import dialect, documents, task_statements
from .database import Database

GROUP_MOST = 250  # tasks of one statement

Key = tuple[str, str]  # agent and id of a task


class Group:
    """Tasks whose same columns are changed, in the order of their arrival."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.leases: dict[Key, str] = {}
        self.values: list[Mapping[str, Any]] = []
        self.is_open = True
        self.settled: asyncio.Task[set[Key]] | None = None


class Settler:
    """Groups what is settled in one turn of the loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._groups: dict[tuple[str, ...], Group] = {}

    async def settle(self, agent: str, task_id: str, lease: str, values: Mapping[str, Any]) -> bool:
        """Change columns of a task whose lease this is; False if it is not, and change nothing."""
        key, names = (agent, task_id), tuple(values)
        group = self._groups.get(names)
        if group is None or not group.is_open or key in group.leases:
            group = self._groups[names] = Group(names)
            group.settled = asyncio.create_task(self._write(group))
        group.leases[key] = lease
        group.values.append(values)
        if len(group.values) >= GROUP_MOST:
            self._close(group)
        assert group.settled is not None
        return key in await asyncio.shield(group.settled)

    async def _write(self, group: Group) -> set[Key]:
        await asyncio.sleep(0)  # the calls that arrived together join
        self._close(group)
        return await self._database.write(lambda connection: _settle(connection, group))

    def _close(self, group: Group) -> None:
        group.is_open = False
        if self._groups.get(group.names) is group:
            del self._groups[group.names]


def _settle(connection: Connection, group: Group) -> set[Key]:
    """Settle a group; return the tasks whose leases were right."""
    if dialect.is_postgres(connection):
        return _settle_at_once(connection, group)
    settled: set[Key] = set()
    names = ("of_agent", "of_id", "of_lease")
    statement = task_statements.change(connection, names, group.names)
    for (key, lease), values in zip(group.leases.items(), group.values, strict=True):
        given = {f"new_{name}": value for name, value in values.items()}
        given |= dict(zip(names, (*key, lease), strict=True)) | task_statements.now(connection)
        if connection.execute(statement, given).rowcount > 0:
            settled.add(key)
    return settled


def _settle_at_once(connection: Connection, group: Group) -> set[Key]:
    lists: dict[str, list[Any]] = {
        "agents": [agent for agent, _ in group.leases],
        "ids": [task_id for _, task_id in group.leases],
        "leases": list(group.leases.values()),
    }
    for name in group.names:
        column = [values[name] for values in group.values]
        if task_statements.is_json(name):
            column = [documents.encode(value) for value in column]
        lists[f"new_{name}"] = column
    rows = connection.execute(task_statements.settle_many(group.names), lists)
    return {(row.agent_id, row.id) for row in rows}
