"""The tasks of one agent, wherever they are kept: claims and settlements, within their leases."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from garrison.ipc import CallError, RemoteError, ServiceProxy, ServiceUnavailable
from garrison.workers import DatabaseAdapter, Runtime, Task

log = logging.getLogger(__name__)

CALL_S = 20.0  # for a call to the service that keeps the tasks
FIRST_RETRY_S, MAX_RETRY_S = 0.1, 5.0  # between attempts to settle a task


class Store:
    """The tasks of one agent.

    Args:
        runtime: The task service's.
        name: NAME of the service that keeps them.
        agent: The agent; "" in a host without agents.
        owner: This runner, in leases.
    """

    def __init__(self, runtime: Runtime, name: str, agent: str, owner: str) -> None:
        self.name, self.agent, self._owner = name, agent, owner
        self._proxy = ServiceProxy(runtime.client, name, DatabaseAdapter, CALL_S)

    async def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        try:
            bound = getattr(self._proxy, method)
        except AttributeError as error:  # it has left the config, or become another one
            raise ServiceUnavailable(self.name, method, "no store of tasks any more") from error
        return await bound(*args, **kwargs, agent_id=self.agent)

    async def claim(self, lease: float, limit: int, names: list[str]) -> list[Task]:
        """Claim due tasks of these names. Raises CallError."""
        found: list[Task] = await self._call(
            "claim_tasks", owner=self._owner, lease=lease, limit=limit, names=names
        )
        return found

    async def renew(self, task: Task, seconds: float) -> bool:
        """Renew a lease; False if the task is not this runner's any more. Raises CallError."""
        return bool(await self._call("renew_lease", task.id, task.lease, seconds))

    async def release(self) -> int:
        """Make pending what a former process of this runner held. Raises CallError."""
        return int(await self._call("release_leases", self._owner))

    async def settle(self, task: Task, fields: dict[str, Any], until: Callable[[], float]) -> bool:
        """Write what follows a run, while the lease holds; return whether this runner did.

        Args:
            task: As it was claimed.
            fields: Its changes.
            until: Returns when its lease ends, in the loop's time: it is renewed meanwhile.
        """
        loop, wait = asyncio.get_running_loop(), FIRST_RETRY_S
        while True:
            try:
                return bool(await self._call("settle_task", task.id, task.lease, fields))
            except RemoteError as error:
                if error.type_name in {"LookupError", "ValueError"}:
                    log.error("task.not_settled task=%s error=%s", task.id, error)
                    return False
                problem: CallError = error
            except CallError as error:
                problem = error
            if loop.time() + wait >= until():
                log.error("task.not_settled task=%s error=%s", task.id, problem)
                return False
            await asyncio.sleep(wait)
            wait = min(wait * 2, MAX_RETRY_S)

    async def select(self, query: dict[str, Any]) -> list[Task]:
        """Return the tasks that match; see `DatabaseAdapter.get_tasks`. Raises CallError."""
        found: list[Task] = await self._call("get_tasks", query)
        return found

    async def get(self, task_id: str) -> Task | None:
        """Return a task, or None. Raises CallError."""
        found: Task | None = await self._call("get_task", task_id)
        return found

    async def update(self, task_id: str, fields: dict[str, Any], if_status: str) -> bool:
        """Change a task that has a status; return whether it did. Raises CallError."""
        return bool(await self._call("update_task", task_id, fields, if_status=if_status))

    async def delete(self, task_id: str) -> None:
        """Delete a task. Raises CallError."""
        await self._call("delete_task", task_id)
