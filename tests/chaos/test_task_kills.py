"""The task service and the services that run tasks are killed in the middle of tasks."""

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.host import Host, found, hosting
from tests.support.postgres import NEEDS_POSTGRES, Postgres, postgres
from tests.support.waiting import eventually, until

from garrison.ipc import Client
from garrison.workers import Task

CONFIG = """
[defaults]
intensity = 50
env = { DEEDS = "%s" }

[plugins]
agent = {}
eliza = {}
chores = {}
task = {}

[services.task-2]
plugin = "task"
type = "task"

[services.task.config]
steady = 0.1
poll = 0.1
backoff = 0.05

[services.task-2.config]
steady = 0.1
poll = 0.1
backoff = 0.05
"""


@pytest.fixture(scope="module")
def deeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of what was begun."""
    return tmp_path_factory.mktemp("deeds") / "deeds"


@pytest.fixture(scope="module", params=["agent", pytest.param("postgres", marks=NEEDS_POSTGRES)])
def server(request: pytest.FixtureRequest) -> Iterator[Postgres | None]:
    """Return a PostgreSQL server; None where the agent keeps the tasks."""
    with contextlib.ExitStack() as stack:
        yield None if request.param == "agent" else stack.enter_context(postgres())


@pytest.fixture(scope="module")
def running(deeds: Path, server: Postgres | None) -> Iterator[Host]:
    """Return a host with two task services on one store."""
    deeds.unlink(missing_ok=True)
    config = CONFIG % deeds
    if server is not None:
        config += f'[plugins.database]\n[services.database.config]\nurl = "{server.url}"\n'
    with hosting(config, ["chores"]) as host:
        yield host


async def all_of(client: Client, ids: list[str]) -> list[dict[str, Any]]:
    """Return tasks as the task service shows them."""
    tasks = found(client, "task")
    rows = (await tasks.ls(most=1000))["tasks"] + (await tasks.ls(status="done", most=1000))[
        "tasks"
    ]
    return [row for row in rows if row["id"] in ids]


async def until_done(client: Client, ids: list[str]) -> None:
    """Wait until tasks are done."""

    async def done() -> bool:
        return all(row["status"] == "done" for row in await all_of(client, ids))

    await eventually(done)


def begun(deeds: Path, prefix: str) -> list[str]:
    """Return the runs that began, as often as they did."""
    text = deeds.read_text() if deeds.exists() else ""
    return [line for line in text.splitlines() if line.startswith(f"task-{prefix}")]


def have_begun(deeds: Path, prefix: str, count: int) -> bool:
    """Return whether so many runs have begun."""
    return len(begun(deeds, prefix)) >= count


@pytest.mark.xdist_group("task_kills")
async def test_each_task_is_done_once_by_two_runners(running: Host, deeds: Path) -> None:
    """While nothing is killed, each is begun once."""
    ids = [f"calm{n}" for n in range(40)]
    async with running.connect() as client:
        await found(client, "chores").plan(ids, {})
        await until_done(client, ids)
    assert sorted(begun(deeds, "calm")) == sorted(f"task-{one}-1" for one in ids)


@pytest.mark.xdist_group("task_kills")
@pytest.mark.parametrize("victim", ["chores", "task"])
async def test_each_task_has_one_result_where_a_process_is_killed(
    running: Host, deeds: Path, victim: str
) -> None:
    """Those that were cut short run again, under the id that their runs had; the result of each is
    committed once."""
    ids = [f"{victim}-{n}" for n in range(24)]
    async with running.connect() as client:
        await found(client, "chores").plan(ids, {"seconds": 0.05})
        for count in (1, 10):
            until(functools.partial(have_begun, deeds, victim, count))
            old = running.kill(victim)
            running.until_reborn(victim, old)
        await until_done(client, ids)
        tasks = found(client, "task")
        shown = [await tasks.show(one) for one in ids]
    assert [(one["runs"], one["attempts"], one["error"]) for one in shown] == [(1, 0, "")] * 24
    assert set(begun(deeds, victim)) == {f"task-{one}-1" for one in ids}


@pytest.mark.xdist_group("task_kills")
async def test_a_task_that_ends_its_process_is_paused(
    running: Host, server: Postgres | None
) -> None:
    """After three times alone, with the reason; those that ran beside it are done."""
    async with running.connect() as client:
        tasks, store = found(client, "task"), "agent" if server is None else "database"
        good = [f"good{n}" for n in range(4)]
        for one in ["bad", *good]:  # by the store itself: the service that plans will be killed
            options = {"kills": one == "bad", "seconds": 0.05}
            task = Task(name="CHORE", id=one, tags=["queue"], metadata=options)
            await found(client, store).create_task(task)

        async def is_paused() -> bool:
            return bool((await tasks.show("bad"))["status"] == "paused")

        await eventually(is_paused)
        bad = await tasks.show("bad")
        await until_done(client, good)
    assert "process ended 3 times" in bad["error"]
    assert running.run("tasks", "ls").out.count("paused") == 1


@pytest.mark.xdist_group("task_kills")
async def test_tasks_go_on_after_the_server_was_killed(
    running: Host, deeds: Path, server: Postgres | None
) -> None:
    """What was claimed and not settled is settled once the server is back, or runs again."""
    if server is None:
        return  # the agent's file has no server
    ids = [f"server-{n}" for n in range(24)]
    restarts = running.status("task")["restarts"]
    async with running.connect() as client:
        await found(client, "chores").plan(ids, {"seconds": 0.05})
        until(functools.partial(have_begun, deeds, "server", 1))
        server.kill()
        server.start()
        await until_done(client, ids)
        tasks = found(client, "task")
        shown = [await tasks.show(one) for one in ids]
    assert [(one["runs"], one["attempts"]) for one in shown] == [(1, 0)] * 24
    assert running.status("task")["restarts"] == restarts
