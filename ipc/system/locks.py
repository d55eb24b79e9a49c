"""File locks that are held until their descriptor is closed."""

import fcntl
import os
from pathlib import Path


def hold_lock(path: Path) -> int | None:
    """Return the descriptor of an exclusive lock; None if another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
