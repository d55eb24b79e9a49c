"""Rooms: a text is shown once, and nothing grows without bound."""

from hypothesis import given
from hypothesis import strategies as st

from garrison.workers.services.chat.rooms import Limits, Room, Rooms


def taken(room: Room) -> list[str]:
    return list(room.take())


def test_texts_are_taken_once_in_order() -> None:
    room = Room(Limits())
    room.put("a")
    room.put("b")
    assert taken(room) == ["a", "b"]
    assert taken(room) == []


def test_an_answer_is_not_shown_a_second_time() -> None:
    """Neither one that arrived during the line nor one that arrived before it, as after a restart.
    Other texts are shown after the line."""
    room = Room(Limits())
    room.put("answer")
    room.put("earlier")
    room.answering = 1
    room.put("answer")
    room.put("other")
    room.put("answer")
    assert taken(room) == ["answer", "earlier"]
    room.put("more")
    room.answering = 0
    room.drop_answers(["answer", "more"])
    assert taken(room) == ["other"]

    room.put("answer")
    room.put("earlier")
    room.drop_answers(["answer"])
    assert taken(room) == ["earlier"]


def test_texts_during_two_lines_are_held_until_both_are_answered() -> None:
    """A text may be the answer to either."""
    room = Room(Limits())
    room.answering = 2
    room.put("one")
    room.put("two")
    room.put("other")
    room.answering = 1
    room.drop_answers(["one"])
    assert taken(room) == []
    room.answering = 0
    room.drop_answers(["two"])
    assert taken(room) == ["other"]


def test_the_oldest_text_is_dropped() -> None:
    """By number and by size, held or not; a single text that is too large is cut."""
    for answering in (0, 1):
        room = Room(Limits(texts=2, characters=10))
        room.answering = answering
        for text in ("a", "b", "c"):
            room.put(text)
        room.answering = 0
        room.drop_answers([])
        assert taken(room) == ["b", "c"]
    room = Room(Limits(texts=9, characters=10))
    room.put("a" * 6)
    room.put("b" * 6)
    assert taken(room) == ["b" * 6]
    room.put("c" * 60)
    assert taken(room) == ["c" * 10]


def test_the_oldest_unused_room_is_discarded() -> None:
    rooms = Rooms(Limits(rooms=2))
    used = rooms.enter("used")
    used.users = 1
    rooms.enter("old").put("text")
    rooms.enter("new")
    assert (rooms.holds("used", used), len(rooms)) == (True, 2)
    assert taken(rooms.enter("old")) == []


def test_the_oldest_room_is_discarded_if_all_are_used() -> None:
    """Its listeners notice."""
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


def test_an_unused_room_is_discarded() -> None:
    rooms = Rooms()
    room = rooms.enter("r")
    room.put("text")
    rooms.leave("r")
    assert len(rooms) == 1
    assert taken(room) == ["text"]
    room.users = 1
    rooms.leave("r")
    assert len(rooms) == 1
    room.users = 0
    rooms.leave("r")
    rooms.leave("r")
    assert len(rooms) == 0


@given(st.lists(st.tuples(st.integers(0, 9), st.text(max_size=30))))
def test_any_texts_stay_within_the_limits(history: list[tuple[int, str]]) -> None:
    limits = Limits(rooms=3, texts=4, characters=20)
    rooms = Rooms(limits)
    for number, text in history:
        rooms.enter(str(number)).put(text)
        assert len(rooms) <= limits.rooms
    for number in range(10):
        texts = taken(rooms.enter(str(number)))
        assert len(texts) <= limits.texts
        assert sum(map(len, texts)) <= limits.characters
