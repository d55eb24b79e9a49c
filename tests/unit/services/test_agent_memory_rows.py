"""The memories in the agent's file: what is dropped, what is found."""

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from garrison.workers import Memory
from garrison.workers.agents.content import Content
from garrison.workers.services.agent.memory import memory_rows as rows
from garrison.workers.services.agent.memory import schema
from garrison.workers.services.agent.memory.memory_rows import Bounds, Prepared, Wanted, decoded
from garrison.workers.services.agent.memory.similarity import Search, decode, encode

WIDE = Bounds(100, 100, 100_000)


@pytest.fixture
def at() -> Iterator[sqlite3.Cursor]:
    """Return a cursor of an empty file in memory."""
    db = sqlite3.connect(":memory:")
    db.executescript(schema.TABLES)
    yield db.cursor()
    db.close()


def memory(name: str, room: str = "r", at: float = 0.0, **more: Any) -> Memory:
    """Return a message."""
    fields = {"entity_id": "someone", **more}
    return Memory(content=Content(name), id=name, room_id=room, created_at=at, **fields)


def add(
    at: sqlite3.Cursor,
    one: Memory,
    table: str = "messages",
    bounds: Bounds = WIDE,
    agent: str = "",
) -> int:
    """Store a memory."""
    return rows.add(at, Prepared.of(one, table, agent, bounds), bounds)


def texts(
    at: sqlite3.Cursor, room: str | None = "r", table: str = "messages", **more: Any
) -> list[str]:
    """Return the texts of a room or a table, the newest first."""
    limit, offset = more.pop("limit", None), more.pop("offset", 0)
    rooms = None if room is None else [room]
    wanted = Wanted(**{"agent": "", "table": table, "rooms": rooms} | more)
    return [one.content.text for one in decoded(rows.find(at, wanted, limit, offset))]


def test_the_newest_comes_first_whatever_the_order_of_arrival(at: sqlite3.Cursor) -> None:
    """By their times; of two with the same time, the later added one."""
    for name, time in (("b", 2.0), ("a", 1.0), ("c", 3.0), ("d", 3.0)):
        add(at, memory(name, at=time))

    assert texts(at) == ["d", "c", "b", "a"]
    assert texts(at, None) == ["d", "c", "b", "a"]
    assert texts(at, table="facts") == []
    assert texts(at, agent="ada") == []


def test_an_existing_memory_does_not_change(at: sqlite3.Cursor) -> None:
    """An id is unique across tables and rooms of an agent; another agent may have it too."""
    add(at, memory("a"))
    add(at, memory("a", room="other"), "facts")
    add(at, memory("a", room="other"), agent="ada")

    assert texts(at) == ["a"]
    assert texts(at, "other", "facts") == []
    assert texts(at, "other", agent="ada") == ["a"]
    assert schema.count(at, "memories").rows == 2


def test_a_full_room_drops_its_oldest(at: sqlite3.Cursor) -> None:
    """Other rooms and other tables keep theirs."""
    bounds = Bounds(2, 100, 10_000)
    add(at, memory("x", room="other"), bounds=bounds)
    add(at, memory("fact"), "facts", bounds)
    assert [add(at, memory(name), bounds=bounds) for name in "abc"] == [0, 0, 1]

    assert texts(at) == ["c", "b"]
    assert texts(at, "other") == ["x"]
    assert texts(at, table="facts") == ["fact"]


def test_beyond_the_total_the_oldest_of_all_is_dropped(at: sqlite3.Cursor) -> None:
    """By when it was stored: its own time may be wrong."""
    bounds = Bounds(10, 3, 10_000)
    for name, room in (("a", "1"), ("b", "2"), ("c", "1"), ("d", "3")):
        add(at, memory(name, room, at=9.0 - ord(name)), bounds=bounds)

    assert texts(at, None) == ["b", "c", "d"]


def test_bytes_are_limited_too(at: sqlite3.Cursor) -> None:
    """A large memory replaces many; one above the total limit is rejected, and nothing is lost."""
    bounds = Bounds(100, 100, 1000)
    for name in "abcdefgh":
        add(at, memory(name * 10), bounds=bounds)
    add(at, memory("L" * 350), bounds=bounds)

    assert schema.count(at, "memories").bytes <= 1000
    with pytest.raises(ValueError, match="bytes; the limit for all is 1000"):
        add(at, memory("M" * 2000), bounds=bounds)
    assert "L" * 350 in texts(at)


def test_a_memory_can_be_replaced(at: sqlite3.Cursor) -> None:
    """In its table and its room, or moved to another room; the counted size stays correct."""
    add(at, memory("a"), "facts")
    add(at, memory("b"), "facts")
    before = schema.count(at, "memories").bytes

    def replace(one: Memory) -> bool:
        return rows.replace(at, Prepared.of(one, "", "", WIDE), WIDE)

    assert replace(memory("a", at=9.0, world_id="elsewhere"))
    assert schema.count(at, "memories").bytes > before
    assert texts(at, table="facts") == ["a", "b"]
    assert replace(memory("a", room="other"))
    assert texts(at, table="facts") == ["b"]
    assert not replace(memory("unknown"))
    rows.remove(at, "", ["a", "b", "b"])
    assert schema.count(at, "memories") == (0, 0)


