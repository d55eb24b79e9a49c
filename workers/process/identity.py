"""Whom a worker runs as: it becomes that user before any of its plugin's code runs, for good."""

import ctypes
import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from garrison.ipc.errors import PermanentFailure
from garrison.ipc.messages import Limits

PR_SET_DUMPABLE = 4  # linux/prctl.h
KEYCTL_JOIN_SESSION_KEYRING = 1  # linux/keyctl.h
KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "armv7l": 311, "ppc64le": 271}


def become(limits: Limits) -> None:
    """Have this process, which has one thread, be another user from here on.

    What needs root's rights comes before; what gives up the last ones, as `no_new_privs`, after.

    Raises:
        PermanentFailure: The kernel would not, or there is a way back: nothing of a plugin may run.
    """
    uid, gid = limits.uid, limits.gid
    if gid < 0:
        return
    try:
        os.setgroups(list(limits.groups))
        os.setresgid(gid, gid, gid)
        if uid >= 0:
            _leave_keys()  # as root, whose quota of keys no user can fill
            os.setresuid(uid, uid, uid)
    except OSError as error:
        raise PermanentFailure(
            f"it cannot become user {uid}, group {gid}: {error.strerror}"
        ) from error
    if uid < 0:
        return
    _check_become(uid, gid)
    # The kernel takes it from who changes users, and with it /proc/self to oneself. Whoever is
    # this user already may then look at this process, as at all of that user's.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    if not os.access(".", os.X_OK):  # the supervisor's own folder
        os.chdir("/")


def _leave_keys() -> None:
    """Have an empty session keyring: who has that of root's login can read the keys in it, whoever
    that is by then. Without keyrings, or where a filter forbids them to all, there is none to read.
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


def _check_become(uid: int, gid: int) -> None:
    """Show that there is no way back."""
    ways: list[Callable[[], None]] = [
        lambda: os.setuid(0),
        lambda: os.setresuid(-1, 0, -1),
        lambda: os.setgroups([]),
    ]
    for way in ways:
        try:
            way()
        except OSError:
            continue
        raise PermanentFailure(f"as user {uid} it could become root again; it was not started")
    held = [
        line
        for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines()
        if line.startswith(("CapPrm:", "CapEff:", "CapAmb:")) and int(line.split()[1], 16)
    ]
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid) or held:
        raise PermanentFailure(f"as user {uid} it kept rights of root's; it was not started")


def unreadable(limits: Limits, folders: Iterable[str], error: Exception) -> str:
    """Return which code another user's worker cannot read, in words; empty where that is not it.

    Args:
        limits: Whom it runs as.
        folders: Where code is looked for.
        error: What the import has raised.
    """
    if limits.uid < 0:
        return ""
    shut = [folder for folder in folders if folder and _is_shut(folder)]
    if isinstance(error, PermissionError) and error.filename:
        shut = [str(error.filename)]
    if not shut:
        return ""
    return f"user {limits.uid} cannot read {', '.join(shut)}: let it, or move that"


def _is_shut(folder: str) -> bool:
    try:
        os.stat(folder)  # noqa: PTH116 (any text may stand in sys.path)
    except OSError as error:
        return isinstance(error, PermissionError)
    return not os.access(folder, os.R_OK)
