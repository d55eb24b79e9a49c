"""Applies a service's limits, user and file access to its process, before any plugin code runs.

What a service relies on, or what concerns security, is mandatory: where it cannot be applied, the
service does not start. What the machine merely does not grant, such as a lower `nice` for an
ordinary user, is logged and the service runs without it.
"""

import contextlib
import ctypes
import errno
import os
import resource
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from garrison.ipc.errors import PermanentFailure
from garrison.ipc.messages import WorkerLimits

PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 4, 38  # linux/prctl.h
KEYCTL_JOIN_SESSION_KEYRING = 1  # linux/keyctl.h
KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "armv7l": 311, "ppc64le": 271}
NR_OPEN = Path("/proc/sys/fs/nr_open")  # the kernel's limit of descriptors for any process
ADJUSTMENT = Path("/proc/self/oom_score_adj")
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
ANYTHING = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


# --- limits -------------------------------------------------------------------------------


def apply_limits(limits: WorkerLimits) -> list[str]:
    """Apply limits to this process and its future children; return those that were not granted.

    Raises:
        PermanentFailure: A mandatory one cannot be applied.
    """
    refused = [*_files(limits.open_files), *_nice(limits.nice), *_oom(limits.oom_score_adj)]
    switch_user(limits)  # after what needs the rights of root
    if limits.umask is not None:
        os.umask(limits.umask)
    if limits.working_directory:
        _enter(limits.working_directory)
    if limits.no_new_privs:
        _forbid_new_privileges()
    return refused


def _files(wanted: int) -> list[str]:
    if not wanted:
        return []
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    except (OSError, ValueError):  # ValueError: above the hard limit, as an ordinary user
        most = int(NR_OPEN.read_text())
        granted = min(most, wanted) if hard == resource.RLIM_INFINITY else min(hard, most, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (granted, granted))
        return [f"open_files = {wanted}: the machine allows {granted}, so it runs with {granted}"]
    return []


def _nice(wanted: int | None) -> list[str]:
    if wanted is None:
        return []
    try:
        os.setpriority(os.PRIO_PROCESS, 0, wanted)
    except OSError as error:
        current = os.getpriority(os.PRIO_PROCESS, 0)
        return [f"nice = {wanted}: {error.strerror}, so it runs with {current}"]
    return []


def _oom(wanted: int | None) -> list[str]:
    if wanted is None:
        return []
    try:
        ADJUSTMENT.write_text(str(wanted))
    except OSError as error:
        current = ADJUSTMENT.read_text().strip()
        return [f"oom_score_adj = {wanted}: {error.strerror}, so it runs with {current}"]
    return []


def _enter(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        fix = "create it"
        if isinstance(error, PermissionError):
            fix = f"give user {os.geteuid()} access to it and to the folders above it"
        raise PermanentFailure(
            f"its working_directory {folder} cannot be entered: {error.strerror}; {fix}, or "
            "configure another one"
        ) from error


def _forbid_new_privileges() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise PermanentFailure(f"no_new_privs cannot be set: {reason}")


# --- the user -----------------------------------------------------------------------------


def switch_user(limits: WorkerLimits) -> None:
    """Switch this process to the service's user and group, for good. It must have one thread.

    Raises:
        PermanentFailure: The kernel refused, or the process could switch back.
    """
    uid, gid = limits.uid, limits.gid
    if gid < 0:
        return
    try:
        os.setgroups(list(limits.groups))
        os.setresgid(gid, gid, gid)
        if uid >= 0:
            _leave_keyring()  # still as root, whose quota of keys no user can exhaust
            os.setresuid(uid, uid, uid)
    except OSError as error:
        raise PermanentFailure(
            f"it cannot switch to user {uid}, group {gid}: {error.strerror}"
        ) from error
    if uid < 0:
        return
    _check_switched(uid, gid)
    # Switching users cleared the dumpable flag, without which /proc/self belongs to root. Other
    # processes of this user may then inspect this one, as they may inspect each other.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    if not os.access(".", os.X_OK):  # the supervisor's working directory
        os.chdir("/")


def _leave_keyring() -> None:
    """Join an empty session keyring: any process in that of root's login can read its keys.

    Without kernel keyrings, or where a seccomp filter forbids them, there are no keys to read.
    """
    number = KEYCTL.get(os.uname().machine)
    if number is None:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    if libc.syscall(number, KEYCTL_JOIN_SESSION_KEYRING, None) < 0:
        error = ctypes.get_errno()
        if error not in {errno.ENOSYS, errno.EPERM, errno.EACCES}:
            raise OSError(error, os.strerror(error))


def _check_switched(uid: int, gid: int) -> None:
    """Raise PermanentFailure if the process can become root again, or kept capabilities."""
    attempts: list[Callable[[], None]] = [
        lambda: os.setuid(0),
        lambda: os.setresuid(-1, 0, -1),
        lambda: os.setgroups([]),
    ]
    for attempt in attempts:
        try:
            attempt()
        except OSError:
            continue
        raise PermanentFailure(f"as user {uid} it could become root again; it was not started")
    kept = [
        line
        for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines()
        if line.startswith(("CapPrm:", "CapEff:", "CapAmb:")) and int(line.split()[1], 16)
    ]
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid) or kept:
        raise PermanentFailure(f"as user {uid} it kept capabilities of root; it was not started")


