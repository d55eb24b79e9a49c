"""The tasks and cached values in the agent's file: bounds, leases, expiry."""

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from garrison.workers import Task, TaskQuery
from garrison.workers.services.agent.memory import cache_rows, schema
from garrison.workers.services.agent.memory import task_rows as rows
from garrison.workers.services.agent.memory.task_rows import Bounds, Claim

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
NOW = NOON.timestamp()
WIDE = Bounds(100, 100_000)


@pytest.fixture
def at() -> Iterator[sqlite3.Cursor]:
    """Return a cursor of an empty file in memory."""
    db = sqlite3.connect(":memory:")
    db.executescript(schema.TABLES)
    yield db.cursor()
    db.close()


def add(at: sqlite3.Cursor, agent: str = "", **fields: Any) -> None:
    """Store a task that is due at noon."""
    given: dict[str, Any] = {"name": "t", "scheduled_for": NOON, "tags": ["queue"]}
    task = Task(**given | fields)
    rows.add(at, task, agent, WIDE)


def claim(at: sqlite3.Cursor, now: float = NOW, **more: Any) -> list[Task]:
    """Claim tasks at a time."""
    given: dict[str, Any] = {"owner": "me", "lease": 60.0, "limit": 10, "names": None, "agent": ""}
    return rows.claim(at, Claim(**given | more), now, WIDE)


def ids(tasks: list[Task]) -> list[str]:
    """Return their ids."""
    return [task.id for task in tasks]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ["1", "2", "3"]),
        ({"name": "a"}, ["1", "3"]),
        ({"status": {"$ne": "done"}, "roomId": "r"}, ["2"]),
        ({"scheduledFor": {"$lte": NOON}, "tags": "queue"}, ["1"]),
        ({"limit": 1, "offset": 1}, ["2"]),
        ({"name": "a", "limit": 1, "offset": 1}, ["3"]),
    ],
)
def test_a_query_is_a_task_query(
    at: sqlite3.Cursor, query: dict[str, Any], expected: list[str]
) -> None:
    """Its semantics are those of every store of tasks; a page is one of what matches."""
    add(at, id="1", name="a")
    add(at, id="2", name="b", room_id="r", scheduled_for=NOON + timedelta(hours=1))
    add(at, id="3", name="a", status="done", room_id="r", tags=[])
    add(at, "ada", id="4", name="a")

    assert ids(rows.matching(at, "", TaskQuery.parse(query))) == expected


def test_fields_are_changed(at: sqlite3.Cursor) -> None:
    """Other fields stay; an invalid value changes nothing; a status may be a condition."""
    add(at, id="1", description="d")

    def change(fields: dict[str, Any], task_id: str = "1", status: str | None = None) -> bool:
        return rows.change(at, "", task_id, fields, if_status=status, now=NOW, bounds=WIDE)

    assert change({"status": "done", "scheduled_for": None}, status="pending")
    assert not change({"status": "failed"}, status="pending")
    changed = rows.find(at, "", "1")
    assert changed is not None
    assert (changed.description, changed.status, changed.scheduled_for) == ("d", "done", None)
    assert changed.updated_at == NOW
    for fields in ({"status": 3}, {"colour": "red"}):
        with pytest.raises(ValueError, match=r"status|colour"):
            change(fields)
    assert rows.find(at, "", "1") == changed
    with pytest.raises(LookupError, match="no task '9'"):
        change({}, "9")
    with pytest.raises(LookupError, match="no task '1'"):
        rows.change(at, "ada", "1", {}, if_status=None, now=NOW, bounds=WIDE)


def test_a_full_table_rejects_a_task(at: sqlite3.Cursor) -> None:
    """Existing tasks stay and can be deleted; one whose id exists is kept as it is."""
    rows.add(at, Task(name="a", id="1"), "", Bounds(2, 1000))
    rows.add(at, Task(name="b", id="1"), "", Bounds(1, 1000))
    with pytest.raises(OverflowError, match="1 tasks already; delete some"):
        rows.add(at, Task(name="c", id="3"), "", Bounds(1, 1000))
    fields = {"description": "x" * 1000}
    with pytest.raises(OverflowError, match=r"no room for a task of \d+ bytes"):
        rows.change(at, "", "1", fields, if_status=None, now=NOW, bounds=Bounds(2, 1000))
    rows.remove(at, "", "1")
    rows.remove(at, "", "1")

    assert schema.count(at, "tasks") == (0, 0)


