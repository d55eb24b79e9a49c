"""The home on disk: its private folders, their links and their locks."""

import contextlib
import errno
import os
import socket
import stat
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from garrison.ipc.errors import GarrisonError
from garrison.ipc.system.file_id import file_id
from garrison.ipc.system.locks import hold_lock, is_locked
from garrison.supervisor.config.host_spec import HostSpec
from garrison.supervisor.config.load import Config

from .ownership import check_home

WRITTEN_S = 1.0  # wait for the holder of a lock to write its pid into the file
LOCK_ATTEMPTS, LOCK_RETRY_S = 5, 0.02
NONE_HELD: Mapping[tuple[int, int], int] = {}
TRAVERSABLE = 0o711  # mode of a folder that other users may pass through
BACKUP = "backup "  # before the pid, in a lock that a backup holds


class AlreadyRunning(GarrisonError):
    """Another supervisor has this home."""

    code = "already_running"

    @classmethod
    def of(cls, what: str | Path, pid: str) -> Self:
        """Return the error for a folder that a supervisor with that pid has, or a backup of it."""
        if pid.startswith(BACKUP):
            return cls(
                f"a backup of {what} is being made (pid {pid.removeprefix(BACKUP)}): try again "
                "when it is done"
            )
        return cls(
            f"a supervisor already runs for {what} (pid {pid}); stop it with: garrison down, or "
            "give another config another --home"
        )


def make_private(folder: Path) -> None:
    """Create a folder with mode 0700, unless it exists; its parents get the usual mode.

    Raises:
        GarrisonError: It cannot be created.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise GarrisonError(
            f"{folder} cannot be made: {error.strerror}. Choose another home with --home"
        ) from error


def make_folders(host: HostSpec) -> None:
    """Create the home's folders and its links to those that are outside it.

    Raises:
        GarrisonError: One cannot be created, or others own or can write it.
    """
    check_home(host)
    make_private(host.home)
    for folder, name in ((host.run, "run"), (host.state, "state"), (host.logs, "logs")):
        _leave_link(host.home / name, folder)
        make_private(folder)


def _leave_link(link: Path, folder: Path) -> None:
    """Link from the home to a folder that the config places outside it."""
    if link == folder:
        if link.is_symlink():
            raise GarrisonError(f"{link} is a link that another config made. Remove {link}")
        return
    if link.is_symlink():
        former = link.readlink()
        if former.resolve() != folder.resolve() and _is_in_use(former):
            raise GarrisonError(
                f"processes of this home still use their sockets in {former}. Restore "
                f"{link.name} = … under [host], and change it after garrison down"
            )
        link.unlink()
    elif link.exists():
        raise GarrisonError(
            f"{link} exists, but [host] {link.name} names another place. Remove {link}"
        )
    link.symlink_to(folder)


def _is_in_use(run: Path) -> bool:
    """Return whether a launcher listens in a folder of sockets."""
    for path in run.glob("launcher-*.sock"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(path))
            except OSError as error:
                # EPROTOTYPE: it listens, for another type of socket
                if error.errno != errno.EPROTOTYPE:
                    continue
            return True
    return False


def check_paths_unchanged(config: Config) -> None:
    """Raise GarrisonError if the config names other folders than those that the home uses now."""
    host = config.host
    for folder, name in ((host.run, "run"), (host.state, "state"), (host.logs, "logs")):
        if (host.home / name).resolve() != folder.resolve():
            raise GarrisonError(
                f"{name} = … under [host] has been changed. Run garrison down, then garrison up"
            )


def lock_home(config: Config, handed: Iterable[int] = ()) -> list[int]:
    """Create the home's folders and take its locks; return the descriptors of the locks.

    There is one lock in the home and one with the sockets: two hosts may share either by mistake.

    Args:
        config: The host's config.
        handed: Locks that this process has held since before an upgrade.
    """
    host = config.host
    check_home(host)
    make_private(host.home)
    held = {file_id(os.fstat(lock)): lock for lock in handed}
    locks = [take_lock(home_lock(host), host.home, held)]
    make_folders(host)
    for folder in (host.run, host.state, host.logs, host.home):
        revoke_access(folder)
    host.run.chmod(0o700)
    return [*locks, take_lock(run_lock(host), host.run, held)]


def home_lock(host: HostSpec) -> Path:
    """Return the path of the home's lock."""
    return host.home / "supervisor.lock"


