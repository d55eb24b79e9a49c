"""Heartbeats that come together are read together, and nothing else waits for it."""

from garrison.supervisor.gathering import GATHER_S, Gathering


def test_a_beat_is_followed_by_one_wait() -> None:
    """The beats that were waited for are read, and those that come later are not waited for."""
    gathering = Gathering()
    gathering.note_read(only_beats=True, overdrawn=False, now=100.0)
    assert gathering.until == 100.0 + GATHER_S
    gathering.note_read(only_beats=True, overdrawn=False, now=gathering.until + GATHER_S / 10)
    assert gathering.until == 100.0 + GATHER_S, "no second wait"
    gathering.note_read(only_beats=True, overdrawn=False, now=100.5)
    assert gathering.until == 100.5 + GATHER_S, "but for the next group"


def test_other_messages_end_the_wait() -> None:
    """An order may be followed by another."""
    gathering = Gathering()
    gathering.note_read(only_beats=True, overdrawn=False, now=100.0)
    gathering.note_read(only_beats=False, overdrawn=False, now=100.001)
    assert gathering.until == 0.0


def test_a_flood_is_read_with_a_wait_after_each_turn() -> None:
    """Whatever it consists of, and however often that was so."""
    gathering, now = Gathering(), 100.0
    for only_beats in (True, False, True, True, False):
        gathering.note_read(only_beats, overdrawn=True, now=now)
        assert gathering.until == now + GATHER_S
        now = gathering.until
    gathering.note_read(only_beats=False, overdrawn=False, now=now)
    assert gathering.until == 0.0
