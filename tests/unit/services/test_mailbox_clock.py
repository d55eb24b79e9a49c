"""The mailbox's clock advances with real time, whatever the wall clock is set to."""

import pytest

from garrison.workers.services.mailbox.clock import Clock, ClockReading, ClockRecord

DAY = 86_400.0
FIRST = ClockReading("boot-1", 1000.0, 1_800_000_000.0)


def test_without_a_jump_it_shows_the_wall_clock() -> None:
    """Also after a restart of the mailbox, in the same boot or the next."""
    first = Clock(None, FIRST)
    assert first.time_at(1000.0) == FIRST.wall
    assert first.time_at(1060.0) == FIRST.wall + 60

    record = first.record(ClockReading("boot-1", 1060.0, FIRST.wall + 60))
    again = Clock(record, ClockReading("boot-1", 1070.0, FIRST.wall + 70))
    assert again.time_at(1070.0) == FIRST.wall + 70
    rebooted = Clock(record, ClockReading("boot-2", 5.0, FIRST.wall + 3600))
    assert rebooted.time_at(5.0) == FIRST.wall + 3600


@pytest.mark.parametrize("jump", [-3 * DAY, -1.0, 1.0, 3 * DAY, -FIRST.wall])
def test_a_jump_changes_nothing(jump: float) -> None:
    """Not in a running mailbox, not after its restart, not after a reboot."""
    clock = Clock(None, FIRST)
    jumped = ClockReading("boot-1", 1060.0, FIRST.wall + 60 + jump)
    assert clock.time_at(jumped.uptime) == FIRST.wall + 60

    again = Clock(ClockRecord("boot-1", 1000.0, FIRST.wall, FIRST.wall), jumped)
    assert again.time_at(jumped.uptime) == FIRST.wall + 60

    rebooted = Clock(again.record(jumped), ClockReading("boot-2", 5.0, jumped.wall + 30))
    assert rebooted.time_at(5.0) == pytest.approx(FIRST.wall + 90)


@pytest.mark.parametrize("boot_id", ["boot-1", "boot-2"])
def test_it_never_goes_back(boot_id: str) -> None:
    """On a machine without a battery clock, a reboot takes no time at all."""
    record = ClockRecord("boot-1", 1060.0, FIRST.wall + 60, FIRST.wall + 60)
    clock = Clock(record, ClockReading(boot_id, 5.0, 0.0))
    assert clock.time_at(5.0) == record.own
    assert clock.time_at(15.0) == record.own + 10


def test_displayed_times_are_wall_clock_times() -> None:
    """A message of a minute ago was posted a minute before the wall clock's present time."""
    clock = Clock(None, FIRST)
    jumped = ClockReading("boot-1", 1060.0, FIRST.wall + 60 + DAY)
    assert clock.to_wall_time(clock.time_at(1000.0), jumped) == jumped.wall - 60
