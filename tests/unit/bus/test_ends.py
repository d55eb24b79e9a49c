"""When the end of a member is announced: behind its last messages, and in a bounded time."""

import pytest

from garrison.supervisor.bus.ends import CAUSE_BY_S, LOOK_S, OVER_BY_S, Ends

ONE, OTHER = (b"g" + name * 15 for name in (b"1", b"2"))
MOST = 3  # messages after which each peer has had its turn


def ended(cause: str = "killed") -> Ends:
    """Return one member that ended at 10.0."""
    ends = Ends()
    ends.mark(ONE, 10.0)
    if cause:
        ends.set_cause(ONE, cause)
    return ends


def test_an_empty_bus_does_not_count_before_the_connection_has_ended() -> None:
    """libzmq may not have read the last messages yet, on a busy machine for many milliseconds."""
    ends = ended()
    assert ends.take_due(10.03, 10.03, MOST) == []
    ends.note_closed(ONE, 10.04)
    assert ends.take_due(10.05, 10.03, MOST) == []  # that was before
    assert ends.take_due(10.05, 10.05, MOST) == [(ONE, "killed")]
    assert not ends


def test_a_bus_that_is_never_empty_is_read_until_each_peer_has_had_its_turn() -> None:
    """Each of the member's own messages begins the count anew."""
    ends = ended()
    for _ in range(9):
        ends.note_read(OTHER)
    ends.note_closed(ONE, 10.01)
    for source in (OTHER, OTHER, ONE, OTHER, OTHER, OTHER):
        ends.note_read(source)
        assert ends.take_due(10.02, 0.0, MOST) == []
    ends.note_read(OTHER)
    assert ends.take_due(10.02, 0.0, MOST) == [(ONE, "killed")]


def test_a_cause_is_waited_for_but_not_long() -> None:
    """It comes from the launcher."""
    ends = ended(cause="")
    ends.note_closed(ONE, 10.0)
    assert ends.take_due(10.0 + CAUSE_BY_S / 2, 10.01, MOST) == []
    assert ends.take_due(10.0 + CAUSE_BY_S, 10.01, MOST) == [(ONE, "")]


@pytest.mark.parametrize("cause", ["", "its node was lost"])
def test_a_connection_that_does_not_end_is_not_waited_for_for_ever(cause: str) -> None:
    """A machine that is off ends none."""
    ends = ended(cause)
    assert ends.take_due(9.99 + OVER_BY_S, 10.5, MOST) == []
    assert ends.take_due(10.0 + OVER_BY_S, 10.5, MOST) == [(ONE, cause)]


def test_looks_become_rarer() -> None:
    """At once, then each millisecond, and no more than some dozens in all."""
    ends = ended()
    ends.mark(ONE, 10.5)  # a second report changes nothing
    times = [10.0 + number / 2000 for number in range(2000)]
    looked = [now for now in times if ends.to_look(now)]
    assert looked[0] == 10.0
    assert looked[1] - looked[0] == pytest.approx(LOOK_S)
    assert 8 < len(looked) < 48
    ends.note_closed(ONE, 10.9)
    assert ends.to_look(10.99) == []
