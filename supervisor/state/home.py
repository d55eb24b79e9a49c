"""The home on disk: its folders, private to their user, the links and the locks in them."""

import contextlib
import errno
import os
import socket
import stat
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from garrison.ipc.errors import GarrisonError
from garrison.ipc.system.locks import hold_lock
from garrison.supervisor.config.load import Config
from garrison.supervisor.config.spec import HostSpec

WRITTEN_S = 1.0  # a lock's holder has its pid in the file by then
THROUGH = 0o711  # the mode of a folder that other users pass through


class AlreadyRunning(GarrisonError):
    """Another supervisor has this home."""

    code = "already_running"


def make_private(folder: Path) -> None:
    """Make a folder that is its user's alone, unless it is there; what is above it, as usual.

    Raises:
        GarrisonError: It cannot be made.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise GarrisonError(
            f"{folder} cannot be made: {error.strerror}; choose another home with --home"
        ) from error


def _leave_link(link: Path, folder: Path) -> None:
    """Let whoever knows the home find a folder that was moved out of it."""
    if link == folder:
        if link.is_symlink():
            raise GarrisonError(f"{link} is a link of another config's: remove {link}")
        return
    if link.is_symlink():
        former = link.readlink()
        if former != folder and _is_in_use(former):
            raise GarrisonError(
                f"what this home has started still runs with its sockets in {former}: put "
                f"{link.name} = … under [host] back, and move it after garrison down"
            )
        link.unlink()
    elif link.exists():
        raise GarrisonError(f"{link} is there, and [host] {link.name} moves it: remove {link}")
    link.symlink_to(folder)


def _is_in_use(run: Path) -> bool:
    """Tell whether a launcher listens in a folder of sockets."""
    for path in run.glob("launcher-*.sock"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(path))
            except OSError as error:
                # It listens for another type of socket, so this does not reach it.
                if error.errno != errno.EPROTOTYPE:
                    continue
            return True
    return False


def check_paths_unchanged(config: Config) -> None:
    """Raise GarrisonError where the config has other folders than those that the home has now."""
    host = config.host
    for folder, name in ((host.run, "run"), (host.state, "state"), (host.logs, "logs")):
        if (host.home / name).resolve() != folder.resolve():
            raise GarrisonError(
                f"{name} = … under [host] has been changed: it takes garrison down and garrison up"
            )


def lock_home(config: Config, handed: Iterable[int] = ()) -> list[int]:
    """Make the home's folders and take its locks; return the locks' descriptors.

    One lock lies in the home, the other with the sockets: either can be shared by mistake.

    Args:
        config: Of the host.
        handed: Locks that the process before an upgrade has held, and still holds: its own.
    """
    host = config.host
    make_private(host.home)
    held = {_file_of(os.fstat(lock)): lock for lock in handed}
    locks = [_take_lock(host.home / "supervisor.lock", host.home, held)]
    for folder, name in ((host.run, "run"), (host.state, "state"), (host.logs, "logs")):
        _leave_link(host.home / name, folder)
        make_private(folder)
        revoke_access(folder)
    revoke_access(host.home)
    host.run.chmod(0o700)
    return [*locks, _take_lock(host.run / "supervisor.lock", host.run, held)]


def revoke_access(folder: Path) -> None:
    """Let no other user through a folder that one was let through; `let_through` does that again
    for those that there are still."""
    if stat.S_IMODE(folder.stat().st_mode) == THROUGH:
        folder.chmod(0o700)


def grant_access(host: HostSpec) -> None:
    """Let other users through to their sockets and data folders; what lies on the way is for none
    of them to list, nor to read.

    Raises:
        OSError: A folder is not ours to open.
    """
    services = host.state / "services"
    make_private(services)
    for folder in (host.home, host.run, host.state, services):
        mode = stat.S_IMODE(folder.stat().st_mode)
        wanted = mode | 0o011 if folder == host.home else THROUGH  # a home may be somebody's own
        if mode != wanted:
            folder.chmod(wanted)


def _file_of(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _take_lock(path: Path, what: Path, held: Mapping[tuple[int, int], int]) -> int:
    if path.exists() and (own := held.get(_file_of(path.stat()))) is not None:
        return own
    lock = hold_lock(path)
    if lock is None:
        holder = _holder(path)
        raise AlreadyRunning(
            f"a supervisor already runs for {what} (pid {holder}); "
            "stop it with: garrison down, or give this one another --home"
        )
    with contextlib.suppress(OSError):  # a full disk: it is for people to read
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
    return lock


def _holder(path: Path) -> str:
    """Return the pid in a lock's file; who has just taken the lock has not written it yet."""
    deadline = time.monotonic() + WRITTEN_S
    while not (said := path.read_text("ascii", "replace")).endswith("\n"):
        if time.monotonic() > deadline:
            return said.strip() or "?"  # its disk is full
        time.sleep(0.01)
    return said.strip()
