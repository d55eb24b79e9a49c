"""File locks that are held until their descriptor is closed."""

import fcntl
import os
from pathlib import Path


def hold_lock(path: Path | str) -> int | None:
    """Return the descriptor of an exclusive lock; None if another process holds it.

    Raises:
        OSError: The file cannot be opened; it is a link, for example.
    """
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_at_path(descriptor, path):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the file was removed between opening and locking: it guards nothing


def is_locked(path: Path) -> bool:
    """Return True if a process holds the lock; also one in another PID namespace.

    A free lock is shared for a moment, so a process that takes it must try more than once.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def is_at_path(descriptor: int, path: Path | str) -> bool:
    """Return True if a path, itself no link, still names the file of a descriptor."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except OSError:
        return False
