"""Who waits in which room: order, bounds, and no trace of an empty one."""

import pytest

from garrison.workers.services.agent.rooms import Busy, Limits, Room, Rooms

ONE, TWO = Room("chat", "1"), Room("chat", "2")


def test_a_room_has_one_turn_at_a_time() -> None:
    """In the order of arrival; other rooms do not wait for it."""
    rooms: Rooms[str] = Rooms(Limits(10, 10, 100, 10))

    assert rooms.arrive(ONE, "a", 1)
    assert not rooms.arrive(ONE, "b", 1)
    assert rooms.arrive(TWO, "c", 1)
    assert not rooms.arrive(ONE, "d", 1)
    assert (len(rooms), rooms.waiting, rooms.bytes) == (2, 2, 2)
    assert [rooms.next(ONE), rooms.next(ONE), rooms.next(ONE)] == ["b", "d", None]
    assert rooms.next(TWO) is None
    assert (len(rooms), rooms.waiting, rooms.bytes) == (0, 0, 0)
    assert rooms.arrive(ONE, "e", 1)


def test_the_same_channel_of_two_platforms_is_two_rooms() -> None:
    """Platforms number their channels alike."""
    rooms: Rooms[str] = Rooms(Limits(10, 10, 100, 10))

    assert rooms.arrive(Room("discord", "1"), "a", 1)
    assert rooms.arrive(Room("telegram", "1"), "b", 1)


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        (Limits(2, 10, 100, 10), "2 messages wait in room '1' of chat already"),
        (Limits(10, 2, 100, 10), "2 messages wait in all rooms already"),
        (Limits(10, 10, 20, 10), "20 bytes of messages wait already"),
    ],
)
def test_past_a_bound_it_says_so_at_once(limits: Limits, problem: str) -> None:
    """And what was taken before is not disturbed."""
    rooms: Rooms[str] = Rooms(limits)
    rooms.arrive(ONE, "a", 10)
    rooms.arrive(ONE, "b", 10)
    rooms.arrive(ONE, "c", 10)

    with pytest.raises(Busy, match=problem):
        rooms.arrive(ONE, "d", 10)
    assert [rooms.next(ONE), rooms.next(ONE), rooms.next(ONE)] == ["b", "c", None]


def test_so_many_rooms_at_once() -> None:
    """A room that has had its turn makes room for another."""
    rooms: Rooms[str] = Rooms(Limits(10, 10, 100, 1))
    rooms.arrive(ONE, "a", 1)

    with pytest.raises(Busy, match="1 rooms are being answered"):
        rooms.arrive(TWO, "b", 1)
    assert rooms.next(ONE) is None
    assert rooms.arrive(TWO, "b", 1)
