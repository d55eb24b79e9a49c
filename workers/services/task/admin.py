"""What an operator sees of the tasks and can change: list, show, run, pause, resume, drop."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from garrison.ipc import PermanentFailure
from garrison.workers import Task

from .claimer import Claimer
from .cron import UnusableTimes
from .leases import Leases
from .missed import as_time
from .outcome import DONE, FAILED, PAUSED, PENDING
from .scopes import Scope
from .store import Store
from .task_times import interval, times_of

MAX_LISTED = 1_000  # tasks in one list
RUNNING = "running"
OPEN = (RUNNING, PENDING, PAUSED, FAILED)  # those that a list shows by default
SHOWN = (  # besides those of a list
    *("description", "tags", "metadata", "room_id", "world_id", "entity_id", "missed", "deaths"),
    *("runs", "missed_count", "lease_owner", "created_at", "updated_at"),
)
UNHARMED = {"attempts": 0, "deaths": 0, "error": ""}
BY_OPERATOR = "an operator paused it"


class Admin:
    """Lists, shows and changes tasks.

    Args:
        claimer: Knows the scopes, and looks for what becomes due.
        leases: The tasks that run here.
        time_zone: Of cron tasks that name none.
        agent_of_caller: Returns the agent that the caller is confined to; "" is none.
    """

    def __init__(
        self,
        claimer: Claimer,
        leases: Leases,
        time_zone: str,
        agent_of_caller: Callable[[], str],
    ) -> None:
        self._claimer, self._leases, self._time_zone = claimer, leases, time_zone
        self._agent_of_caller = agent_of_caller

    async def ls(self, agent: str | None, status: str | None, most: int) -> dict[str, Any]:
        """Return tasks with the next time of each, and whether there are more."""
        most = max(1, min(most, MAX_LISTED))
        wanted = [status] if status else list(OPEN)
        rows: list[dict[str, Any]] = []
        is_cut = False
        for scope in self._scopes(agent):
            query = {"status": {"$in": wanted}, "limit": most + 1}
            found = await self._claimer.store(scope).select(query)
            is_cut = is_cut or len(found) > most
            rows.extend(summary(task, scope) for task in found[:most])
        rows.sort(key=_order)
        return {"tasks": rows[:most], "more": is_cut or len(rows) > most}

    async def show(self, task_id: str, agent: str | None) -> dict[str, Any]:
        """Return one task with all that it has.

        Raises:
            LookupError: There is no such task, or several agents have one.
        """
        scope, _, task = await self._find(task_id, agent)
        found = summary(task, scope)
        return (
            found
            | {name: getattr(task, name) for name in SHOWN}
            | {
                "max_late_s": task.max_late,
                "missed_until": task.missed_until or None,
                "lease_until": task.lease_until or None,
            }
        )

    async def run(self, ids: Iterable[str], agent: str | None) -> int:
        """Run tasks at once, whatever their time and status; return how many."""
        return await self._change(
            ids, agent, (PENDING, PAUSED, FAILED, DONE), PENDING, _due_now, "it runs already"
        )

    async def resume(self, ids: Iterable[str], agent: str | None) -> int:
        """Let paused and failed tasks run again; return how many."""
        return await self._change(
            ids, agent, (PAUSED, FAILED), PENDING, self._resumed, "it is neither paused nor failed"
        )

    async def pause(self, ids: Iterable[str], agent: str | None) -> int:
        """Keep tasks from running until they are resumed; return how many. One that runs here is
        paused after its run."""
        count, others = 0, []
        for task_id in ids:
            scope, _, task = await self._find(task_id, agent)
            held = self._leases.get(scope.agent, task.id)
            if held is not None:
                held.pause = BY_OPERATOR
                count += 1
            else:
                others.append(task_id)
        problem = "only a pending task is paused; one that another runner has is paused after it"
        return count + await self._change(others, agent, (PENDING,), PAUSED, _paused, problem)

    async def drop(self, ids: Iterable[str], agent: str | None) -> int:
        """Delete tasks; return how many. A run that is under way goes on."""
        count = 0
        for task_id in ids:
            _, store, task = await self._find(task_id, agent)
            await store.delete(task.id)
            count += 1
        return count

    async def _change(
        self,
        ids: Iterable[str],
        agent: str | None,
        statuses: tuple[str, ...],
        status: str,
        changes: Callable[[Task], dict[str, Any]],
        problem: str,
    ) -> int:
        count = 0
        for task_id in ids:
            _, store, task = await self._find(task_id, agent)
            fields = {**changes(task), "status": status}
            if task.status not in statuses or not await store.update(task.id, fields, task.status):
                raise LookupError(f"task {task_id} is {task.status}: {problem}")
            count += 1
        self._claimer.wake()
        return count

    def _resumed(self, task: Task) -> dict[str, Any]:
        """Return the changes of a task that runs again: a repeated one at its next time."""
        fields, now = dict[str, Any](UNHARMED), time.time()
        if task.scheduled_for is None or task.scheduled_for.timestamp() > now:
            return fields
        try:
            at = times_of(task, self._time_zone, now).after(now)
        except (UnusableTimes, PermanentFailure):
            at = None
        return fields | {"scheduled_for": as_time(now if at is None else at)}

    def _scopes(self, agent: str | None) -> list[Scope]:
        """Return the scopes that the caller may see.

        Raises:
            LookupError: There is no such agent, or it is not the caller's.
        """
        confined = self._agent_of_caller()
        if confined and agent not in {None, confined}:
            raise LookupError(f"the tasks of {agent} are not those of {confined}")
        wanted = confined or agent
        found = [scope for scope in self._claimer.scopes() if not scope.problem]
        if wanted is None or wanted == "":
            return found
        of_agent = [scope for scope in found if scope.agent == wanted]
        if not of_agent:
            known = ", ".join(scope.agent for scope in found if scope.agent) or "none"
            raise LookupError(f"there is no agent {wanted} whose tasks run here; there are {known}")
        return of_agent

    async def _find(self, task_id: str, agent: str | None) -> tuple[Scope, Store, Task]:
        found = []
        for scope in self._scopes(agent):
            store = self._claimer.store(scope)
            task = await store.get(task_id)
            if task is not None:
                found.append((scope, store, task))
        if not found:
            raise LookupError(f"no task {task_id}: dropped, or never created")
        if len(found) > 1:
            agents = ", ".join(scope.agent for scope, *_ in found)
            raise LookupError(f"several agents have a task {task_id}: name one of {agents}")
        return found[0]


def _due_now(task: Task) -> dict[str, Any]:
    """Return the changes of a task that runs now."""
    return {**UNHARMED, "scheduled_for": as_time(time.time())}


def _paused(task: Task) -> dict[str, Any]:
    return {"error": BY_OPERATOR}


def summary(task: Task, scope: Scope) -> dict[str, Any]:
    """Return a task for a list."""
    at = None if task.scheduled_for is None else task.scheduled_for.timestamp()
    return {
        "agent": scope.agent,
        "id": task.id,
        "name": task.name,
        "status": task.status,
        "is_queued": "queue" in task.tags,
        "at": at,
        "every_s": interval(task),
        "cron": task.cron,
        "time_zone": task.time_zone,
        "attempts": task.attempts,
        "error": task.error,
        "workers": list(scope.workers.get(task.name, ())),
    }


def _order(row: dict[str, Any]) -> tuple[int, float]:
    """Sort by status, then by time."""
    rank = OPEN.index(row["status"]) if row["status"] in OPEN else len(OPEN)
    return rank, row["at"] or 0.0
