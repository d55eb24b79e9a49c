"""Tasks and the cache in the agent's own memory: queries, bounds."""

from datetime import UTC, datetime, timedelta, timezone
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


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, "12345"),
        ({"status": "pending", "scheduled_for": {"$lte": NOON}}, "135"),
        ({"scheduled_for": {"$lte": NOON.replace(tzinfo=None)}}, "1345"),
        ({"scheduled_for": {"$lte": "2026-11-23T12:00:00"}}, "1345"),
        ({"scheduled_for": {"$lte": NOON.timestamp()}}, "1345"),
        ({"scheduled_for": {"$lte": NOON.astimezone(timezone(timedelta(hours=5)))}}, "1345"),
        ({"scheduled_for": {"$gt": NOON}}, "2"),
        ({"scheduled_for": {"$gt": NOON, "$lt": NOON + timedelta(hours=1)}}, ""),
        ({"scheduled_for": NOON}, "145"),
        ({"scheduled_for": None}, "3"),
        ({"scheduled_for": {"$ne": None}}, "1245"),
        ({"scheduled_for": {"$in": [NOON, None]}}, "1345"),
        ({"tags": ["queue"]}, "12"),
        ({"tags": ["repeat", "queue"]}, "1"),
        ({"tags": "repeat"}, "1"),
        ({"tags": [], "room_id": "r"}, "35"),
        ({"status": {"$in": ["done", "failed"]}}, "4"),
        ({"status": {"$ne": "done"}, "name": "due"}, "1"),
        ({"metadata": {}}, "12345"),
    ],
)
def test_queries(query: dict[str, Any], expected: str) -> None:
    """A value or a comparison for a field. Times without a zone are UTC; no time is due now."""
    assert "".join(task.id for task in tasks().matching(query)) == expected


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ({"scheduledFor": {"$lte": NOON}}, "no field 'scheduledFor'"),
        ({"status": {"$like": "x"}}, "no comparison '\\$like'"),
        ({"status": {"$lt": 3}}, "cannot be compared"),
        ({"scheduled_for": {"$lte": "soon"}}, "'soon' is no time"),
        ({"scheduled_for": {"$lte": 1e300}}, "is no time"),
    ],
)
def test_an_invalid_query_is_an_error(query: dict[str, Any], problem: str) -> None:
    """And not an empty list."""
    with pytest.raises(ValueError, match=problem):
        tasks().matching(query)


def test_a_query_means_the_same_after_encoding() -> None:
    """msgpack encodes times with a zone as timestamps, those without as texts."""
    for now in (NOON, NOON.replace(tzinfo=None)):
        query = msgspec.msgpack.decode(msgspec.msgpack.encode({"scheduled_for": {"$lte": now}}))

        assert [task.id for task in tasks().matching(query)] == ["1", "3", "4", "5"]


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
    kept = Tasks(2, 300)
    kept.put(Task(name="a", id="1"))
    kept.put(Task(name="b", id="2"))
    with pytest.raises(OverflowError, match="2 tasks already; delete some"):
        kept.put(Task(name="c", id="3"))
    with pytest.raises(OverflowError, match="no room"):
        kept.change("1", {"description": "x" * 300})
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
