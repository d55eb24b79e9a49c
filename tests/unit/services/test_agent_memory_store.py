"""The agent's own memory store: what is dropped, what is found."""

import pytest

from garrison.workers import Memory
from garrison.workers.agents.content import Content
from garrison.workers.services.agent.memory_store import Memories, nearest, select


def memory(name: str, room: str = "r", at: float = 0.0, **more: object) -> Memory:
    """Return a message."""
    fields = {"entity_id": "someone", **more}
    return Memory(content=Content(name), id=name, room_id=room, created_at=at, **fields)  # type: ignore[arg-type]


def texts(memories: list[Memory]) -> list[str]:
    """Return their texts."""
    return [one.content.text for one in memories]


def test_the_newest_comes_first_whatever_the_order_of_arrival() -> None:
    """By their times; of two with the same time, the later added one."""
    kept = Memories(10, 10, 10_000)
    for name, at in (("b", 2.0), ("a", 1.0), ("c", 3.0), ("d", 3.0)):
        kept.add(memory(name, at=at), "messages")

    assert texts(kept.of("messages", "r")) == ["d", "c", "b", "a"]
    assert texts(kept.of("messages")) == ["d", "c", "b", "a"]
    assert kept.of("facts") == []


def test_an_existing_memory_does_not_change() -> None:
    """An id is unique across tables and rooms."""
    kept = Memories(10, 10, 10_000)

    assert kept.add(memory("a"), "messages")
    assert not kept.add(memory("a", room="other"), "facts")
    assert kept.table_of("a") == "messages"
    assert kept.rooms == 1


def test_a_full_room_drops_its_oldest() -> None:
    """Other rooms keep theirs."""
    kept = Memories(2, 100, 10_000)
    kept.add(memory("x", room="other"), "messages")
    for name in "abc":
        kept.add(memory(name), "messages")

    assert texts(kept.of("messages", "r")) == ["c", "b"]
    assert texts(kept.of("messages", "other")) == ["x"]


def test_beyond_the_total_the_least_recently_used_room_drops_its_oldest() -> None:
    """Reading a room is a use of it."""
    kept = Memories(10, 4, 10_000)
    for name, room in (("a", "1"), ("b", "2"), ("c", "1"), ("d", "2")):
        kept.add(memory(name, room), "messages")
    kept.of("messages", "1")
    kept.add(memory("e", "3"), "messages")

    assert texts(kept.of("messages", "1")) == ["c", "a"]
    assert texts(kept.of("messages", "2")) == ["d"]
    assert len(kept) == 4


def test_bytes_are_limited_too() -> None:
    """A large memory replaces many; one above the total limit is rejected, and nothing is lost."""
    kept = Memories(100, 100, 1000)
    for name in "abcdefgh":
        kept.add(memory(name * 10), "messages")
    kept.add(memory("L" * 350), "messages")

    assert kept.bytes <= 1000
    assert kept.get("L" * 350) is not None
    with pytest.raises(ValueError, match="bytes; the limit for all is 1000"):
        kept.add(memory("M" * 2000), "messages")
    assert kept.get("L" * 350) is not None


def test_a_memory_can_be_replaced() -> None:
    """In its room, or moved to another one; the counted size stays correct."""
    kept = Memories(10, 10, 10_000)
    kept.add(memory("a"), "messages")
    kept.add(memory("b"), "messages")
    before = kept.bytes

    assert kept.replace(memory("a", at=9.0, world_id="elsewhere"))
    assert kept.bytes > before
    assert texts(kept.of("messages", "r")) == ["a", "b"]
    assert kept.replace(memory("a", room="other"))
    assert texts(kept.of("messages", "r")) == ["b"]
    assert not kept.replace(memory("unknown"))
    for name in "ab":
        kept.remove(name)
        kept.remove(name)
    assert (kept.bytes, kept.rooms, len(kept)) == (0, 0, 0)


def test_a_room_is_deleted_in_one_table_only() -> None:
    """Facts of the room stay."""
    kept = Memories(10, 10, 10_000)
    kept.add(memory("a"), "messages")
    kept.add(memory("b"), "facts")
    kept.remove_room("messages", "r")
    kept.remove_room("messages", "unknown")

    assert kept.get("a") is None
    assert kept.get("b") is not None


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, ["c", "b", "a"]),
        ({"count": 2}, ["c", "b"]),
        ({"count": 0}, []),
        ({"count": -1}, []),
        ({"start": 2.0}, ["c", "b"]),
        ({"start": 2.0, "end": 2.0}, ["b"]),
        ({"entity_id": "ada"}, ["a"]),
        ({"unique": True}, ["b"]),
        ({"unique": False}, ["c", "b", "a"]),
    ],
)
def test_memories_are_select(conditions: dict[str, object], expected: list[str]) -> None:
    """By each condition."""
    memories = [
        memory("c", at=3.0),
        memory("b", at=2.0, unique=True),
        memory("a", at=1.0, entity_id="ada"),
    ]

    assert texts(select(memories, **conditions)) == expected  # type: ignore[arg-type]


def test_the_nearest_have_the_same_direction() -> None:
    """Lengths do not matter; no vector, zeros or another length are left out."""
    memories = [
        memory("same", embedding=[2.0, 0.0]),
        memory("half", embedding=[1.0, 1.0]),
        memory("across", embedding=[0.0, 1.0]),
        memory("against", embedding=[-1.0, 0.0]),
        memory("zeros", embedding=[0.0, 0.0]),
        memory("long", embedding=[1.0, 0.0, 0.0]),
        memory("none"),
    ]

    found = nearest(memories, [1.0, 0.0], 0.0, 10)
    assert texts(found) == ["same", "half", "across"]
    assert [round(one.similarity or 0.0, 3) for one in found] == [1.0, 0.707, 0.0]
    assert texts(nearest(memories, [1.0, 0.0], 0.5, 1)) == ["same"]
    assert nearest(memories, [0.0, 0.0], 0.0, 10) == []
    assert memories[0].similarity is None
