"""Tasks and the cache in the agent's own memory: queries, bounds."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from garrison.workers import Task
from garrison.workers.services.agent.tasks import Cache, Tasks

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def tasks() -> Tasks:
    """Return some tasks."""
    kept = Tasks(10, 100_000)
    for task in (
        Task(name="due", id="1", scheduled_for=NOON, tags=["queue", "repeat"]),
        Task(name="later", id="2", scheduled_for=NOON + timedelta(hours=1), tags=["queue"]),
        Task(name="at once", id="3", room_id="r"),
        Task(name="done", id="4", status="done", scheduled_for=NOON),
        Task(name="naive", id="5", scheduled_for=NOON.replace(tzinfo=None), room_id="r"),
    ):
        kept.put(task)
    return kept


def test_a_query_is_a_task_query() -> None:
    """Its semantics are those of every store of tasks."""
    query = {"scheduledFor": {"$lte": NOON}, "tags": "queue"}

    assert [task.id for task in tasks().matching(query)] == ["1"]
    with pytest.raises(ValueError, match="no field 'colour'"):
        tasks().matching({"colour": "red"})


def test_fields_are_changed() -> None:
    """Other fields stay; an invalid value changes nothing."""
    kept = tasks()
    kept.change("1", {"status": "done", "scheduled_for": None})
    changed = kept.get("1")

    assert changed is not None
    assert (changed.name, changed.status, changed.scheduled_for) == ("due", "done", None)
    for fields in ({"status": 3}, {"colour": "red"}):
        with pytest.raises(ValueError, match=r"status|colour"):
            kept.change("1", fields)
    assert kept.get("1") == changed
    with pytest.raises(LookupError, match="no task '9'"):
        kept.change("9", {})


def test_a_full_table_rejects_a_task() -> None:
    """Existing tasks stay and can be changed and deleted."""
    kept = Tasks(2, 600)
    kept.put(Task(name="a", id="1"))
    kept.put(Task(name="b", id="2"))
    with pytest.raises(OverflowError, match="2 tasks already; delete some"):
        kept.put(Task(name="c", id="3"))
    with pytest.raises(OverflowError, match="no room"):
        kept.change("1", {"description": "x" * 600})
    kept.change("1", {"description": "x"})
    kept.remove("2")
    kept.remove("2")
    kept.put(Task(name="c", id="3"))

    assert [task.id for task in kept.matching({})] == ["1", "3"]
    assert kept.bytes == sum(len(msgspec.msgpack.encode(t)) for t in kept.matching({}))


def test_the_cache_drops_the_least_recently_used() -> None:
    """By number and by bytes; a value larger than the cache is not stored."""
    cache: Cache[str] = Cache(3, 12)
    for key in "abc":
        assert cache.put(key, b"xx")
    assert cache.get("a") == b"xx"
    cache.put("d", b"xx")
    assert cache.get("b") is None
    cache.put("e", b"12345678")
    assert [key for key in "abcde" if cache.get(key)] == ["d", "e"]
    assert not cache.put("d", b"x" * 12)
    assert cache.get("d") is None
    assert cache.remove("e")
    assert not cache.remove("e")
    assert (cache.bytes, len(cache)) == (0, 0)


def test_the_size_of_keys_counts() -> None:
    """Otherwise a cache of empty values would have no limit. A key may be several texts."""
    cache: Cache[Any] = Cache(100, 20)
    assert not cache.put("k" * 21, b"")
    for character in "abc":
        assert cache.put((character * 4, character * 4), b"")
    assert (len(cache), cache.bytes) == (2, 16)
