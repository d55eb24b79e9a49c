"""The page Tasks: order, words, hostile texts, and what buttons do."""

from typing import Any

import pytest
from tests.support.console_visits import EVIL, FakeHost, listed, text_of, visit_of

from garrison.ipc import OrderFailed
from garrison.workers.services.console.pages import tasks
from garrison.workers.services.console.task_rows import last_result, merged, repeats, why


def task(task_id: str = "t1", status: str = "pending", **more: Any) -> dict[str, Any]:
    """Return a task as its service lists it."""
    return {
        "agent": "",
        "id": task_id,
        "name": "remind",
        "status": status,
        "is_queued": True,
        "at": 100.0,
        "every_s": 0.0,
        "cron": "",
        "time_zone": "",
        "attempts": 0,
        "error": "",
        "workers": ["bot"],
        **more,
    }


def detail(**more: Any) -> dict[str, Any]:
    """Return a task with all that it has."""
    return task(**more) | {
        "description": EVIL,
        "tags": ["queue", EVIL],
        "metadata": {"text": EVIL},
        "room_id": EVIL,
        "deaths": 1,
        "runs": 4,
        "missed_count": 2,
        "missed_until": 90.0,
        "lease_owner": EVIL,
        "lease_until": None,
    }


def host_of(**answers: Any) -> FakeHost:
    """Return a host with one task service."""
    entry = listed("task", "task", "ls", "show", "run", "pause", "resume", "drop")
    return FakeHost([entry], {("task", name): one for name, one in answers.items()})


def test_what_failed_comes_first_then_what_runs() -> None:
    """Two services may run the same tasks: each is shown once."""
    rows = [task("b", at=9.0), task("a", at=5.0), task("r", "running"), task("f", "failed")]
    found = merged([{"tasks": rows, "more": False}, {"tasks": rows[:2], "more": True}], 10)
    assert [row["id"] for row in found["tasks"]] == ["f", "r", "a", "b"]
    assert found["more"]
    assert found["tasks"][0]["actions"] == ("resume", "run")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (task(), ("", "", "")),
        (task(every_s=90.0), ("every 1 min 30 s", "", "")),
        (task(cron="0 8 * * *", time_zone="Europe/Berlin"), ("0 8 * * * (Europe/Berlin)", "", "")),
        (task(is_queued=False), ("", "it has no tag queue, so it does not run", "")),
        (task(workers=[]), ("", "no worker is registered for it", "")),
        (task(status="failed", error="boom", attempts=3), ("", "boom", "failed, 3 in a row")),
        (task(runs=2), ("", "", "finished")),
        (task(runs=0), ("", "", "it has not run yet")),
    ],
)
def test_a_task_in_words(row: dict[str, Any], words: tuple[str, str, str]) -> None:
    """How it repeats, why it does not run, how its last run ended."""
    assert (repeats(row), why(row), last_result(row)) == words


async def test_texts_of_tasks_stay_text() -> None:
    """In the list, on a task's page, and where a drop is confirmed."""
    row = task(name=EVIL, error=EVIL, cron=EVIL, task_id="a/b", agent="ada")
    host = host_of(ls={"tasks": [row], "more": True}, show=detail(name=EVIL, error=EVIL))
    text = text_of(await tasks.show(visit_of(host, query={"did": "run", "of": EVIL})))
    assert "/tasks/a/b?agent=ada" in text
    text_of(await tasks.show_one(visit_of(host, path={"id": "t1"})))
    text_of(await tasks.act(visit_of(host, form={"do": "drop", "id": "t1"})))


async def test_a_button_acts_on_its_task_alone() -> None:
    """A drop needs a confirmation; what no button does is refused."""
    host = host_of(run=1, drop=1, show=detail())
    answer = await tasks.act(visit_of(host, form={"do": "run", "id": "t1", "agent": ""}))
    assert answer.headers["location"] == "/tasks/t1?did=run&of=t1"
    assert host.calls == [("task", "run", (["t1"], None))]
    form = {"do": "drop", "id": "t1", "agent": "ada", "sure": "yes"}
    answer = await tasks.act(visit_of(host, form=form))
    assert answer.headers["location"].startswith("/tasks?did=drop")
    assert host.calls[-1] == ("task", "drop", (["t1"], "ada"))
    with pytest.raises(OrderFailed):
        await tasks.act(visit_of(host, form={"do": "call", "id": "t1"}))
