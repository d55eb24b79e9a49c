"""How far streams were handed over."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from garrison.workers.platform.streams import REFUSED_MOST, Streams


@given(st.permutations(range(8)))
def test_a_position_counts_when_all_before_it_are_done(order: list[int]) -> None:
    """In whatever order rooms finish, nothing before the position is missing."""
    streams = Streams()
    places = [streams.add("s", str(number)) for number in range(8)]
    done: set[int] = set()

    for number in order:
        done.add(number)
        moved = streams.done("s", places[number])
        first_open = next((n for n in range(8) if n not in done), 8)
        if moved is not None:
            assert int(moved) == first_open - 1
    assert list(streams.reached()) == [("s", "7")]


def test_a_message_that_was_not_taken_holds_its_stream() -> None:
    """Until it is received again, no later position counts."""
    streams = Streams()
    assert streams.pass_over("s", "1") == "1"
    streams.block("s", "2")
    streams.block("s", "3")
    assert streams.pass_over("s", "4") is None
    assert streams.pass_over("s", "2") is None
    assert list(streams.reached()) == [("s", "1")]

    assert streams.pass_over("s", "3") == "3"
    assert streams.pass_over("s", "5") == "5"


@pytest.mark.parametrize(
    "positions", [[""], [str(n) for n in range(REFUSED_MOST + 1)]], ids=["none", "too many"]
)
def test_a_stream_that_cannot_know_what_it_lacks_stays_where_it_is(positions: list[str]) -> None:
    """What followed is received again after the next start."""
    streams = Streams()
    for position in positions:
        streams.block("s", position)
    for position in positions:
        assert streams.pass_over("s", position) is None
    assert streams.pass_over("s", "x") is None


def test_streams_and_positions_without_a_name_do_not_count() -> None:
    """A platform without catch-up gives none."""
    streams = Streams()

    assert streams.pass_over("", "1") is None
    assert streams.pass_over("s", "") is None
    assert list(streams.reached()) == []


def test_streams_that_are_handed_over_take_no_room() -> None:
    """A platform may hear from any number of them; what blocks its position is kept."""
    streams = Streams()
    streams.pass_over("early", "1")
    streams.block("blocked", "1")
    streams.forget_reached()
    for number in range(100):
        assert streams.pass_over(str(number), "1") == "1"
    first, second = streams.add("s", "1"), streams.add("s", "2")
    assert streams.done("s", second) is None
    assert streams.done("s", first) == "2"
    assert streams.pass_over("s", "3") == "3"
    assert streams.pass_over("blocked", "2") is None
    assert set(streams._streams) == {"blocked"}
