"""Ids of messages and of parts."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from garrison.workers.platform import ids

NAMES = st.from_regex(r"\A[a-z][a-z0-9.-]{0,10}\Z")
TEXTS = st.text(min_size=1, max_size=40)


@given(NAMES, TEXTS, TEXTS)
def test_their_id_is_found_again(name: str, room: str, theirs: str) -> None:
    """Whatever the platform's ids look like."""
    made = ids.memory_id(name, room, theirs)

    assert ids.their_id(name, room, made) == theirs
    assert ids.their_id(name, f"{room}x", made) is None


@given(st.tuples(TEXTS, TEXTS), st.tuples(TEXTS, TEXTS))
@example(("a/b", "c"), ("a", "b/c"))
@example(("a%2Fb", "c"), ("a/b", "c"))
def test_two_messages_never_share_an_id(one: tuple[str, str], other: tuple[str, str]) -> None:
    """Also where rooms and ids hold the character between them."""
    assert (ids.memory_id("radio", *one) == ids.memory_id("radio", *other)) == (one == other)


@pytest.mark.parametrize(
    ("room", "theirs", "what"),
    [("", "1", "room_id is empty"), ("r", "", "id is empty"), ("r", "1" * 2000, "characters")],
)
def test_a_message_without_an_id_is_refused(room: str, theirs: str, what: str) -> None:
    """Without the platform's own id, a message that is heard again would be another one."""
    with pytest.raises(ValueError, match=what):
        ids.memory_id("radio", room, theirs)


@given(TEXTS, st.integers(0, 99))
def test_a_nonce_is_made_of_the_id_alone(send: str, part: int) -> None:
    """25 characters, the same after a restart, another for each part."""
    one = ids.nonce(ids.part_id(send, part))

    assert one == ids.nonce(ids.part_id(send, part)) != ids.nonce(ids.part_id(send, part + 1))
    assert len(one) == 25
    assert one.isascii()
    assert one.isalnum()
