"""The task service: runs due tasks, each once, in the process of the service that knows how.

`claimer` looks for what is due, `runner` runs it and `outcome` decides what follows; `missed` and
`times` decide about times, `leases` keeps what runs from others, `admin` serves the operator.
"""

import asyncio
import contextlib
import logging
import secrets
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import msgspec
from msgspec import Meta

from garrison.ipc import CallError
from garrison.workers import Plugin, Runtime, Service, ServiceType

from .admin import Admin
from .claimer import Claimer
from .leases import Leases
from .missed import Policy
from .outcome import Limits
from .runner import Rules, Runner
from .steadiness import Steadiness

log = logging.getLogger(__name__)

OWNER_FILE = "owner"
REPORT_S = 1.0
DRAIN_S = 5.0  # for tasks that run when the service stops
CREATED = "task.created"  # by the adapter, after a task was created or changed

Seconds = Annotated[float, Meta(ge=0, le=366 * 86_400)]
Count = Annotated[int, Meta(ge=1)]


class TaskService(Service):
    """Runs the tasks that are due."""

    service_type = ServiceType.TASK
    _serves_paused = True  # operators see and change the tasks, and none is begun
    capability_description = "Runs tasks when they are due, once or repeatedly"

    class Config(msgspec.Struct):
        """`[services.task.config]`. Times are seconds."""

        time_zone: str = "UTC"  # of cron tasks that name none
        concurrency: Annotated[int, Meta(ge=1, le=256)] = 8  # tasks that run at the same time
        lease: Annotated[float, Meta(ge=1, le=3600)] = 60.0  # until others may run a lost one
        missed: Literal["run", "skip", "latest"] = "latest"  # what follows missed times
        max_late: Seconds = 300.0  # after which a time counts as missed
        poll: Annotated[float, Meta(ge=0.05, le=3600)] = 1.0  # between looks for due tasks
        retries: Count = 5  # failed runs in a row after which a task is paused
        backoff: Annotated[float, Meta(gt=0, le=3600)] = 15.0  # before the first retry
        timeout: Annotated[float, Meta(gt=0, le=86_400)] = 3600.0  # for one run
        steady: Seconds = 2.0  # for which services must have run before tasks are started

    config: Config
    _claimer: Claimer
    _leases: Leases
    _runner: Runner
    _admin: Admin

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        config = service.config
        loop = asyncio.get_running_loop()
        owner = await asyncio.to_thread(_owner, runtime.data_folder / OWNER_FILE, runtime.name)
        service._steadiness = Steadiness(config.steady, loop.time())
        service._leases = leases = Leases(config.lease)
        limits = Limits(config.retries, config.backoff)
        missed = Policy(config.missed)
        rules = Rules(config.time_zone, missed, config.max_late, config.timeout, limits)
        service._runner = runner = Runner(runtime, leases, rules, service._spawn, service._ended)
        service._claimer = Claimer(
            *(runtime, leases, runner, service._steadiness, owner),
            *(config.concurrency, config.poll),
        )
        service._admin = Admin(service._claimer, leases, config.time_zone, service._agent_of_caller)
        runtime.client.on_service_change(service._service_changed)
        for entry in runtime.client.directory:
            service._service_changed(entry.name)
        runtime.register_event(CREATED, service._created)
        service.spawn(leases.renew_forever(), "leases", essential=True)
        service.spawn(service._claimer.run_forever(), "claims")
        service.every(REPORT_S, service._report, while_paused=True)
        return service

    async def stop(self) -> None:
        """Begin no more tasks, wait for those that run, and give up the leases of the others."""
        self._claimer.is_ending = True
        self._claimer.wake()
        running = [held.work for held in self._leases.held.values() if held.work is not None]
        if running:
            _, late = await asyncio.wait(running, timeout=DRAIN_S)
            for work in late:
                work.cancel()
            if late:
                await asyncio.wait(late, timeout=1.0)
                with contextlib.suppress(CallError, TimeoutError):
                    async with asyncio.timeout(DRAIN_S):
                        await self._claimer.release_all()

    def _spawn(self, work: Any) -> "asyncio.Task[None]":
        return self.spawn(work, "task", essential=False)

    def _ended(self, delay: float | None) -> None:
        self._claimer.ended(delay)

    def _created(self, payload: object = None) -> None:
        self._claimer.wake()

    def _service_changed(self, name: str) -> None:
        client = self.runtime.client
        entry, now = client.directory.get(name), asyncio.get_running_loop().time()
        if entry is None:
            self._steadiness.observe(name, None, 0, now)
        else:
            self._steadiness.observe(name, entry.state, entry.generation, now)
        self._claimer.changed()

    def _agent_of_caller(self) -> str:
        caller = self.runtime.caller
        return "" if caller is None else caller.agent

    def _report(self) -> None:
        self.runtime.report(running=len(self._leases.held), **self._runner.counts)

    # --- administration -----------------------------------------------------------------------

    async def ls(
        self, agent: str | None = None, status: str | None = None, most: int = 100
    ) -> dict[str, Any]:
        """Return tasks, those that run first, then by their next time.

        Args:
            agent: Of this agent; None is all.
            status: Of this status; None is all but done ones.
            most: Maximum number of tasks.
        """
        return await self._admin.ls(agent, status, most)

    async def show(self, task_id: str, agent: str | None = None) -> dict[str, Any]:
        """Return one task with all that it has.

        Raises:
            LookupError: There is no such task, or several agents have one.
        """
        return await self._admin.show(task_id, agent)

    async def run(self, ids: list[str], agent: str | None = None) -> int:
        """Run tasks at once, whatever their time; return how many.

        Raises:
            LookupError: There is no such task, or it runs already.
        """
        return await self._admin.run(ids, agent)

    async def pause(self, ids: list[str], agent: str | None = None) -> int:
        """Keep tasks from running until they are resumed; return how many.

        Raises:
            LookupError: There is no such task, or another runner has it.
        """
        return await self._admin.pause(ids, agent)

    async def resume(self, ids: list[str], agent: str | None = None) -> int:
        """Let paused and failed tasks run again; return how many.

        Raises:
            LookupError: There is no such task, or it is neither.
        """
        return await self._admin.resume(ids, agent)

    async def drop(self, ids: list[str], agent: str | None = None) -> int:
        """Delete tasks; return how many. A run that is under way goes on.

        Raises:
            LookupError: There is no such task.
        """
        return await self._admin.drop(ids, agent)


def _owner(path: Path, name: str) -> str:
    """Return this runner's name in leases: its NAME, and an id of this home.

    Two hosts that share a database have services of the same NAME; neither may take the other's
    leases for its own of a former process.
    """
    try:
        found = path.read_text("ascii").strip()
    except FileNotFoundError:
        found = ""
    if not found:
        found = secrets.token_hex(8)
        partial = path.with_suffix(".new")
        partial.write_text(found, "ascii")
        partial.replace(path)
    return f"{name}@{found}"


plugin = Plugin(name="task", services=[TaskService], preload=["garrison.workers.services.task"])
