"""The mailbox's own time passes with the machine's, whatever the wall clock is set to."""

import pytest

from garrison.workers.services.mailbox.clock import Clock, ClockReading, Kept

DAY = 86_400.0
BEGAN = ClockReading("boot-1", 1000.0, 1_800_000_000.0)


def test_without_a_jump_it_is_the_wall_clock() -> None:
    """Also after what was noted by a mailbox before, in this run of the machine or the next."""
    first = Clock(None, BEGAN)
    assert first.at(1000.0) == BEGAN.wall
    assert first.at(1060.0) == BEGAN.wall + 60

    kept = first.kept(ClockReading("boot-1", 1060.0, BEGAN.wall + 60))
    again = Clock(kept, ClockReading("boot-1", 1070.0, BEGAN.wall + 70))
    assert again.at(1070.0) == BEGAN.wall + 70
    booted = Clock(kept, ClockReading("boot-2", 5.0, BEGAN.wall + 3600))
    assert booted.at(5.0) == BEGAN.wall + 3600


@pytest.mark.parametrize("jump", [-3 * DAY, -1.0, 1.0, 3 * DAY, -BEGAN.wall])
def test_a_jump_changes_nothing(jump: float) -> None:
    """Neither within a life, nor where the mailbox is started again, nor after a reboot."""
    clock = Clock(None, BEGAN)
    jumped = ClockReading("boot-1", 1060.0, BEGAN.wall + 60 + jump)
    assert clock.at(jumped.ran) == BEGAN.wall + 60

    again = Clock(Kept("boot-1", 1000.0, BEGAN.wall, BEGAN.wall), jumped)
    assert again.at(jumped.ran) == BEGAN.wall + 60

    booted = Clock(again.kept(jumped), ClockReading("boot-2", 5.0, jumped.wall + 30))
    assert booted.at(5.0) == pytest.approx(BEGAN.wall + 90)


@pytest.mark.parametrize("boot", ["boot-1", "boot-2"])
def test_it_never_goes_back(boot: str) -> None:
    """A machine that starts without a clock of its own has been away for no time at all."""
    kept = Kept("boot-1", 1060.0, BEGAN.wall + 60, BEGAN.wall + 60)
    clock = Clock(kept, ClockReading(boot, 5.0, 0.0))
    assert clock.at(5.0) == kept.own
    assert clock.at(15.0) == kept.own + 10


def test_people_are_told_times_of_the_wall_clock() -> None:
    """What was taken a minute ago was taken a minute before what the wall clock shows now."""
    clock = Clock(None, BEGAN)
    jumped = ClockReading("boot-1", 1060.0, BEGAN.wall + 60 + DAY)
    assert clock.on_the_wall(clock.at(1000.0), jumped) == jumped.wall - 60
