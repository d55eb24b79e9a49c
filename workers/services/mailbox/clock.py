"""The mailbox's clock: seconds that advance with real time, unaffected by wall clock changes. Pure.

During one boot it follows the time since boot, suspended time included. Across a reboot it adds the
difference of the wall clock, or nothing if the wall clock went back. While nobody changes the wall
clock, both clocks show the same time.
"""

import msgspec


class ClockReading(msgspec.Struct, frozen=True):
    """The machine's clocks at one moment."""

    boot_id: str
    uptime: float  # since boot
    wall: float


class ClockRecord(msgspec.Struct, frozen=True):
    """A reading together with the mailbox's own time; saved in the mailbox's file."""

    boot_id: str
    uptime: float
    wall: float
    own: float


class Clock:
    """The mailbox's own time.

    Args:
        last: The record that an earlier mailbox process saved; None for a new mailbox.
        reading: The machine's clocks now.
    """

    def __init__(self, last: ClockRecord | None, reading: ClockReading) -> None:
        if last is None:
            own = reading.wall
        elif last.boot_id == reading.boot_id and reading.uptime >= last.uptime:
            own = last.own + reading.uptime - last.uptime
        else:
            own = last.own + max(reading.wall - last.wall, 0.0)
        self._offset = own - reading.uptime

    def time_at(self, uptime: float) -> float:
        """Return the mailbox's time at a number of seconds since boot."""
        return self._offset + uptime

    def record(self, reading: ClockReading) -> ClockRecord:
        """Return the record to save."""
        own = self.time_at(reading.uptime)
        return ClockRecord(reading.boot_id, reading.uptime, reading.wall, own)

    def to_wall_time(self, own: float, reading: ClockReading) -> float:
        """Convert the mailbox's time to wall clock time, as the wall clock is set now."""
        return own + reading.wall - self.time_at(reading.uptime)
