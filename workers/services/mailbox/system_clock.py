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
        self._boot_id = _read_boot_id()  # the same as long as this process runs
        self._clock = Clock(last, self._reading())

    def now(self) -> float:
        """Return the mailbox's time."""
        return self._clock.time_at(time.clock_gettime(time.CLOCK_BOOTTIME))

    def record(self) -> ClockRecord:
        """Return the record to save."""
        return self._clock.record(self._reading())

    def to_wall_time(self, own: float) -> float:
        """Convert the mailbox's time to wall clock time."""
        return self._clock.to_wall_time(own, self._reading())

    def _reading(self) -> ClockReading:
        uptime = time.clock_gettime(time.CLOCK_BOOTTIME)
        return ClockReading(self._boot_id, uptime, time.time())


def _read_boot_id() -> str:
    try:
        return BOOT_ID.read_text("ascii").strip()
    except OSError:  # an id that never matches: after a restart, the wall clock decides
        return secrets.token_hex(8)
