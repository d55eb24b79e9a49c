"""What follows the run of a task, where tasks run, and whether the host is quiet."""

import asyncio
import math
from typing import Any

import pytest

from garrison.ipc import (
    Busy,
    CallError,
    CallTimeout,
    InvalidCall,
    Overloaded,
    RemoteError,
    ServiceLost,
    ServiceUnavailable,
    State,
)
from garrison.workers import Task, TaskEnd, TaskRun
from garrison.workers.services.task.outcome import Kind, Limits, backoff, decide
from garrison.workers.services.task.scopes import Listed, scopes
from garrison.workers.services.task.steadiness import PATIENCE_S, Steadiness
from garrison.workers.services.task.turns import Turns

NOW = 1_800_000_000.0
LIMITS = Limits(retries=5, backoff=10.0)


def lost(died: bool) -> ServiceLost:
    error = ServiceLost("chores", "$run_task", "it was killed")
    error.died = died
    return error


@pytest.mark.parametrize(
    ("end", "before", "kind", "status", "after"),
    [
        (TaskRun(TaskEnd.DONE), {"attempts": 3}, Kind.DONE, "done", {"attempts": 0, "runs": 1}),
        (TaskRun(TaskEnd.LATER, 60.0), {}, Kind.PUT_OFF, "pending", {}),
        (TaskRun(TaskEnd.NOT_NOW), {}, Kind.PUT_OFF, "pending", {}),
        (Busy("full", 5.0), {}, Kind.PUT_OFF, "pending", {}),
        (ServiceUnavailable("chores", "", "stopped"), {}, Kind.PUT_OFF, "pending", {}),
        (Overloaded("chores", "x", "full"), {}, Kind.PUT_OFF, "pending", {}),
        (InvalidCall("chores", "x", "no such method"), {}, Kind.PUT_OFF, "pending", {}),
        (lost(False), {"deaths": 2}, Kind.PUT_OFF, "pending", {}),
        (TaskRun(TaskEnd.PAUSE, 0.0, "gone"), {}, Kind.PAUSED, "paused", {"error": "gone"}),
        (RemoteError("chores", "x", "E: no"), {}, Kind.FAILED, "pending", {"attempts": 1}),
        (CallTimeout("chores", "x", "5"), {}, Kind.FAILED, "pending", {"attempts": 1}),
        (RemoteError("chores", "x", "E: no"), {"attempts": 4}, Kind.PAUSED, "paused", {}),
        (lost(True), {}, Kind.DIED, "pending", {"deaths": 1}),
        (lost(True), {"deaths": 2}, Kind.PAUSED, "paused", {"deaths": 3}),
    ],
)
def test_what_follows_a_run(
    end: TaskRun | CallError, before: Any, kind: Kind, status: str, after: dict[str, Any]
) -> None:
    """Only what the task itself did counts as a failure."""
    found = decide(Task(name="X", **before), end, LIMITS, NOW, 0.5, None)
    assert (found.kind, found.fields["status"]) == (kind, status)
    assert after.items() <= found.fields.items()
    if status == "pending":
        assert found.fields["scheduled_for"].timestamp() > NOW
        assert "attempts" in after or "attempts" not in found.fields


def test_a_task_is_not_blamed_for_an_end_that_others_may_have_caused() -> None:
    """It runs alone the next time."""
    found = decide(Task(name="X", deaths=2), lost(True), LIMITS, NOW, 0.5, None, was_alone=False)
    assert (found.kind, found.fields["deaths"]) == (Kind.DIED, 2)


def test_a_repeated_task_that_is_done_waits_for_its_next_time() -> None:
    """Its failures in a row are over."""
    found = decide(Task(name="X", attempts=2), TaskRun(TaskEnd.DONE), LIMITS, NOW, 0.5, NOW + 9)
    assert found.fields["status"] == "pending"
    assert found.fields["scheduled_for"].timestamp() == pytest.approx(NOW + 9)


def test_retries_wait_longer_and_longer_and_not_all_alike() -> None:
    """From half of the limit to all of it, and never more than an hour."""
    assert [backoff(10, n, 1.0) for n in (1, 2, 3, 9)] == [10, 40, 160, 3600]
    assert backoff(10, 1, 0.0) == 5


# --- where tasks run --------------------------------------------------------------------------