def unreadable_code(limits: WorkerLimits, folders: Iterable[str], error: Exception) -> str:
    """Return a sentence on the code that the service's user cannot read; empty if it can.

    Args:
        limits: The service's limits, with its user.
        folders: Where code is imported from.
        error: The error of the import.
    """
    if limits.uid < 0:
        return ""
    closed = [folder for folder in folders if folder and _is_closed(folder)]
    if isinstance(error, PermissionError) and error.filename:
        closed = [str(error.filename)]
    if not closed:
        return ""
    return f"user {limits.uid} cannot read {', '.join(closed)}; permit it, or move the code"


def _is_closed(folder: str) -> bool:
    try:
        os.stat(folder)  # noqa: PTH116 (an entry of sys.path may be any text)
    except OSError as error:
        return isinstance(error, PermissionError)
    return not os.access(folder, os.R_OK)


# --- the data folder ----------------------------------------------------------------------
# This runs as root on files that their owner could replace at any time: no link is followed, each
# file is opened first and examined then, and files of other users are left as they are.


def chown_data_folder(data: str, limits: WorkerLimits) -> None:
    """Create the data folder for the service's user, or change the owner of an existing one.

    Args:
        data: The folder; those above it belong to the host's user. Empty for none.
        limits: The service's limits, with its user.

    Raises:
        PermanentFailure: The owner cannot be changed.
    """
    if not data or os.geteuid() != 0:
        return
    folder = Path(data)
    uid, gid = (limits.uid, limits.gid) if limits.uid >= 0 else (0, -1)
    try:
        if limits.uid >= 0:
            folder.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
        elif _is_hosts(folder):
            return
        _chown_tree(folder, uid, gid)
    except (OSError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise PermanentFailure(
            f"the owner of {folder} cannot be changed to user {uid}: {reason}"
        ) from error


def _is_hosts(folder: Path) -> bool:
    """Return whether a folder does not exist, or belongs to root or to the home's owner."""
    try:
        found = folder.stat(follow_symlinks=False)
    except FileNotFoundError:
        return True
    return found.st_uid in {0, folder.parent.stat().st_uid}


def _chown_tree(folder: Path, uid: int, gid: int) -> None:
    top = os.open(folder, FOLDER)
    try:
        found = os.fstat(top)
        if found.st_uid == uid:
            return
        for _, folders, files, inside in os.fwalk(dir_fd=top, follow_symlinks=False):
            for name in (*folders, *files):
                _chown_one(name, inside, found, uid, gid)
        os.fchmod(top, 0o700)
        os.fchown(top, uid, gid)  # last, so that an interrupted change is repeated
    finally:
        os.close(top)


def _chown_one(name: str, inside: int, top: os.stat_result, uid: int, gid: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        one = os.open(name, ANYTHING, dir_fd=inside)
        try:
            found = os.fstat(one)
            linked = found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode)  # has another path
            if found.st_uid == top.st_uid and found.st_dev == top.st_dev and not linked:
                os.chown(f"/proc/self/fd/{one}", uid, gid)
        finally:
            os.close(one)
