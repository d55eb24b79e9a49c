"""The task service: what it runs, when, how often, and what an operator can do."""

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.support.task_store import TaskStore
from tests.support.waiting import SOON, until_true

from garrison.workers import PermanentFailure, Plugin, RetryLater, Task, TaskWorker
from garrison.workers.services.task import TaskService
from garrison.workers.testing import TestRuntime, run

until = functools.partial(until_true, timeout=SOON)
QUICK = {"steady": 0.0, "poll": 0.05, "backoff": 0.01}
NAME = "REMIND"


def in_past(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


def queued(task_id: str, *, repeats: float | None = None, **fields: Any) -> Task:
    tags = ["queue"] if repeats is None else ["queue", "repeat"]
    metadata = {} if repeats is None else {"updateInterval": repeats * 1000}
    return Task(name=NAME, id=task_id, tags=tags, metadata=metadata, **fields)


class Tried:
    """A task worker that records its runs, and raises what it is given for each."""

    def __init__(self, *ends: Exception | None) -> None:
        self.ends = list(ends)
        self.runs: list[str] = []

    def execute(self, runtime: Any, options: dict[str, Any], task: Task) -> None:
        self.runs.append(task.run_id)
        end = self.ends.pop(0) if self.ends else None
        if end is not None:
            raise end


@asynccontextmanager
async def serving(
    store: TaskStore, execute: Callable[..., Any], **config: Any
) -> AsyncIterator[TaskService]:
    plugin = Plugin("p", task_workers=[TaskWorker(NAME, execute)])
    fakes = {"database": store}
    async with run(TaskService, fakes=fakes, plugin=plugin, config=QUICK | config) as service:
        service._service_changed("task")  # here it runs the worker itself
        yield service


async def status_of(store: TaskStore, task_id: str, *wanted: str) -> Task:
    """Return a task once it has a status."""
    await until(lambda: store.tasks["", task_id].status in wanted)
    return store.tasks["", task_id]


async def test_a_due_task_runs_once() -> None:
    """One without the tag `queue`, of another name or of a later time does not."""
    store, tried = TaskStore(), Tried()
    await store.create_task(queued("due"))
    await store.create_task(queued("later", scheduled_for=in_past(-3600)))
    await store.create_task(Task(name=NAME, id="plain"))
    await store.create_task(Task(name="OTHER", id="other", tags=["queue"]))
    async with serving(store, tried.execute):
        done = await status_of(store, "due", "done")
    assert (done.runs, done.lease, tried.runs) == (1, "", ["task-due-1"])
    assert store.settled == [("due", "done")]


async def test_a_task_that_is_created_is_run_at_once() -> None:
    """The service looks when it is told, not only every `poll` seconds."""
    store, tried = TaskStore(), Tried()
    async with serving(store, tried.execute, poll=3600.0) as service:
        await store.create_task(queued("new"))
        await service.runtime.emit_event("task.created", {"name": NAME})
        await status_of(store, "new", "done")


async def test_a_repeated_task_runs_again_and_again() -> None:
    """Each run has an id of its own."""
    store, tried = TaskStore(), Tried()
    await store.create_task(queued("often", repeats=0.1))
    async with serving(store, tried.execute, poll=3600.0):
        await until(lambda: len(tried.runs) >= 3)
    assert tried.runs[:3] == ["task-often-1", "task-often-2", "task-often-3"]
    assert store.tasks["", "often"].status == "pending"


async def test_a_failed_run_is_tried_again_under_the_same_id() -> None:
    """So is one that was put off, which is no failure."""
    store = TaskStore()
    tried = Tried(ValueError("no"), RetryLater(0.05, "full"), ValueError("no"), None)
    await store.create_task(queued("hard"))
    async with serving(store, tried.execute):
        done = await status_of(store, "hard", "done")
    assert tried.runs == ["task-hard-1"] * 4
    assert (done.attempts, done.error, done.runs) == (0, "", 1)


@pytest.mark.parametrize(
    ("ends", "runs", "reason"),
    [
        ([ValueError("no such room")] * 9, 5, "5 runs failed in a row: "),
        ([PermanentFailure("the account is gone")], 1, "the account is gone"),
    ],
)
async def test_a_task_that_keeps_failing_is_paused_with_the_reason(
    ends: list[Exception], runs: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It runs again once it is resumed."""
    store, tried = TaskStore(), Tried(*ends)
    await store.create_task(queued("bad"))
    async with serving(store, tried.execute) as service:
        paused = await status_of(store, "bad", "paused")
        assert len(tried.runs) == runs
        assert reason in paused.error
        await until_true(lambda: "garrison tasks resume bad" in caplog.text)
        tried.ends.clear()
        assert await service.resume(["bad"]) == 1
        done = await status_of(store, "bad", "done")
    assert (done.error, done.attempts) == ("", 0)


async def test_what_was_missed_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """By the log and an event; here the last of three times runs."""
    caplog.set_level(logging.WARNING)
    store, tried = TaskStore(), Tried()
    await store.create_task(queued("nightly", repeats=3600, scheduled_for=in_past(2.5 * 3600)))
    async with serving(store, tried.execute) as service:
        await until(lambda: store.tasks["", "nightly"].runs == 1)
        assert isinstance(service.runtime, TestRuntime)
        told = [payload for event, payload in service.runtime.emitted if event == "task.missed"]
    assert len(tried.runs) == 1
    assert [(one["count"], one["runs"], one["policy"]) for one in told] == [(3, 1, "latest")]
    assert caplog.text.count("task.missed") == 1
    assert store.tasks["", "nightly"].missed_count == 3


@pytest.mark.parametrize(
    ("policy", "status", "runs"), [("skip", "failed", 0), ("run", "done", 1), ("latest", "done", 1)]
)
async def test_a_missed_reminder_follows_the_policy(policy: str, status: str, runs: int) -> None:
    """The task's own precedes the service's."""
    store, tried = TaskStore(), Tried()
    await store.create_task(queued("old", scheduled_for=in_past(3600), missed=policy))
    async with serving(store, tried.execute, missed="skip", max_late=60.0):
        await status_of(store, "old", status)
    assert len(tried.runs) == runs


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        (queued("x", cron="61 * * * *"), "cron '61 * * * *' cannot be used: Bad minute"),
        (queued("x", cron="* * * * *", time_zone="Mars/Base"), "no time zone 'Mars/Base'"),
        (queued("x", repeats=0), "needs updateInterval, a number of milliseconds from 100"),
    ],
)
async def test_times_that_cannot_be_used_pause_a_task(task: Task, problem: str) -> None:
    """With the reason."""
    store = TaskStore()
    await store.create_task(task)
    async with serving(store, Tried().execute):
        assert problem in (await status_of(store, "x", "paused")).error


async def test_a_cron_task_waits_for_its_first_time() -> None:
    """One that has no time yet gets it, and does not run."""
    store, tried = TaskStore(), Tried()
    await store.create_task(queued("cron", cron="0 7 * * *", time_zone="Europe/Berlin"))
    async with serving(store, tried.execute):
        await until(lambda: store.tasks["", "cron"].scheduled_for is not None)
    at = store.tasks["", "cron"].scheduled_for
    assert at is not None
    assert at > datetime.now(UTC)
    assert not tried.runs


async def test_a_lease_is_renewed_while_a_task_runs() -> None:
    """A task that was taken from its runner is cancelled there."""
    store, ends = TaskStore(), list[str]()
    going = asyncio.Event()

    async def execute() -> None:
        going.set()
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("cancelled")

    await store.create_task(queued("long"))
    async with serving(store, execute, lease=1.0):
        await going.wait()
        until_first = store.tasks["", "long"].lease_until
        await until(lambda: store.tasks["", "long"].lease_until > until_first + 0.5)
        await store.update_task("long", {"status": "done"})
        await until(lambda: ends == ["cancelled"])
    assert store.tasks["", "long"].status == "done"


async def test_the_number_of_tasks_that_run_is_bounded() -> None:
    """Also while the service catches up."""
    store, now = TaskStore(), [0, 0]

    async def execute() -> None:
        now[0] += 1
        now[1] = max(now)
        await asyncio.sleep(0)
        now[0] -= 1

    await store.create_tasks([queued(str(n), scheduled_for=in_past(9)) for n in range(40)])
    async with serving(store, execute, concurrency=3):
        await until(lambda: len(store.settled) == 40)
    assert now[1] <= 3
    assert {status for _, status in store.settled} == {"done"}


async def test_a_task_without_a_worker_waits_and_is_shown() -> None:
    """Status warns with its name, and lists show that nothing runs it."""
    store = TaskStore()
    await store.create_task(Task(name="OTHER", id="1", tags=["queue"]))
    async with serving(store, Tried().execute) as service:
        reports = service.runtime._reports
        await until(lambda: any("OTHER (1 due)" in text for text in reports.warnings.values()))
        (row,) = (await service.ls())["tasks"]
    assert (row["name"], row["status"], row["workers"]) == ("OTHER", "pending", [])


async def test_an_operator_runs_pauses_and_drops_tasks() -> None:
    """What is not as it must be for that is an error, and changes nothing."""
    store, tried = TaskStore(), Tried()
    await store.create_task(queued("a", scheduled_for=in_past(-3600)))
    await store.create_task(queued("b", scheduled_for=in_past(-3600)))
    async with serving(store, tried.execute) as service:
        assert await service.pause(["a"]) == 1
        assert (await service.show("a"))["error"] == "an operator paused it"
        assert await service.run(["a"]) == 1
        await status_of(store, "a", "done")
        rows = (await service.ls())["tasks"]
        assert [row["id"] for row in rows] == ["b"]
        for call, problem in (
            (service.resume(["b"]), "task b is pending: it is neither paused nor failed"),
            (service.pause(["a"]), "task a is done"),
            (service.show("c"), "no task c"),
            (service.ls(agent="bob"), "there is no agent bob"),
        ):
            with pytest.raises(LookupError, match=problem):
                await call
        assert await service.drop(["b"]) == 1
        assert (await service.ls(status="pending"))["tasks"] == []
    assert tried.runs == ["task-a-1"]


async def test_a_task_that_runs_is_paused_after_its_run() -> None:
    """The run counts."""
    store, go = TaskStore(), asyncio.Event()
    await store.create_task(queued("often", repeats=0.1))
    async with serving(store, lambda: go.wait()) as service:
        await status_of(store, "often", "running")
        assert await service.pause(["often"]) == 1
        with pytest.raises(LookupError, match="is running: it runs already"):
            await service.run(["often"])
        go.set()
        paused = await status_of(store, "often", "paused")
    assert (paused.runs, paused.error) == (1, "an operator paused it")


async def test_leases_of_a_former_process_are_released() -> None:
    """What this service held before it was killed runs again at once."""
    store, tried = TaskStore(), Tried()
    async with serving(store, tried.execute) as service:
        owner = service._claimer._owner
    await store.create_task(queued("cut"))
    await store.claim_tasks(owner=owner, lease=3600, limit=1)
    assert owner.startswith("task@")


async def test_an_unusable_store_is_shown() -> None:
    """A database that cannot claim tasks is named."""

    class Other:
        service_type = "database"

        async def get_tasks(self) -> None: ...

    plugin = Plugin("p", task_workers=[TaskWorker(NAME, lambda: None)])
    async with run(TaskService, fakes={"db": Other()}, plugin=plugin, config=QUICK) as service:
        reports = service.runtime._reports
        await until(
            lambda: any("it lacks claim_tasks" in text for text in reports.warnings.values())
        )
        with pytest.raises(LookupError):
            await service.show("x")
