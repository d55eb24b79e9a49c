"""The exclusive lock of a service, held by its worker and by processes that it leaves behind."""

import contextlib
import os
import time
from pathlib import Path

from garrison.ipc.system.locks import hold_lock

LOCK_S = 5.0  # for processes of the previous incarnation to release the lock
POLL_S = 0.005  # between attempts: the kernel reports no release of a file lock


def take_lock(path: str, seconds: float = LOCK_S) -> int | None:
    """Return the descriptor of the service's lock; None if another process holds it.

    The descriptor is inherited across fork and exec, so a process that the previous incarnation
    left behind holds the lock until it ends, unless it closed the descriptor.
    """
    deadline = time.monotonic() + seconds
    while (lock := hold_lock(path)) is None and time.monotonic() < deadline:
        time.sleep(POLL_S)
    if lock is not None:
        os.set_inheritable(lock, True)
    return lock


def held_by(path: str) -> str:
    """Return a sentence on the processes that hold a lock, as far as this user may see them."""
    found: list[str] = []
    with contextlib.suppress(OSError):
        wanted = Path(path).stat()
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and process.name != str(os.getpid()):
                with contextlib.suppress(OSError):
                    if any(os.path.samestat(wanted, fd.stat()) for fd in _open(process)):
                        found.append(f"{process.name} {(process / 'comm').read_text().strip()}")
    holder = f"pid {', '.join(found)}" if found else "perhaps of another user"
    return (
        f"a leftover process of the service still holds {path} ({holder}); end it, or set "
        "exclusive = false"
    )


def _open(process: Path) -> list[Path]:
    return list((process / "fd").iterdir())
