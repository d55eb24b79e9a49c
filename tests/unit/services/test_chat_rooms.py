"""What waits in rooms: nothing is said twice, and nothing grows without bound."""

from hypothesis import given
from hypothesis import strategies as st

from garrison.workers.services.chat.rooms import Limits, Room, Rooms


def waiting(room: Room) -> list[str]:
    return list(room.take())


def test_what_waits_is_taken_once_in_order() -> None:
    room = Room(Limits())
    room.put("a")
    room.put("b")
    assert waiting(room) == ["a", "b"]
    assert waiting(room) == []


def test_an_answer_is_not_said_a_second_time() -> None:
    """Not what came within the line, and not what came just before this process knew of it, as
    after a restart; what is none of the answers is said, after the line."""
    room = Room(Limits())
    room.put("answer")
    room.put("earlier")
    room.answering = 1
    room.put("answer")
    room.put("other")
    room.put("answer")
    assert waiting(room) == ["answer", "earlier"]
    room.put("more")
    room.answering = 0
    room.answered(["answer", "more"])
    assert waiting(room) == ["other"]

    room.put("answer")
    room.put("earlier")
    room.answered(["answer"])
    assert waiting(room) == ["earlier"]


def test_what_comes_within_two_lines_is_held_until_both_are_answered() -> None:
    """It may be the answer of either."""
    room = Room(Limits())
    room.answering = 2
    room.put("one")
    room.put("two")
    room.put("other")
    room.answering = 1
    room.answered(["one"])
    assert waiting(room) == []
    room.answering = 0
    room.answered(["two"])
    assert waiting(room) == ["other"]


def test_the_oldest_text_gives_way() -> None:
    """By number and by size, whether held or not; one that is too large alone is cut."""
    for answering in (0, 1):
        room = Room(Limits(texts=2, characters=10))
        room.answering = answering
        for text in ("a", "b", "c"):
            room.put(text)
        room.answering = 0
        room.answered([])
        assert waiting(room) == ["b", "c"]
    room = Room(Limits(texts=9, characters=10))
    room.put("a" * 6)
    room.put("b" * 6)
    assert waiting(room) == ["b" * 6]
    room.put("c" * 60)
    assert waiting(room) == ["c" * 10]


def test_the_oldest_room_gives_way_but_not_one_that_is_used() -> None:
    rooms = Rooms(Limits(rooms=2))
    used = rooms.enter("used")
    used.users = 1
    rooms.enter("old").put("text")
    rooms.enter("new")
    assert (rooms.holds("used", used), len(rooms)) == (True, 2)
    assert waiting(rooms.enter("old")) == []


def test_where_all_rooms_are_used_the_oldest_still_gives_way() -> None:
    """Whoever is in it notices."""
    rooms = Rooms(Limits(rooms=2))
    entered = [rooms.enter(str(number)) for number in range(2)]
    for room in entered:
        room.users = 1
    newest = rooms.enter("2")
    assert [rooms.holds(str(n), room) for n, room in enumerate([*entered, newest])] == [
        False,
        True,
        True,
    ]


def test_a_room_is_forgotten_when_nothing_is_in_it() -> None:
    rooms = Rooms()
    room = rooms.enter("r")
    room.put("text")
    rooms.leave("r")
    assert len(rooms) == 1
    assert waiting(room) == ["text"]
    room.users = 1
    rooms.leave("r")
    assert len(rooms) == 1
    room.users = 0
    rooms.leave("r")
    rooms.leave("r")
    assert len(rooms) == 0


@given(st.lists(st.tuples(st.integers(0, 9), st.text(max_size=30))))
def test_whatever_comes_there_is_no_more_than_the_limits(coming: list[tuple[int, str]]) -> None:
    limits = Limits(rooms=3, texts=4, characters=20)
    rooms = Rooms(limits)
    for number, text in coming:
        rooms.enter(str(number)).put(text)
        assert len(rooms) <= limits.rooms
    for number in range(10):
        texts = waiting(rooms.enter(str(number)))
        assert len(texts) <= limits.texts
        assert sum(map(len, texts)) <= limits.characters
