"""The user that a service's process runs as, and whether that is possible on this machine.

Accounts and modes are looked up each time: they may change while a host runs. A number needs no
account.
"""

import errno
import grp
import os
import pwd
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

from garrison.ipc.errors import StartError
from garrison.ipc.messages import WorkerLimits
from garrison.supervisor.config.environment import ACL
from garrison.supervisor.config.spec import ServiceSpec

# linux/capability.h: needed to start a process as another user, and to end it
NEEDED_CAPABILITIES = {"CAP_CHOWN": 0, "CAP_KILL": 5, "CAP_SETGID": 6, "CAP_SETUID": 7}


class Account(msgspec.Struct, frozen=True):
    """The user that a service's process runs as."""

    name: str  # or its number, if it has no account
    uid: int
    gid: int
    groups: tuple[int, ...]  # all groups, including `gid`
    environment: dict[str, str] = msgspec.field(default_factory=dict)  # HOME, USER, LOGNAME, SHELL

    def put_on(self, limits: WorkerLimits) -> WorkerLimits:
        """Return a worker's limits with this user and its groups."""
        uid = -1 if self.uid == os.geteuid() else self.uid
        return msgspec.structs.replace(limits, uid=uid, gid=self.gid, groups=self.groups)


def resolve_user(spec: ServiceSpec, data: Path) -> Account | None:
    """Return the user that a service runs as; None if that is the supervisor's own user.

    Args:
        spec: The service.
        data: Its data folder, the HOME of a user without an account.

    Raises:
        StartError: There is no such user or group, or this process cannot start others' processes.
    """
    if not spec.limits.user and not spec.limits.group:
        return None
    try:
        entry = _user(spec.limits.user)
        gid = _group(spec.limits.group)
    except LookupError as error:
        raise StartError(spec.name, str(error.args[0])) from None
    uid = int(spec.limits.user) if entry is None else entry.pw_uid
    if gid is None:
        gid = uid if entry is None else entry.pw_gid
    if (uid, gid) == (os.geteuid(), os.getegid()):
        return None
    if problem := _problem(spec):
        raise StartError(spec.name, problem)
    if entry is None:
        home = {"HOME": str(data), "USER": str(uid), "LOGNAME": str(uid), "SHELL": "/bin/sh"}
        return Account(str(uid), uid, gid, (gid,), home)
    home = {
        "HOME": entry.pw_dir,
        "USER": entry.pw_name,
        "LOGNAME": entry.pw_name,
        "SHELL": entry.pw_shell or "/bin/sh",
    }
    groups = tuple(sorted({*os.getgrouplist(entry.pw_name, gid), gid}))
    return Account(entry.pw_name, uid, gid, groups, home)


def _user(word: str) -> pwd.struct_passwd | None:
    """Return a user's passwd entry; None for a number without an account.

    Raises:
        LookupError: There is no such user.
    """
    if not word or word.isdecimal():
        try:
            return pwd.getpwuid(int(word) if word else os.geteuid())
        except KeyError:
            if word:
                return None
            raise LookupError("the supervisor's own user has no account here") from None
    try:
        return pwd.getpwnam(word)
    except KeyError:
        raise LookupError(f"there is no user `{word}` on this machine") from None


def _group(word: str) -> int | None:
    if not word:
        return None
    if word.isdecimal():
        return int(word)
    try:
        return grp.getgrnam(word).gr_gid
    except KeyError:
        raise LookupError(f"there is no group `{word}` on this machine") from None


def _problem(spec: ServiceSpec) -> str:
    """Return why this process cannot start processes as another user; empty if it can."""
    wanted = " and ".join(
        f"{key} = {word}"
        for key, word in (("user", spec.limits.user), ("group", spec.limits.group))
        if word
    )
    if os.geteuid() != 0:
        return (
            f"{wanted}: only root can start a process as somebody else, and this supervisor runs "
            f"as {_named(os.geteuid())}; start garrison as root, or take that out"
        )
    held = _capabilities()
    if missing := [name for name, bit in NEEDED_CAPABILITIES.items() if not held >> bit & 1]:
        return (
            f"{wanted}: this root lacks {', '.join(missing)}, as in a container that drops "
            "them; give them back, or take that out"
        )
    return ""


def _named(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _capabilities() -> int:
    for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return -1  # unknown; the worker's own attempt will show it


# --- access to folders ---------------------------------------------------------------------


def mode_allows(mode: int, owner: int, group: int, account: Account, wanted: int) -> bool:
    """Return whether a mode allows a user an access (pure).

    Args:
        mode: Of a file or folder, from stat().
        owner: Its owner's uid.
        group: Its gid.
        account: The user.
        wanted: Bits of 4 (read), 2 (write) and 1 (search).
    """
    if account.uid == 0:
        return True
    shift = 6 if owner == account.uid else 3 if group in account.groups else 0
    return mode >> shift & wanted == wanted


def access_problem(path: Path, account: Account, wanted: int = 1) -> str:
    """Return why a user cannot access a folder or file, in words; empty if the user can.

    Args:
        path: Its path. One that does not exist yet is no problem.
        account: The user.
        wanted: The access: bits of 4 (read) and 1 (search).
    """
    for folder, bits in _needed_access(path, wanted):
        try:
            found = folder.stat()
        except OSError:
            return ""
        if mode_allows(found.st_mode, found.st_uid, found.st_gid, account, bits) or _has_acl(
            folder
        ):
            continue
        mode_letters = ("r" if bits & 4 else "") + ("x" if bits & 1 else "")
        verb = "get into" if stat.S_ISDIR(found.st_mode) else "read"
        what = "" if folder == Path(os.path.realpath(path)) else f", on the way to {path},"
        return (
            f"user {account.name} cannot {verb} {folder}{what} which has mode "
            f"{stat.S_IMODE(found.st_mode):04o}: chmod o+{mode_letters} {folder}, or move it"
        )
    return ""


def may_write(path: Path, account: Account) -> bool:
    """Return whether a file's mode allows a user to change it."""
    found = path.stat()
    return mode_allows(found.st_mode, found.st_uid, found.st_gid, account, 2)


def _needed_access(path: Path, wanted: int) -> Iterator[tuple[Path, int]]:
    real = Path(os.path.realpath(path))
    for folder in reversed(real.parents):
        yield folder, 1
    yield real, wanted


def _has_acl(folder: Path) -> bool:
    """Return whether a folder has an access control list, which may allow more than its mode."""
    try:
        os.getxattr(folder, ACL)
    except OSError as error:
        return error.errno not in {errno.ENODATA, errno.ENOTSUP}
    return True


def check_access(name: str, account: Account, folders: Collection[tuple[Path, int]]) -> None:
    """Raise StartError if a user cannot access what its service needs.

    Args:
        name: The service.
        account: The user that it runs as.
        folders: Each with the wanted access, as for `access_problem`.
    """
    for folder, wanted in folders:
        if problem := access_problem(folder, account, wanted):
            raise StartError(name, problem)


def code_folders(python: Path | None = None) -> list[tuple[Path, int]]:
    """Return the folders and files of Python's and garrison's code, with the wanted access.

    Args:
        python: The interpreter of a venv; None: this process's own.
    """
    if python is not None:
        return [(python.parent.parent, 5), (python, 5)]
    return [(Path(os.__file__).parent, 5), (Path(__file__).parents[2] / "ipc", 5)]
