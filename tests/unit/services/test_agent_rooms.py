"""Queues by room: order, limits, and nothing left of an empty room."""

import pytest

from garrison.workers import Busy
from garrison.workers.services.agent.rooms import Limits, Room, Rooms

ONE, TWO = Room("chat", "1"), Room("chat", "2")


def test_a_room_has_one_message_in_progress() -> None:
    """In the order of arrival; rooms do not wait for each other."""
    rooms: Rooms[str] = Rooms(Limits(10, 10, 100, 10))

    assert rooms.add(ONE, "a", 1)
    assert not rooms.add(ONE, "b", 1)
    assert rooms.add(TWO, "c", 1)
    assert not rooms.add(ONE, "d", 1)
    assert (len(rooms), rooms.waiting, rooms.bytes) == (2, 2, 2)
    assert [rooms.next(ONE), rooms.next(ONE), rooms.next(ONE)] == ["b", "d", None]
    assert rooms.next(TWO) is None
    assert (len(rooms), rooms.waiting, rooms.bytes) == (0, 0, 0)
    assert rooms.add(ONE, "e", 1)


def test_the_same_channel_of_two_platforms_is_two_rooms() -> None:
    """Platforms may use the same ids."""
    rooms: Rooms[str] = Rooms(Limits(10, 10, 100, 10))

    assert rooms.add(Room("discord", "1"), "a", 1)
    assert rooms.add(Room("telegram", "1"), "b", 1)


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        (Limits(2, 10, 100, 10), "2 messages wait in room '1' of chat already"),
        (Limits(10, 2, 100, 10), "2 messages wait in all rooms already"),
        (Limits(10, 10, 20, 10), "20 bytes of messages wait already"),
    ],
)
def test_beyond_a_limit_a_message_is_rejected_at_once(limits: Limits, problem: str) -> None:
    """Messages accepted before are not affected."""
    rooms: Rooms[str] = Rooms(limits)
    rooms.add(ONE, "a", 10)
    rooms.add(ONE, "b", 10)
    rooms.add(ONE, "c", 10)

    with pytest.raises(Busy, match=problem):
        rooms.add(ONE, "d", 10)
    assert [rooms.next(ONE), rooms.next(ONE), rooms.next(ONE)] == ["b", "c", None]


def test_the_number_of_rooms_is_limited() -> None:
    """When a room has become empty, another one is accepted."""
    rooms: Rooms[str] = Rooms(Limits(10, 10, 100, 1))
    rooms.add(ONE, "a", 1)

    with pytest.raises(Busy, match="1 rooms are being answered"):
        rooms.add(TWO, "b", 1)
    assert rooms.next(ONE) is None
    assert rooms.add(TWO, "b", 1)
