"""The lock of a service: held by its worker, and by whatever that leaves behind.

Seconds are of a monotonic clock.
"""

import contextlib
import os
import time
from pathlib import Path

from garrison.ipc.system.locks import hold_lock

LOCK_S = 5.0  # for what is left of the last incarnation to let go of the lock


def take_lock(path: str, seconds: float = LOCK_S) -> int | None:
    """Return the descriptor of the service's lock, or None: a leftover holds it.

    The lock follows fork, and exec too, so whatever the last incarnation left alive keeps it,
    unless it closed the descriptor.
    """
    deadline = time.monotonic() + seconds
    while (lock := hold_lock(Path(path))) is None and time.monotonic() < deadline:
        time.sleep(0.005)  # no event tells of a lock that is let go
    if lock is not None:
        os.set_inheritable(lock, True)
    return lock


def held_by(path: str) -> str:
    """Return in words who holds a lock, and what to do, as far as this user may see it."""
    found: list[str] = []
    with contextlib.suppress(OSError):
        wanted = Path(path).stat()
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and process.name != str(os.getpid()):
                with contextlib.suppress(OSError):
                    if any(os.path.samestat(wanted, fd.stat()) for fd in _open(process)):
                        found.append(f"{process.name} {(process / 'comm').read_text().strip()}")
    who = f"pid {', '.join(found)}" if found else "another user's, perhaps"
    return f"a leftover of it still holds {path} ({who}): end that, or say exclusive = false"


def _open(process: Path) -> list[Path]:
    return list((process / "fd").iterdir())