def test_a_room_is_deleted_in_one_table_only(at: sqlite3.Cursor) -> None:
    """Facts of the room stay."""
    add(at, memory("a"))
    add(at, memory("b"), "facts")
    rows.remove_room(at, "", "messages", "r")
    rows.remove_room(at, "", "messages", "unknown")

    assert [one.id for one in decoded(rows.find_by_ids(at, "", ["b", "a"]))] == ["b"]
    assert rows.find_by_ids(at, "", ["b"], "messages") == []


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, ["c", "b", "a"]),
        ({"limit": 2}, ["c", "b"]),
        ({"limit": 0}, []),
        ({"limit": -1}, []),
        ({"limit": 1, "offset": 1}, ["b"]),
        ({"start": 2.0}, ["c", "b"]),
        ({"start": 2.0, "end": 2.0}, ["b"]),
        ({"entity": "ada"}, ["a"]),
        ({"world": "w"}, ["c"]),
        ({"unique": True}, ["b"]),
        ({"unique": False}, ["c", "a"]),
        ({"before": "c"}, ["b", "a"]),
        ({"before": "a"}, []),
        ({"before": "unknown"}, []),
        ({"room": None, "rooms": ["r", "s", "r"]}, ["d", "c", "b", "a"]),
        ({"room": None, "rooms": []}, []),
    ],
)
def test_memories_are_selected(
    at: sqlite3.Cursor, conditions: dict[str, Any], expected: list[str]
) -> None:
    """By each condition."""
    add(at, memory("a", at=1.0, entity_id="ada"))
    add(at, memory("b", at=2.0, unique=True))
    add(at, memory("c", at=3.0, world_id="w"))
    add(at, memory("d", room="s", at=4.0))

    assert texts(at, **conditions) == expected


def test_all_fields_come_back(at: sqlite3.Cursor) -> None:
    """The vector as 32-bit numbers."""
    one = memory("a", at=1.5, embedding=[0.5, 0.1], metadata={"embedding_model": "m", "x": [1]})
    add(at, one)
    (found,) = decoded(rows.find_by_ids(at, "", ["a"]))

    assert found.embedding == pytest.approx([0.5, 0.1])
    assert found.embedding == decode(encode([0.5, 0.1]))
    found.embedding = one.embedding
    assert found == one


def test_the_nearest_have_the_same_direction(at: sqlite3.Cursor) -> None:
    """Lengths do not matter; no vector, zeros or another length are left out, and so are other
    rooms, senders and models where one is named."""
    for name, vector in {
        "same": [2.0, 0.0],
        "half": [1.0, 1.0],
        "across": [0.0, 1.0],
        "against": [-1.0, 0.0],
        "zeros": [0.0, 0.0],
        "long": [1.0, 0.0, 0.0],
        "none": None,
    }.items():
        add(at, memory(name, embedding=vector, entity_id=name))
    add(at, memory("other", room="s", embedding=[1.0, 0.0], metadata={"embedding_model": "m"}))

    def nearest(threshold: float = 0.0, most: int = 10, **more: Any) -> list[tuple[str, float]]:
        given: dict[str, Any] = {"agent": "", "table": "messages", "rooms": ["r"], "dimension": 2}
        wanted = Wanted(**given | more)
        search, after = Search([1.0, 0.0], threshold, most), 0
        while chunk := rows.vectors(at, wanted, after, 2):
            search.look_at(chunk)
            after = chunk[-1][0]
        found = rows.of_numbers(at, [number for _, number in search.found])
        names = [decoded([one])[0].id if one else "" for one in found]
        return list(zip(names, [round(one, 3) for one, _ in search.found], strict=True))

    assert nearest() == [("same", 1.0), ("half", 0.707), ("across", 0.0)]
    assert nearest(0.5, 1) == [("same", 1.0)]
    assert nearest(-1.0, 10)[-1] == ("against", -1.0)
    assert nearest(0.0, 0) == []
    assert nearest(entity="half") == [("half", 0.707)]
    assert nearest(rooms=None, model="m") == [("other", 1.0)]
    search = Search([0.0, 0.0], 0.0, 10)
    search.look_at([(1, 1.0, encode([1.0, 0.0]))])
    assert search.found == []


def test_a_search_and_a_conversation_use_their_indexes(at: sqlite3.Cursor) -> None:
    """Without the index each chunk of a search would sort the whole table."""

    def plan(wanted: Wanted, order: str) -> str:
        where, values = wanted.where
        query = f"EXPLAIN QUERY PLAN SELECT memory FROM memories WHERE {where} {order}"
        return "; ".join(row[-1] for row in at.execute(query, values).fetchall())

    search = plan(Wanted(agent="", table="facts", dimension=2), "AND seq > 1 ORDER BY seq LIMIT 9")
    assert "INDEX memory_by_vector (agent=? AND name=? AND dimension=?" in search
    room = plan(Wanted(agent="", table="messages", rooms=["r"]), f"{rows.NEWEST} LIMIT 9")
    assert "INDEX memory_by_room (agent=? AND name=? AND room=?)" in room
    assert "B-TREE" not in search + room
