"""A store of tasks in memory, as `DatabaseAdapter` describes it: a fake for tests."""

import time
import uuid
from typing import Any

import msgspec

from garrison.workers import Task, TaskChanges, TaskQuery, idempotent

RUNNING, PENDING = "running", "pending"


class TaskStore:
    """Tasks of several agents, in the order of their creation."""

    service_type = "database"

    def __init__(self) -> None:
        self.tasks: dict[tuple[str, str], Task] = {}
        self.settled: list[tuple[str, str]] = []  # ids and statuses, each as it was written

    async def create_task(self, task: Task, agent_id: str | None = None) -> str:
        """Store a task."""
        task = msgspec.structs.replace(task, id=task.id or str(uuid.uuid4()))
        task = msgspec.structs.replace(task, agent_id=agent_id or "", created_at=time.time())
        self.tasks.setdefault((agent_id or "", task.id), task)
        return task.id

    async def create_tasks(self, tasks: list[Task], agent_id: str | None = None) -> None:
        """Store tasks; not in the Protocol."""
        for task in tasks:
            await self.create_task(task, agent_id)

    async def get_task(self, task_id: str, agent_id: str | None = None) -> Task | None:
        """Return a task."""
        return self.tasks.get((agent_id or "", task_id))

    async def get_tasks(
        self, params: dict[str, Any] | None = None, agent_id: str | None = None
    ) -> list[Task]:
        """Return the tasks that match."""
        return TaskQuery.parse(params).select(self._of(agent_id))

    async def update_task(
        self,
        task_id: str,
        task: dict[str, Any],
        if_status: str | None = None,
        agent_id: str | None = None,
    ) -> bool:
        """Change a task."""
        found = self.tasks.get((agent_id or "", task_id))
        if found is None:
            raise LookupError(f"there is no task {task_id!r}")
        if if_status is not None and found.status != if_status:
            return False
        self._put(found, task)
        return True

    async def delete_task(self, task_id: str, agent_id: str | None = None) -> None:
        """Delete a task."""
        self.tasks.pop((agent_id or "", task_id), None)

    async def claim_tasks(
        self,
        *,
        owner: str,
        lease: float,
        limit: int = 1,
        names: list[str] | None = None,
        agent_id: str | None = None,
    ) -> list[Task]:
        """Claim due tasks."""
        now = time.time()
        due = [
            task
            for task in self._of(agent_id)
            if "queue" in task.tags and (names is None or task.name in names) and _is_due(task, now)
        ]
        due.sort(key=lambda task: task.scheduled_for.timestamp() if task.scheduled_for else 0.0)
        claimed = []
        for task in due[:limit]:
            held = {"lease": str(uuid.uuid4()), "lease_owner": owner, "lease_until": now + lease}
            new = msgspec.structs.replace(task, status=RUNNING, **held)
            self.tasks[task.agent_id, task.id] = new
            claimed.append(new)
        return claimed

    @idempotent
    async def renew_lease(
        self, task_id: str, lease: str, seconds: float, agent_id: str | None = None
    ) -> bool:
        """Renew a lease."""
        found = self.tasks.get((agent_id or "", task_id))
        if found is None or found.lease != lease:
            return False
        until = time.time() + seconds
        key = found.agent_id, task_id
        self.tasks[key] = msgspec.structs.replace(found, lease_until=until)
        return True

    async def settle_task(
        self, task_id: str, lease: str, task: dict[str, Any], agent_id: str | None = None
    ) -> bool:
        """Write the end of a run."""
        found = self.tasks.get((agent_id or "", task_id))
        if found is None or not lease or found.lease != lease:
            return False
        self._put(found, task)
        self.settled.append((task_id, task.get("status", "")))
        return True

    async def release_leases(self, owner: str, agent_id: str | None = None) -> int:
        """Make pending what an owner held."""
        held = [task for task in self._of(agent_id) if task.lease_owner == owner]
        for task in held:
            self._put(task, {"status": PENDING})
        return len(held)

    def _of(self, agent_id: str | None) -> list[Task]:
        return [task for (agent, _), task in self.tasks.items() if agent == (agent_id or "")]

    def _put(self, task: Task, fields: dict[str, Any]) -> None:
        new = TaskChanges.parse(fields).apply(task)
        self.tasks[task.agent_id, task.id] = msgspec.structs.replace(new, updated_at=time.time())


def _is_due(task: Task, now: float) -> bool:
    if task.status == RUNNING:
        return task.lease_until <= now
    at = task.scheduled_for
    return task.status == PENDING and (at is None or at.timestamp() <= now)
