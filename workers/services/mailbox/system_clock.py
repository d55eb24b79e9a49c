"""The mailbox's clock, read from the machine: `clock` decides, this module reads. Seconds."""

import secrets
import time
from pathlib import Path

from .clock import Clock, ClockReading, ClockRecord

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class SystemClock:
    """The mailbox's own time.

    Args:
        last: The record that an earlier mailbox process saved; None for a new mailbox.
    """

    def __init__(self, last: ClockRecord | None) -> None:
        self._clock = Clock(last, _read_clocks())

    def now(self) -> float:
        """Return the mailbox's time."""
        return self._clock.time_at(time.clock_gettime(time.CLOCK_BOOTTIME))

    def record(self) -> ClockRecord:
        """Return the record to save."""
        return self._clock.record(_read_clocks())

    def to_wall_time(self, own: float) -> float:
        """Convert the mailbox's time to wall clock time."""
        return self._clock.to_wall_time(own, _read_clocks())


def _read_clocks() -> ClockReading:
    try:
        boot_id = BOOT_ID.read_text("ascii").strip()
    except OSError:  # an id that never matches: after a restart, the wall clock decides
        boot_id = secrets.token_hex(8)
    return ClockReading(boot_id, time.clock_gettime(time.CLOCK_BOOTTIME), time.time())
