"""Any history of messages: each room in order, each message once, all limits kept."""

import sqlite3
from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from garrison.workers import Busy, Memory
from garrison.workers.agents.content import Content
from garrison.workers.services.agent.cache import Cache
from garrison.workers.services.agent.memory import memory_rows, schema
from garrison.workers.services.agent.memory.memory_rows import Bounds, Prepared, Wanted, decoded
from garrison.workers.services.agent.prompt import recent_messages
from garrison.workers.services.agent.rooms import Limits, Room, Rooms

ROOMS = [Room("chat", str(number)) for number in range(4)]


@given(st.lists(st.tuples(st.sampled_from(ROOMS), st.booleans(), st.integers(0, 20))))
def test_rooms(history: list[tuple[Room, bool, int]]) -> None:
    """An accepted message comes out once, in its room's order; a rejected one never."""
    limits = Limits(per_room=3, total=5, bytes=40, rooms=2)
    rooms: Rooms[int] = Rooms(limits)
    accepted: dict[Room, list[int]] = defaultdict(list)
    done: dict[Room, list[int]] = defaultdict(list)
    current: dict[Room, int] = {}
    for number, (room, arrives, size) in enumerate(history):
        if arrives:
            try:
                is_first = rooms.add(room, number, size)
            except Busy:
                continue
            accepted[room].append(number)
            assert is_first == (room not in current)
            if is_first:
                current[room] = number
        elif room in current:
            done[room].append(current.pop(room))
            following = rooms.next(room)
            if following is not None:
                current[room] = following
        assert len(rooms) == len(current) <= limits.rooms
        assert rooms.waiting <= limits.total
        assert rooms.bytes <= limits.bytes
    for room in list(current):
        done[room].append(current[room])
        while (following := rooms.next(room)) is not None:
            done[room].append(following)
    assert done == accepted
    assert (len(rooms), rooms.waiting, rooms.bytes) == (0, 0, 0)


STEPS = st.tuples(
    st.sampled_from(["add", "replace", "remove", "remove room"]),
    st.integers(0, 8),
    st.sampled_from(["r1", "r2", "r3"]),
    st.sampled_from(["messages", "facts"]),
    st.integers(0, 200),
)


@given(st.lists(STEPS, max_size=60))
def test_memories(history: list[tuple[str, int, str, str, int]]) -> None:
    """After each step the limits hold, the newest memory exists, and the counters are right."""
    db = sqlite3.connect(":memory:")
    db.executescript(schema.TABLES)
    at, bounds = db.cursor(), Bounds(3, 6, 900)
    for step, number, room, table, size in history:
        memory = Memory(content=Content("x" * size), id=str(number), room_id=room)
        row = Prepared.of(memory, table, "", bounds)
        match step:
            case "add":
                memory_rows.add(at, row, bounds)
                assert memory_rows.find_by_ids(at, "", [memory.id])
            case "replace":
                memory_rows.replace(at, row, bounds)
            case "remove":
                memory_rows.remove(at, "", [memory.id])
                assert not memory_rows.find_by_ids(at, "", [memory.id])
            case _:
                memory_rows.remove_room(at, "", table, room)
                assert not memory_rows.find(at, Wanted(agent="", table=table, rooms=[room]), None)
        in_rooms = [
            memory_rows.find(at, Wanted(agent="", table=table, rooms=[room]), None)
            for table in ("messages", "facts")
            for room in ("r1", "r2", "r3")
        ]
        found = [one for rows in in_rooms for one in decoded(rows)]
        rows, stored = schema.count(at, "memories")
        assert len(found) == rows <= 6
        assert all(len(room) <= 3 for room in in_rooms)
        (sizes,) = at.execute("SELECT ifnull(sum(size), 0) FROM memories").fetchone()
        assert stored == sizes <= 900
    db.close()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.binary(max_size=12))))
def test_cache(history: list[tuple[bool, int, bytes]]) -> None:
    """A value is the last one stored for its key, or gone; the limits hold."""
    cache: Cache[int] = Cache(4, 20)
    put: dict[int, bytes] = {}
    for puts, key, value in history:
        if puts:
            cache.put(key, value)
            put[key] = value
            assert cache.get(key) == value
        else:
            cache.remove(key)
            put.pop(key, None)
        assert all(cache.get(key) in {None, value} for key, value in put.items())
        assert len(cache) <= 4
        assert cache.bytes <= 20


@given(st.integers(1, 12), st.integers(1, 60))
def test_recent_messages(length: int, messages: int) -> None:
    """A growing conversation is shown by its latest messages; the first one seldom changes."""
    conversation = [Memory(content=Content(str(n)), id=str(n)) for n in range(messages)]
    first_id, moves = "", 0
    for so_far in range(1, messages + 1):
        newest_first = list(reversed(conversation[:so_far]))[: length + 1]
        shown = recent_messages(newest_first, length, first_id)

        assert shown == conversation[so_far - len(shown) : so_far]
        assert min(so_far, (length + 1) // 2) <= len(shown) <= length
        moves += shown[0].id != first_id
        first_id = shown[0].id
    assert moves <= 1 + messages // max(length // 2, 1)
