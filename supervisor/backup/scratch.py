"""Private folders for work in progress; what a killed process left is removed by the next one."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from garrison.ipc.system.locks import is_at_path

FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
REMOVED_MOST = 100  # folders


@contextlib.contextmanager
def scratch_folder(prefix: str, beside: Path) -> Iterator[Path]:
    """Yield a new private folder, which is removed at the end.

    It is locked meanwhile. So those of processes that run now differ from those of killed ones,
    which are removed first.

    Args:
        prefix: Of its name, by which those of killed processes are found.
        beside: The folder that it is made in.

    Raises:
        OSError: It cannot be made.
    """
    _remove_abandoned(prefix, beside)
    folder, lock = _locked_folder(prefix, beside)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _locked_folder(prefix: str, beside: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=beside))
        if (lock := _lock(folder)) is not None:
            return folder, lock
        # Another process took it for abandoned, before it was locked, and removes it.


def _lock(folder: Path) -> int | None:
    """Return the descriptor of a folder's lock; None if another process has it."""
    try:
        lock = os.open(folder, FLAGS)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_at_path(lock, folder):
            return lock
    os.close(lock)
    return None


def _remove_abandoned(prefix: str, beside: Path) -> None:
    for folder in sorted(beside.glob(f"{prefix}*"))[:REMOVED_MOST]:
        with contextlib.suppress(OSError):
            if folder.lstat().st_uid == os.geteuid() and (lock := _lock(folder)) is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)
