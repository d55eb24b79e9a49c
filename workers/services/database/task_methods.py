"""The service's methods of tasks and their leases; see `DatabaseAdapter`."""

from typing import Any

from garrison.workers import Task, TaskChanges, TaskQuery, idempotent

from .methods import Methods


class TaskMethods(Methods):
    """Tasks, and the leases of those that run."""

    async def create_task(self, task: Task, agent_id: str | None = None) -> str:
        """Store a task; return its id. A stored task with the same id is kept unchanged."""
        return await self._stores.tasks.create(self._agent(agent_id), task)

    @idempotent
    async def get_task(self, task_id: str, agent_id: str | None = None) -> Task | None:
        """Return a task, or None."""
        return await self._stores.tasks.get(self._agent(agent_id), task_id)

    @idempotent
    async def get_tasks(
        self, params: dict[str, Any] | None = None, agent_id: str | None = None
    ) -> list[Task]:
        """Return the tasks that match: field to value, or to a comparison such as {"$lte": 3}."""
        query = TaskQuery.parse(params)
        agent = self._agent(query.agent_id if agent_id is None else agent_id)
        return await self._stores.tasks.select(agent, query)

    @idempotent
    async def get_tasks_by_name(self, name: str, agent_id: str | None = None) -> list[Task]:
        """Return the tasks of a name."""
        query = TaskQuery.parse({"name": name})
        return await self._stores.tasks.select(self._agent(agent_id), query)

    async def update_task(
        self,
        task_id: str,
        task: dict[str, Any],
        if_status: str | None = None,
        agent_id: str | None = None,
    ) -> bool:
        """Change the given fields of a task; return whether it did: False by `if_status` alone."""
        changes = TaskChanges.parse(task)
        agent = self._agent(agent_id)
        return await self._stores.tasks.update(agent, task_id, changes, if_status)

    @idempotent
    async def delete_task(self, task_id: str, agent_id: str | None = None) -> None:
        """Delete a task."""
        await self._stores.tasks.delete(self._agent(agent_id), task_id)

    # --- leases -----------------------------------------------------------------------------

    async def claim_tasks(
        self,
        *,
        owner: str,
        lease: float,
        limit: int = 1,
        names: list[str] | None = None,
        agent_id: str | None = None,
    ) -> list[Task]:
        """Claim due tasks for a runner: the earliest first, each for one runner alone."""
        if not owner or lease <= 0 or limit < 1:
            raise ValueError("a claim needs an owner, a lease of some seconds, and a limit above 0")
        agent = self._agent(agent_id, every=True)
        return await self._stores.tasks.claim(agent, owner, lease, limit, names)

    @idempotent
    async def renew_lease(
        self, task_id: str, lease: str, seconds: float, agent_id: str | None = None
    ) -> bool:
        """Have a lease end `seconds` from now; False if another runner has the task by now."""
        return await self._stores.tasks.renew(self._agent(agent_id), task_id, lease, seconds)

    async def settle_task(
        self, task_id: str, lease: str, task: dict[str, Any], agent_id: str | None = None
    ) -> bool:
        """Change fields of a task that the caller holds, and give up its lease.

        It is pending again if `task` has no `status`. False, and nothing is changed, if the lease
        is not the task's any more.
        """
        changes = TaskChanges.parse(task)
        return await self._stores.tasks.settle(self._agent(agent_id), task_id, lease, changes)

    @idempotent
    async def release_leases(self, owner: str, agent_id: str | None = None) -> int:
        """Make pending again what an owner's former process held; return how many those were."""
        return await self._stores.tasks.release(self._agent(agent_id, every=True), owner)
