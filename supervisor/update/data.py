"""Copies a service's data folder before its new version runs, and puts the copy back.

As a program it makes one copy: `python -m garrison.supervisor.update.data SOURCE TARGET`.
"""

import contextlib
import os
import stat
import sys
from pathlib import Path

CHUNK = 4 * 1024 * 1024
BEFORE, FAILED = "before", "failed"  # the copies, and what the new version has left


def copy_data(source: Path, target: Path) -> None:
    """Copy a data folder, which is not written meanwhile; a copy that is there is kept.

    The target is there once the copy is complete. A service without a folder has an empty one.

    Raises:
        OSError: It cannot be copied; there is no target.
    """
    if target.exists():
        return
    partial = target.with_name(f"{target.name}.partial")
    _remove(partial)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        if source.is_dir():
            _copy_folder(source, partial)
        else:
            partial.mkdir(mode=0o700)
        partial.rename(target)
    except OSError:
        _remove(partial)
        raise
    _sync_folder(target.parent)


def put_back(source: Path, copy: Path, aside: Path) -> bool:
    """Put a copy in the place of a data folder, which goes aside; return False without a copy.

    Each step can be repeated, after a kill at any moment.

    Raises:
        OSError: It cannot be done.
    """
    if not copy.is_dir():
        return False
    aside.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if source.is_dir():
        _remove(aside)
        source.rename(aside)
    source.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    copy.rename(source)
    _sync_folder(source.parent)
    return True


def size_of(folder: Path) -> int:
    """Return how many bytes a folder's files have."""
    total = 0
    for top, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(top) / name).lstat().st_size
    return total


def _remove(folder: Path) -> None:
    from shutil import rmtree  # large, and the supervisor imports this module for updates alone

    rmtree(folder, ignore_errors=True)


def _copy_folder(source: Path, target: Path) -> None:
    target.mkdir(mode=0o700)
    for entry in os.scandir(source):
        path, copy = Path(entry.path), target / entry.name
        if entry.is_symlink():
            copy.symlink_to(path.readlink())
        elif entry.is_dir():
            _copy_folder(path, copy)
        elif entry.is_file():  # sockets and pipes are made anew
            _copy_file(path, copy)
    _like(source, target)
    _sync_folder(target)


def _copy_file(source: Path, target: Path) -> None:
    with source.open("rb") as reading, target.open("xb") as writing:
        try:
            while os.copy_file_range(reading.fileno(), writing.fileno(), CHUNK):
                pass
        except OSError:
            reading.seek(0)
            writing.seek(0)
            writing.truncate()
            from shutil import copyfileobj

            copyfileobj(reading, writing, CHUNK)
        writing.flush()
        os.fsync(writing.fileno())
    _like(source, target)


def _like(source: Path, target: Path) -> None:
    """Give a copy the owner, the mode and the times of its original."""
    found = source.stat()
    if found.st_uid != os.geteuid() or found.st_gid != os.getegid():
        os.chown(target, found.st_uid, found.st_gid)
    target.chmod(stat.S_IMODE(found.st_mode))
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    try:
        copy_data(Path(sys.argv[1]), Path(sys.argv[2]))
    except OSError as error:
        sys.exit(f"error: {error}")
