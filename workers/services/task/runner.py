"""Claims due tasks, runs each in its worker's process, and settles it."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from garrison.ipc import CallError, PermanentFailure, ServiceLost
from garrison.workers import Attribution, Runtime, Task, TaskRun, set_attribution

from . import outcome
from .cron import UnusableTimes
from .leases import Held, Leases
from .missed import Missed, Policy, as_time, following, reschedule
from .outcome import FAILED, PAUSED, PENDING, Kind, Limits, Outcome
from .store import Store
from .task_times import times_of
from .times import Times
from .turns import Turns

log = logging.getLogger(__name__)

SUSPECTS_MOST = 1000
MISSING_S = 60.0  # before a task whose library is missing is looked at again


class Rules(msgspec.Struct, frozen=True):
    """How tasks are run, from the service's config."""

    time_zone: str
    missed: Policy
    max_late: float
    timeout: float
    limits: Limits


class Runner:
    """Runs claimed tasks.

    Args:
        runtime: The task service's.
        leases: Those that it holds.
        rules: From its config.
        spawn: Starts background work.
        ended: Called after each run with the seconds until the task is due again, if that is known.
    """

    def __init__(
        self,
        runtime: Runtime,
        leases: Leases,
        rules: Rules,
        spawn: Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"],
        ended: Callable[[float | None], None],
    ) -> None:
        self._runtime, self._leases, self._rules = runtime, leases, rules
        self._spawn, self._ended = spawn, ended
        self._turns: dict[str, Turns] = {}  # by NAME
        self._suspects: dict[tuple[str, str], None] = {}  # agent and id, the oldest first
        self.counts = {"done": 0, "failed": 0, "missed": 0}

    def begin(self, store: Store, task: Task, service: str, began: float) -> None:
        """Run a claimed task in the background.

        Args:
            store: Where it is kept.
            task: As it was claimed.
            service: NAME of the service whose worker runs it.
            began: When its claim was sent, in the loop's time.
        """
        held = Held(task, store, began + self._leases.seconds)
        self._leases.add(held)
        held.work = self._spawn(self._run(held, service))
        held.work.add_done_callback(lambda _: self._leases.remove(held))

    async def _run(self, held: Held, service: str) -> None:
        delay = None
        try:
            delay = await self._process(held, service)
        finally:
            self._leases.remove(held)
            self._ended(delay)

    async def _process(self, held: Held, service: str) -> float | None:
        """Run a task, or send it back to a time of its own; return when it is due again."""
        task = held.task
        try:
            times = times_of(task, self._rules.time_zone, time.time())
        except UnusableTimes as error:
            fields = {"status": PAUSED, "error": str(error)}
            return await self._apply(held, Outcome(Kind.PAUSED, fields, str(error)))
        except PermanentFailure as error:  # the library for cron is missing
            self._runtime.warn("cron", str(error))
            at = as_time(time.time() + MISSING_S)
            later = {"status": PENDING, "scheduled_for": at, "error": str(error)}
            return await self._apply(held, Outcome(Kind.PUT_OFF, later, str(error), MISSING_S))
        policy = Policy(task.missed) if task.missed in POLICIES else self._rules.missed
        max_late = self._rules.max_late if task.max_late is None else task.max_late
        changed = reschedule(task, times, time.time(), policy, max_late)
        if changed is not None:
            return await self._reschedule(held, changed.at, changed.missed)
        return await self._execute(held, service, times)

    async def _reschedule(
        self, held: Held, at: float | None, missed: Missed | None
    ) -> float | None:
        """Send a task to another time. What was missed is recorded by the same commit, so that it
        is told once."""
        task = held.task
        fields: dict[str, Any] = {"status": PENDING, "scheduled_for": as_time(at)}
        if at is None:
            fields = {"status": FAILED, "error": "its time was missed, and it has no other"}
        if missed is not None:
            fields |= missed.fields(task)
        if not await held.store.settle(task, fields, lambda: held.until):
            return None
        if missed is not None:
            self._tell_missed(held, missed)
        return None if at is None else max(at - time.time(), 0.0)

    def _tell_missed(self, held: Held, missed: Missed) -> None:
        task, agent = held.task, held.store.agent
        self.counts["missed"] += missed.count
        log.warning(
            "task.missed task=%s name=%s agent=%s count=%d first=%s last=%s policy=%s runs=%d",
            *(task.id, task.name, agent or "-", missed.count),
            *(as_time(missed.first), as_time(missed.last), missed.policy.value, missed.runs),
        )
        event = msgspec.to_builtins(missed) | {"task": task.id, "name": task.name, "agent": agent}
        self._spawn(self._runtime.emit_event("task.missed", event))

    async def _execute(self, held: Held, service: str, times: Times) -> float | None:
        task, key = held.task, (held.store.agent, held.task.id)
        turns = self._turns.setdefault(service, Turns())
        alone = task.deaths > 0 or key in self._suspects
        end: TaskRun | CallError
        was_alone = True
        async with turns.take(task.id, alone):
            try:
                end = await self._call(service, task)
            except CallError as error:
                end = error
                if isinstance(error, ServiceLost) and error.died:
                    was_alone = turns.ended_alone(task.id, error.generation)
        self._suspect(key, not was_alone)
        now = time.time()
        found = outcome.decide(
            task,
            end,
            self._rules.limits,
            now,
            random.random(),
            following(task, times, now),
            was_alone,
        )
        if held.pause and found.fields.get("status") == PENDING:
            found = msgspec.structs.replace(
                found, fields=found.fields | {"status": PAUSED, "error": held.pause}
            )
        return await self._apply(held, found)

    async def _call(self, service: str, task: Task) -> TaskRun:
        """Run a task in its worker's process. Raises CallError."""
        client = self._runtime.client
        keeper = client.directory.first_of("agent", task.agent_id)  # of the budget of its models
        name = keeper.name if keeper is not None else ""
        set_attribution(Attribution(task.agent_id, name, task=task.id))
        try:
            run: TaskRun = await client.call_method(
                service, "$run_task", (task.name, task), TaskRun, self._rules.timeout
            )
        finally:
            set_attribution(None)
        return run

    def _suspect(self, key: tuple[str, str], is_suspect: bool) -> None:
        """Note whether a task may be what ended its worker's process."""
        self._suspects.pop(key, None)
        if is_suspect:
            self._suspects[key] = None
            if len(self._suspects) > SUSPECTS_MOST:
                del self._suspects[next(iter(self._suspects))]

    async def _apply(self, held: Held, found: Outcome) -> float | None:
        """Settle a task, and log how its run ended; return when it is due again."""
        task = held.task
        if not await held.store.settle(task, found.fields, lambda: held.until):
            log.warning(
                "task.superseded task=%s name=%s: another runner has it by now, or it was changed",
                *(task.id, task.name),
            )
            return None
        what = (task.id, task.name, held.store.agent or "-")
        match found.kind:
            case Kind.DONE:
                self.counts["done"] += 1
            case Kind.PUT_OFF:
                log.info(
                    "task.put_off task=%s name=%s agent=%s wait_s=%.3g reason=%s",
                    *(*what, found.delay, found.reason),
                )
            case Kind.FAILED | Kind.DIED:
                self.counts["failed"] += 1
                log.warning(
                    "task.failed task=%s name=%s agent=%s retry_s=%.3g reason=%s",
                    *(*what, found.delay, found.reason),
                )
            case Kind.PAUSED:
                self.counts["failed"] += 1
                log.error(
                    "task.paused task=%s name=%s agent=%s reason=%s; garrison tasks resume %s",
                    *(*what, found.reason, task.id),
                )
                fields = {"task": str(task.id), "name": task.name}
                self._runtime.incident("task.paused", found.reason, **fields)
        scheduled = found.fields.get("scheduled_for")
        return None if scheduled is None else max(scheduled.timestamp() - time.time(), 0.0)


POLICIES = frozenset(policy.value for policy in Policy)
