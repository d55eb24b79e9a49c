"""Queries of tasks, changes of tasks, and elizaOS's spelling: what each store of tasks means."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from garrison.workers import Task, TaskChanges, TaskQuery
from garrison.workers.agents.database.queries import keywords, snake_case

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
TASKS = [
    Task(name="due", id="1", scheduled_for=NOON, tags=["queue", "repeat"], created_at=100.0),
    Task(name="later", id="2", scheduled_for=NOON + HOUR, tags=["queue"]),
    Task(name="at once", id="3", room_id="r", max_late=60.0),
    Task(name="done", id="4", status="done", scheduled_for=NOON, attempts=2),
    Task(name="naive", id="5", scheduled_for=NOON.replace(tzinfo=None), room_id="r"),
]


def ids(query: dict[str, Any]) -> str:
    """Return the ids of the tasks that match."""
    return "".join(task.id for task in TaskQuery.parse(query).select(TASKS))


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
        ({"scheduled_for": {"$gte": None}}, "12345"),
        ({"scheduled_for": {"$gt": None}}, "1245"),
        ({"scheduled_for": {"$gt": NOON, "$lt": NOON + HOUR}}, ""),
        ({"scheduled_for": NOON}, "145"),
        ({"scheduled_for": None}, "3"),
        ({"scheduled_for": {"$ne": None}}, "1245"),
        ({"scheduled_for": {"$in": [NOON, None]}}, "1345"),
        ({"tags": ["queue"]}, "12"),
        ({"tags": ["repeat", "queue"]}, "1"),
        ({"tags": "repeat"}, "1"),
        ({"tags": {"$eq": ["queue"]}}, "2"),
        ({"tags": {"$all": ["queue", "queue"]}}, "12"),
        ({"tags": [], "room_id": "r"}, "35"),
        ({"status": {"$in": ["done", "failed"]}}, "4"),
        ({"status": {"$ne": "done"}, "name": "due"}, "1"),
        ({"metadata": {}}, "12345"),
        ({"scheduledFor": {"$lte": NOON}, "roomId": "r"}, "35"),
        ({"roomId": None}, "124"),
        ({"maxLate": {"$gt": 1}}, "3"),
        ({"maxLate": {"$lt": 100}}, "3"),
        ({"maxLate": None}, "1245"),
        ({"attempts": {"$gte": 1.5}}, "4"),
        ({"createdAt": {"$gte": "1970-01-01T00:01:40Z"}}, "1"),
        ({"limit": 2}, "12"),
        ({"limit": 2, "offset": 1, "tags": []}, "23"),
        ({"offset": 4}, "5"),
        ({"limit": 0}, ""),
    ],
)
def test_queries(query: dict[str, Any], expected: str) -> None:
    """A value or a comparison for a field, in either spelling. Times without a zone are UTC; no
    time is due now; an empty text is none."""
    assert ids(query) == expected


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ({"scheduledAt": NOON}, "no field 'scheduled_at'"),
        ({"status": {"$like": "x"}}, "no comparison '\\$like'"),
        ({"status": {"$all": ["x"]}}, "no comparison '\\$all'"),
        ({"status": {"$lt": 3}}, "cannot be compared"),
        ({"status": {"$in": "done"}}, "takes a list"),
        ({"tags": {"$lt": ["a"]}}, "cannot be compared"),
        ({"tags": 3}, "cannot be compared"),
        ({"attempts": float("nan")}, None),
        ({"created_at": {"$lt": float("nan")}}, "no number"),
        ({"scheduled_for": {"$lte": "soon"}}, "'soon' is no time"),
        ({"scheduled_for": {"$lte": 1e300}}, "is no time"),
        ({"scheduled_for": {"$in": [True]}}, "is no time"),
        ({"roomId": "r", "room_id": "q"}, "given twice"),
        ({"limit": -1}, "no number of tasks"),
        ({"offset": True}, "no number of tasks"),
    ],
)
def test_an_invalid_query_is_an_error(query: dict[str, Any], problem: str | None) -> None:
    """And not an empty list."""
    if problem is None:
        assert ids(query) == ""
        return
    with pytest.raises(ValueError, match=problem):
        TaskQuery.parse(query)


def test_a_query_means_the_same_after_encoding() -> None:
    """msgpack encodes times with a zone as timestamps, those without as texts."""
    for now in (NOON, NOON.replace(tzinfo=None)):
        query = msgspec.msgpack.decode(msgspec.msgpack.encode({"scheduled_for": {"$lte": now}}))

        assert ids(query) == "1345"


def test_the_agent_that_a_query_names() -> None:
    """A service that belongs to no agent may name one there, as in elizaOS."""
    assert TaskQuery.parse({"agentId": "ada"}).agent_id == "ada"
    assert TaskQuery.parse({"agent_id": {"$ne": "ada"}}).agent_id is None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"roomId": "r"}, {"room_id": "r"}),
        ({"scheduledFor": 0}, {"scheduled_for": datetime(1970, 1, 1, tzinfo=UTC)}),
        ({"scheduled_for": None}, {"scheduled_for": None}),
        ({"metadata": {"updateInterval": 5}}, {"metadata": {"updateInterval": 5}}),
        ({"status": "running"}, {"status": "running"}),
        (
            {"status": "paused"},
            {"status": "paused", "lease": "", "lease_owner": "", "lease_until": 0.0},
        ),
        ({"id": "x", "agentId": "y", "lease": "z", "attempts": 3}, {"attempts": 3}),
    ],
)
def test_changes(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """Either spelling; `metadata` is not touched. The id, the agent and the lease stay; a status
    other than running ends the lease."""
    assert TaskChanges.parse(fields).fields == expected


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"status": 3}, "status: "),
        ({"status": None}, "status: "),
        ({"colour": "red"}, "no field 'colour'"),
        ({"scheduled_for": "soon"}, "is no time"),
        ({"attempts": 1.5}, "attempts: "),
        ({"max_late": float("nan")}, "no number"),
    ],
)
def test_invalid_changes_are_an_error(fields: dict[str, Any], problem: str) -> None:
    """They name the field."""
    with pytest.raises(ValueError, match=problem):
        TaskChanges.parse(fields)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("roomId", "room_id"),
        ("tableName", "table_name"),
        ("matchThreshold", "match_threshold"),
        ("userID", "user_id"),
        ("room_id", "room_id"),
        ("count", "count"),
        ("DONE", "DONE"),
        ("", ""),
    ],
)
def test_spelling(name: str, expected: str) -> None:
    """A name that is in snake_case already, or no name of elizaOS's, is left as it is."""
    assert snake_case(name) == expected


def test_keywords() -> None:
    """An argument that a method does not have is an error that names those it has."""
    known = {"table_name", "room_id"}
    assert keywords({"tableName": "facts", "room_id": "r"}, known) == {
        "table_name": "facts",
        "room_id": "r",
    }
    with pytest.raises(ValueError, match="no 'colour'; there are room_id, table_name"):
        keywords({"colour": "red"}, known)
