"""The machine's clocks, for times that are compared after a restart. Seconds."""

import time
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def read_clocks() -> tuple[float, str, float]:
    """Return the Unix time, the id of this boot ("": not known) and the seconds since it."""
    try:
        boot = BOOT_ID.read_text("ascii").strip()
    except OSError:
        boot = ""
    return time.time(), boot, time.clock_gettime(time.CLOCK_BOOTTIME)
