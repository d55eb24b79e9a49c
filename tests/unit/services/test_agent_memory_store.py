"""What the agent keeps in its own memory: what gives way, what is found."""

import pytest

from garrison.workers import Memory
from garrison.workers.agents.content import Content
from garrison.workers.services.agent.memory_store import Memories, nearest, selected


def memory(name: str, room: str = "r", at: float = 0.0, **more: object) -> Memory:
    """Return a message."""
    fields = {"entity_id": "someone", **more}
    return Memory(content=Content(name), id=name, room_id=room, created_at=at, **fields)  # type: ignore[arg-type]


def texts(memories: list[Memory]) -> list[str]:
    """Return what they say."""
    return [one.content.text for one in memories]


def test_the_newest_comes_first_whatever_the_order_of_arrival() -> None:
    """By their times; of two of one time, the one that came later."""
    kept = Memories(10, 10, 10_000)
    for name, at in (("b", 2.0), ("a", 1.0), ("c", 3.0), ("d", 3.0)):
        kept.add(memory(name, at=at), "messages")

    assert texts(kept.of("messages", "r")) == ["d", "c", "b", "a"]
    assert texts(kept.of("messages")) == ["d", "c", "b", "a"]
    assert kept.of("facts") == []


def test_one_that_is_there_is_left_as_it_is() -> None:
    """An id is one memory, in whichever table and room."""
    kept = Memories(10, 10, 10_000)

    assert kept.add(memory("a"), "messages")
    assert not kept.add(memory("a", room="other"), "facts")
    assert kept.table_of("a") == "messages"
    assert kept.rooms == 1


def test_a_full_room_forgets_its_oldest() -> None:
    """And no other room's."""
    kept = Memories(2, 100, 10_000)
    kept.add(memory("x", room="other"), "messages")
    for name in "abc":
        kept.add(memory(name), "messages")

    assert texts(kept.of("messages", "r")) == ["c", "b"]
    assert texts(kept.of("messages", "other")) == ["x"]


def test_where_all_are_too_many_the_room_least_recently_used_gives_way() -> None:
    """Reading a room is a use of it."""
    kept = Memories(10, 4, 10_000)
    for name, room in (("a", "1"), ("b", "2"), ("c", "1"), ("d", "2")):
        kept.add(memory(name, room), "messages")
    kept.of("messages", "1")
    kept.add(memory("e", "3"), "messages")

    assert texts(kept.of("messages", "1")) == ["c", "a"]
    assert texts(kept.of("messages", "2")) == ["d"]
    assert len(kept) == 4


def test_bytes_are_bounded_too() -> None:
    """Large ones push out many; one that is larger than all may be is refused, and nothing lost."""
    kept = Memories(100, 100, 1000)
    for name in "abcdefgh":
        kept.add(memory(name * 10), "messages")
    kept.add(memory("L" * 350), "messages")

    assert kept.bytes <= 1000
    assert kept.get("L" * 350) is not None
    with pytest.raises(ValueError, match="bytes; all together may have 1000"):
        kept.add(memory("M" * 2000), "messages")
    assert kept.get("L" * 350) is not None


def test_a_memory_may_take_anothers_place() -> None:
    """In its room, or moved to another one; sizes are those of what is there."""
    kept = Memories(10, 10, 10_000)
    kept.add(memory("a"), "messages")
    kept.add(memory("b"), "messages")
    before = kept.bytes

    assert kept.replace(memory("a", at=9.0, world_id="elsewhere"))
    assert kept.bytes > before
    assert texts(kept.of("messages", "r")) == ["a", "b"]
    assert kept.replace(memory("a", room="other"))
    assert texts(kept.of("messages", "r")) == ["b"]
    assert not kept.replace(memory("nobody"))
    for name in "ab":
        kept.remove(name)
        kept.remove(name)
    assert (kept.bytes, kept.rooms, len(kept)) == (0, 0, 0)


def test_a_room_is_forgotten_in_one_table_alone() -> None:
    """Facts of the room stay."""
    kept = Memories(10, 10, 10_000)
    kept.add(memory("a"), "messages")
    kept.add(memory("b"), "facts")
    kept.remove_room("messages", "r")
    kept.remove_room("messages", "unknown")

    assert kept.get("a") is None
    assert kept.get("b") is not None


@pytest.mark.parametrize(
    ("query", "expected"),
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
def test_memories_are_selected(query: dict[str, object], expected: list[str]) -> None:
    """Each condition by itself."""
    memories = [
        memory("c", at=3.0),
        memory("b", at=2.0, unique=True),
        memory("a", at=1.0, entity_id="ada"),
    ]

    assert texts(selected(memories, **query)) == expected  # type: ignore[arg-type]


def test_the_nearest_are_those_of_the_same_direction() -> None:
    """Lengths do not count; what has no vector, one of zeros or another length is near nothing."""
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