def service(name: str, kind: str, *names: str, claims: bool = True) -> Listed:
    agent, _, _ = name.rpartition(".")
    return Listed(name, agent, kind, True, claims, names)


def test_each_agent_has_a_store_and_workers() -> None:
    """Its own precede the shared ones; another agent's are not its."""
    found = scopes(
        [
            service("ada.agent", "agent"),
            service("ada.chores", "chores", "CLEAN"),
            service("bob.agent", "agent"),
            service("bob.database", "database"),
            service("clock", "clock", "CLEAN", "TICK"),
        ],
        "",
    )
    assert [(one.agent, one.store) for one in found] == [
        ("ada", "ada.agent"),
        ("bob", "bob.database"),
    ]
    assert found[0].workers == {"CLEAN": ("ada.chores", "clock"), "TICK": ("clock",)}
    assert found[1].workers == {"CLEAN": ("clock",), "TICK": ("clock",)}


def test_a_task_service_of_an_agent_has_its_tasks_alone() -> None:
    """A shared database keeps them as well."""
    services = [service("ada.agent", "agent"), service("bob.x", "x"), service("db", "database")]
    assert [(one.agent, one.store) for one in scopes(services, "ada")] == [("ada", "db")]
    assert [one.agent for one in scopes(services, "")] == ["", "ada", "bob"]


def test_a_store_that_cannot_be_used_is_a_problem() -> None:
    """So is none."""
    (other,) = scopes([service("db", "database", claims=False)], "")
    assert "db keeps no tasks that can be claimed" in other.problem
    (none,) = scopes([service("chat", "chat")], "")
    assert "add [plugins.agent] or [plugins.database]" in none.problem


# --- a quiet host -----------------------------------------------------------------------------


def test_tasks_start_in_a_service_that_has_run_for_a_while() -> None:
    """A restart begins that anew; what is stopped or failed is quiet."""
    steady = Steadiness(2.0, 0.0)
    steady.observe("chores", State.STARTING, 1, 0.0)
    assert steady.wait("chores", 1.0) == math.inf
    steady.observe("chores", State.RUNNING, 1, 1.0)
    steady.observe("other", State.FAILED, 1, 1.0)
    assert steady.wait("chores", 1.0) == 2.0
    assert steady.wait("chores", 3.0) == 0.0
    steady.observe("chores", State.RUNNING, 2, 4.0)
    assert steady.wait("chores", 4.5) == 1.5
    assert steady.wait("gone", 4.5) == math.inf


def test_a_flapping_host_starts_nothing_but_not_for_ever() -> None:
    """A service that keeps crashing delays the tasks of others by `PATIENCE_S` at most."""
    steady = Steadiness(2.0, 0.0)
    steady.observe("chores", State.RUNNING, 1, 0.0)
    assert steady.wait("chores", 10.0) == 0.0
    for n in range(40):
        steady.observe("crasher", State.BACKOFF if n % 2 else State.RUNNING, n, 100.0 + n)
        assert (steady.wait("chores", 100.0 + n) > 0) == (n < PATIENCE_S)
    steady.observe("crasher", State.FAILED, 50, 150.0)
    assert steady.wait("chores", 153.0) == 0.0


async def test_a_suspect_runs_alone() -> None:
    """It waits for those that run, and those that come later wait for it."""
    turns, order, go = Turns(), list[str](), asyncio.Event()

    async def run(name: str, alone: bool) -> None:
        async with turns.take(name, alone):
            order.append(f"{name} with {len(turns.running) - 1}")
            await go.wait()

    first = [asyncio.create_task(run(name, False)) for name in ("a", "b")]
    await asyncio.sleep(0)
    suspect = asyncio.create_task(run("s", True))
    await asyncio.sleep(0)
    late = asyncio.create_task(run("c", False))
    await asyncio.sleep(0)
    assert order == ["a with 0", "b with 1"]
    go.set()
    await asyncio.gather(*first, suspect, late)
    assert order[2:] == ["s with 0", "c with 0"]


def test_of_several_that_ran_none_is_to_blame() -> None:
    """Each of them asks when it learns of the end; the first has left by then."""
    turns = Turns()
    turns.running |= {"a", "b"}
    assert not turns.ended_alone("a", 7)
    turns.running.discard("a")
    assert not turns.ended_alone("b", 7)
    turns.running = {"b"}
    assert turns.ended_alone("b", 8)
