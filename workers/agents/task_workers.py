"""`TaskWorker`: what runs the tasks of a name; and such a worker of another service's."""

from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any, TypeAlias

import msgspec

from garrison.ipc.client import Client

from .components import State
from .content import Memory
from .database.tasks import Task

Execute: TypeAlias = "Callable[..., Awaitable[Any] | Any]"
Applies: TypeAlias = "Callable[..., Awaitable[bool] | bool]"

RUN_TASK = "$run_task"


class TaskWorker:
    """What runs the tasks of a name. Pass functions, or subclass it and write methods.

    It runs in the process of the service that registers it. The functions may take fewer arguments
    than listed here.

    Args:
        name: The `name` of the tasks that it runs.
        execute: `execute(runtime, options, task)`: does the work. It may run again after a crash.
        validate: `validate(runtime, memory, state) -> bool`: whether tasks may run now. Default:
            always.
    """

    name: str = ""

    def __init__(
        self, name: str = "", execute: "Execute | None" = None, validate: "Applies | None" = None
    ) -> None:
        self.name = name or self.name
        given = {"execute": execute, "validate": validate}
        vars(self).update({key: value for key, value in given.items() if value is not None})

    def execute(self, runtime: Any, options: dict[str, Any], task: Task) -> Any:
        """Do the work of a task. Whatever it returns, the task is done.

        Args:
            runtime: The `Runtime` of the service that registered the worker.
            options: The task's `metadata`.
            task: The task; its `run_id` is the same each time that a run is tried again.

        Raises:
            RetryLater: Not now: the task runs again after its seconds. It may be returned, too.
            PermanentFailure: Trying again cannot help: the task is paused.
            Exception: It failed: the task runs again later, and is paused after several times.
        """
        raise NotImplementedError(f"the task worker {self.name} has no execute")

    def validate(self, runtime: Any, memory: Memory, state: State) -> Awaitable[bool] | bool:
        """Return whether tasks may run now. A task that may not is put off.

        Args:
            runtime: The `Runtime` of the service that registered the worker.
            memory: An empty one, as in elizaOS.
            state: An empty one.
        """
        return True


class TaskEnd(Enum):
    """How the run of a task ended that did not fail."""

    DONE = "done"
    LATER = "later"  # to be tried again after the seconds
    PAUSE = "pause"  # trying again cannot help
    NOT_NOW = "not now"  # `validate` refused


class TaskRun(msgspec.Struct, frozen=True, omit_defaults=True):
    """The end of a run, for the task service."""

    end: TaskEnd
    seconds: float = 0.0
    reason: str = ""


class RemoteTaskWorker:
    """A task worker in its own service's process.

    Args:
        client: The caller's client.
        service: NAME of the service that registered it.
        name: The name of its tasks.
    """

    def __init__(self, client: Client, service: str, name: str) -> None:
        self._client, self.service, self.name = client, service, name

    async def run(self, task: Task, timeout: float | None = None) -> TaskRun:
        """Run a task, and return how it ended.

        Args:
            task: The task, as its runner has claimed it.
            timeout: Seconds; None is the default timeout.

        Raises:
            RemoteError: It failed.
            CallError: It may have run.
        """
        found: TaskRun = await self._client.call_method(
            self.service, RUN_TASK, (self.name, task), TaskRun, timeout
        )
        return found

    async def execute(self, runtime: object, options: dict[str, Any], task: Task) -> None:
        """Run a task in that process, with an author's signature; `runtime` is ignored."""
        await self.run(msgspec.structs.replace(task, metadata=options))

    def __repr__(self) -> str:
        return f"<task worker {self.name} of {self.service}>"
