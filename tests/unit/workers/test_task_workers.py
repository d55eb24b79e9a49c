"""Task workers: their registration, and how a run of theirs ends."""

from typing import Any

import pytest

from garrison.ipc import RemoteError
from garrison.ipc.messages import Manifest
from garrison.workers import PermanentFailure, Plugin, RetryLater, Service, Task, TaskWorker
from garrison.workers.agents.task_workers import TaskEnd, TaskRun
from garrison.workers.process.registration import static_manifest
from garrison.workers.testing import run


class Plain(Service):
    service_type = "plain"


def raising(error: Exception) -> Any:
    def execute() -> None:
        raise error

    return execute


@pytest.mark.parametrize(
    ("execute", "expected"),
    [
        (lambda: None, TaskRun(TaskEnd.DONE)),
        (lambda runtime, options, task: object(), TaskRun(TaskEnd.DONE)),
        (lambda: RetryLater(5, "full"), TaskRun(TaskEnd.LATER, 5, "full")),
        (raising(RetryLater(5)), TaskRun(TaskEnd.LATER, 5)),
        (raising(PermanentFailure("gone")), TaskRun(TaskEnd.PAUSE, reason="gone")),
    ],
)
async def test_what_a_worker_returns_or_raises_is_the_end_of_the_run(
    execute: Any, expected: TaskRun
) -> None:
    """Whatever it returns besides a `RetryLater` is done: it need not travel."""
    plugin = Plugin("p", task_workers=[TaskWorker("REMIND", execute)])
    async with run(Plain, plugin=plugin) as service:
        worker = service.runtime.get_task_worker("REMIND")
        assert worker is not None
        ended = await worker.run(Task(name="REMIND", id="1"))
        assert (ended.end, ended.seconds) == (expected.end, expected.seconds)
        assert ended.reason == expected.reason


async def test_a_worker_receives_the_task_and_its_metadata_as_options() -> None:
    """As in elizaOS; an exception of its own is the caller's error."""

    class Remind(TaskWorker):
        name = "REMIND"

        async def execute(self, runtime: Any, options: dict[str, Any], task: Task) -> None:
            seen.append((runtime.name, options, task.run_id))
            raise ValueError("no such channel")

    seen: list[Any] = []
    async with run(Plain) as service:
        service.runtime.register_task_worker(Remind())
        async with run(Plain, plugin=Plugin("p", task_workers=[Remind()])) as other:
            worker = other.runtime.get_task_worker("REMIND")
            assert worker is not None
            with pytest.raises(RemoteError, match="no such channel"):
                await worker.run(Task(name="REMIND", id="7", metadata={"a": 1}, runs=2))
    assert seen == [("plain", {"a": 1}, "task-7-3")]


async def test_a_task_that_may_not_run_now_does_not() -> None:
    """`validate` is asked before each run."""
    worker = TaskWorker("REMIND", raising(AssertionError()), validate=lambda runtime: False)
    async with run(Plain, plugin=Plugin("p", task_workers=[worker])) as service:
        remote = service.runtime.get_task_worker("REMIND")
        assert remote is not None
        assert await remote.run(Task(name="REMIND")) == TaskRun(TaskEnd.NOT_NOW)
        assert service.runtime.get_task_worker("OTHER") is None


def test_the_manifest_lists_task_workers() -> None:
    """Also of a plugin that has nothing else; what cannot be called is found when it is read."""
    plugin = Plugin("p", task_workers=[TaskWorker("REMIND", lambda: None)])
    (cls,) = plugin.worker_services("p")
    assert static_manifest(Manifest("p"), plugin, cls, "p").task_workers == ("REMIND",)
    for worker, problem in (
        (TaskWorker("REMIND"), "TaskWorker REMIND: its execute is missing"),
        (TaskWorker("", lambda: None), "needs a name"),
        (TaskWorker("REMIND", lambda a, b, c, d: None), r"requires \(a, b, c, d\)"),
    ):
        with pytest.raises((TypeError, ValueError), match=problem):
            static_manifest(Manifest("p"), Plugin("p", task_workers=[worker]), cls, "p")
    two = [TaskWorker("REMIND", lambda: None)] * 2
    with pytest.raises(ValueError, match="two task workers have the name REMIND"):
        static_manifest(Manifest("p"), Plugin("p", task_workers=two), cls, "p")