def test_due_tasks_are_claimed_once_the_earliest_first(at: sqlite3.Cursor) -> None:
    """Pending ones with the tag, of the agent, by name; as many as wanted."""
    add(at, id="later", scheduled_for=NOON + timedelta(seconds=1))
    add(at, id="due")
    add(at, id="early", scheduled_for=NOON - timedelta(hours=1), name="other")
    add(at, id="at once", scheduled_for=None)
    add(at, id="untagged", tags=[])
    add(at, id="done", status="done")
    add(at, "ada", id="another's")

    assert ids(claim(at, names=["other"])) == ["early"]
    assert ids(claim(at, limit=1)) == ["at once"]
    (task,) = claim(at)
    assert (task.id, task.status, task.lease_owner) == ("due", "running", "me")
    assert task.lease_until == NOW + 60
    assert claim(at) == []
    assert ids(claim(at, agent="*")) == ["another's"]


def test_a_lease_that_has_ended_is_claimed_by_another(at: sqlite3.Cursor) -> None:
    """And what its former holder settles then changes nothing."""
    add(at, id="1")
    (first,) = claim(at, owner="a")
    assert claim(at, NOW + 59, owner="b") == []
    (second,) = claim(at, NOW + 60, owner="b")
    assert first.lease != second.lease

    def settle(task: Task) -> bool:
        fields = {"status": "done"}
        return rows.settle(at, "", "1", task.lease, fields, now=NOW, bounds=WIDE)

    assert not rows.renew(at, "", "1", first.lease, NOW + 999, WIDE)
    assert not settle(first)
    assert rows.renew(at, "", "1", second.lease, NOW + 999, WIDE)
    assert claim(at, NOW + 200) == []
    assert settle(second)
    assert not settle(second)
    done = rows.find(at, "", "1")
    assert done is not None
    assert (done.status, done.lease, done.lease_owner, done.lease_until) == ("done", "", "", 0.0)
    add(at, id="2")
    (third,) = claim(at)
    assert rows.settle(at, "", "2", third.lease, {"attempts": 1}, now=NOW, bounds=WIDE)
    assert ids(claim(at)) == ["2"]  # without a new status it is pending again
    assert not rows.settle(at, "", "1", "", {}, now=NOW, bounds=WIDE)
    assert not rows.settle(at, "", "unknown", "x", {}, now=NOW, bounds=WIDE)


def test_an_owner_that_died_gives_back_its_leases(at: sqlite3.Cursor) -> None:
    """Others keep theirs, and so does what an author set to running without a lease."""
    add(at, id="1")
    claim(at, owner="a")
    add(at, id="2")
    claim(at, owner="b")
    add(at, id="3", status="running")

    assert rows.release(at, "", "a", NOW, WIDE) == 1
    assert rows.release(at, "", "a", NOW, WIDE) == 0
    assert ids(claim(at, owner="a")) == ["1"]


WIDE_CACHE = cache_rows.Bounds(100, 1000)


def test_a_cached_value_expires(at: sqlite3.Cursor) -> None:
    """It is not found from then on, and deleted later."""
    assert cache_rows.put(at, "", "k", b"1", NOW + 5, WIDE_CACHE)
    assert cache_rows.put(at, "ada", "k", b"2", None, WIDE_CACHE)

    assert cache_rows.find(at, "", "k", NOW + 4) == b"1"
    assert cache_rows.find(at, "", "k", NOW + 5) is None
    assert not cache_rows.remove(at, "", "k", NOW + 5)
    assert cache_rows.put(at, "", "k", b"1", NOW + 5, WIDE_CACHE)
    assert cache_rows.remove_expired(at, NOW + 5) == 1
    assert cache_rows.find(at, "ada", "k", NOW + 99) == b"2"
    assert cache_rows.remove(at, "ada", "k", NOW)
    assert not cache_rows.remove(at, "ada", "k", NOW)
    assert schema.count(at, "cache") == (0, 0)


def test_the_cache_drops_what_was_stored_longest_ago(at: sqlite3.Cursor) -> None:
    """By number and by bytes, keys included; a value larger than the cache is not stored."""
    bounds = cache_rows.Bounds(3, 12)

    def keys() -> str:
        return "".join(one for one in "abcde" if cache_rows.find(at, "", one, NOW) is not None)

    for key in "abca":
        assert cache_rows.put(at, "", key, b"xx", None, bounds)
    cache_rows.put(at, "", "d", b"xx", None, bounds)
    assert keys() == "acd"
    cache_rows.put(at, "", "e", b"12345678", None, bounds)
    assert keys() == "de"
    assert not cache_rows.put(at, "", "d", b"x" * 12, None, bounds)
    assert keys() == "e"