def run_lock(host: HostSpec) -> Path:
    """Return the path of the lock beside the sockets, which two homes may share by mistake."""
    return host.run / "supervisor.lock"


def revoke_access(folder: Path) -> None:
    """Close a folder for other users; `grant_access` opens it again for those that need it."""
    if stat.S_IMODE(folder.stat().st_mode) == TRAVERSABLE:
        folder.chmod(0o700)


def grant_access(host: HostSpec) -> None:
    """Let other users reach their sockets and data folders.

    They may pass through the folders above these, but not list them.

    Raises:
        OSError: The mode of a folder cannot be changed.
    """
    services = host.state / "services"
    make_private(services)
    _open_folders(host, (host.home, host.run, host.state, services))


def grant_passage(host: HostSpec) -> None:
    """Let other users reach a socket; they may not list its folders.

    Raises:
        OSError: The mode of a folder cannot be changed.
    """
    _open_folders(host, (host.home, host.run))


def _open_folders(host: HostSpec, folders: Iterable[Path]) -> None:
    for folder in folders:
        mode = stat.S_IMODE(folder.stat().st_mode)
        wanted = (
            mode | 0o011 if folder == host.home else TRAVERSABLE
        )  # its mode may have been set by hand
        if mode != wanted:
            folder.chmod(wanted)


def take_lock(path: Path, what: Path, held: Mapping[tuple[int, int], int] = NONE_HELD) -> int:
    """Return the descriptor of a lock, with this process's pid in its file.

    Args:
        path: Of the lock.
        what: The folder that it is for.
        held: Locks that this process has, by their device and inode.

    Raises:
        AlreadyRunning: Another supervisor has it.
    """
    if path.exists() and (own := held.get(file_id(path.stat()))) is not None:
        return own
    lock = None
    for attempt in range(LOCK_ATTEMPTS):  # a client that looks whether it is free has it shared
        time.sleep(LOCK_RETRY_S if attempt else 0)
        try:
            lock = hold_lock(path)
        except OSError as error:
            raise GarrisonError(
                f"{path} cannot be opened: {error.strerror}. Remove it, or choose another home "
                "with --home"
            ) from error
        if lock is not None:
            break
    if lock is None:
        raise AlreadyRunning.of(what, _holder(path))
    _write_holder(lock)
    return lock


def lock_for_backup(home: Path) -> int:
    """Return the descriptor of a home's lock, which keeps a host from being started in it.

    Raises:
        AlreadyRunning: A supervisor is just starting, or another backup has it.
        OSError: It cannot be opened.
    """
    path = home / "supervisor.lock"
    lock = hold_lock(path)
    if lock is None:
        raise AlreadyRunning.of(home, _holder(path))
    _write_holder(lock, BACKUP)
    return lock


def check_no_backup(home: Path) -> None:
    """Raise AlreadyRunning if a backup has a home's lock."""
    path = home / "supervisor.lock"
    if is_locked(path) and (holder := _holder(path)).startswith(BACKUP):
        raise AlreadyRunning.of(home, holder)


def _write_holder(lock: int, before: str = "") -> None:
    with contextlib.suppress(OSError):  # the disk is full; the pid is only information
        os.ftruncate(lock, 0)
        os.write(lock, f"{before}{os.getpid()}\n".encode())


def _holder(path: Path) -> str:
    """Return the pid in a lock's file; a new holder writes it a moment after it has the lock."""
    deadline = time.monotonic() + WRITTEN_S
    while not (text := path.read_text("ascii", "replace")).endswith("\n"):
        if time.monotonic() > deadline:
            return text.strip() or "?"  # the disk is full
        time.sleep(0.01)
    return text.strip()
