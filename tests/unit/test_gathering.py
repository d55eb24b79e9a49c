"""Heartbeats that come together are read together, and nothing else waits for it."""

from garrison.supervisor.gathering import GATHER_S, Gathering


def test_a_beat_is_followed_by_one_wait() -> None:
    """The beats that were waited for are read, and those that come later are not waited for."""
    gathering = Gathering()
    gathering.note_read(only_beats=True, now=100.0)
    assert gathering.until == 100.0 + GATHER_S
    gathering.note_read(only_beats=True, now=gathering.until + GATHER_S / 10)
    assert gathering.until == 100.0 + GATHER_S, "no second wait"
    gathering.note_read(only_beats=True, now=100.5)
    assert gathering.until == 100.5 + GATHER_S, "but for the next group"


def test_other_messages_end_the_wait() -> None:
    """An order may be followed by another."""
    gathering = Gathering()
    gathering.note_read(only_beats=True, now=100.0)
    gathering.note_read(only_beats=False, now=100.001)
    assert gathering.until == 0.0
