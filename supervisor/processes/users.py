"""Users of this machine: whom a service's process runs as, and whether that is possible here.

What is on the machine is asked for each time: accounts and modes change while a host runs. A name
is looked up where the system keeps it; a number needs no account.
"""

import errno
import grp
import os
import pwd
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from garrison.ipc.errors import StartError
from garrison.ipc.messages import Limits
from garrison.supervisor.config.environment import ACL
from garrison.supervisor.config.spec import ServiceSpec

# linux/capability.h: what root needs to start a process as another user, and to end it
NEEDED = {"CAP_CHOWN": 0, "CAP_KILL": 5, "CAP_SETGID": 6, "CAP_SETUID": 7}


@dataclass(frozen=True)
class Account:
    """Whom a service's process runs as."""

    name: str  # or its number, where it has no account
    uid: int
    gid: int
    groups: tuple[int, ...]  # all of them, `gid` among them
    environment: dict[str, str] = field(default_factory=dict)  # HOME and the like

    def put_on(self, limits: Limits) -> Limits:
        """Return what its worker puts itself under, with this account."""
        uid = -1 if self.uid == os.geteuid() else self.uid
        return msgspec.structs.replace(limits, uid=uid, gid=self.gid, groups=self.groups)


def resolve_user(spec: ServiceSpec, data: Path) -> Account | None:
    """Return whom a service runs as; None where that is whom the supervisor runs as.

    Args:
        spec: The service.
        data: Its data folder, which is the HOME of a user without an account.

    Raises:
        StartError: There is no such user or group, or it cannot be had here.
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
    """Return a user's entry; None for a number without an account."""
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
    """Return why this process cannot start others as another user; empty where it can."""
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
    if missing := [name for name, bit in NEEDED.items() if not held >> bit & 1]:
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
    return -1  # a kernel that does not tell; the worker's own attempt will


# --- the way to a folder ------------------------------------------------------------------


def mode_allows(mode: int, owner: int, group: int, account: Account, wanted: int) -> bool:
    """Tell whether a mode lets a user do something (pure).

    Args:
        mode: As stat() has it.
        owner: Of the file or folder.
        group: Likewise.
        account: The user.
        wanted: Bits of 4 (read), 2 (write) and 1 (search).
    """
    if account.uid == 0:
        return True
    shift = 6 if owner == account.uid else 3 if group in account.groups else 0
    return mode >> shift & wanted == wanted


def access_problem(path: Path, account: Account, wanted: int = 1) -> str:
    """Return in words what keeps a user from a folder or file; empty where nothing does.

    Args:
        path: Of it. One that is not there yet is not asked about.
        account: The user.
        wanted: What the user is to do with it: bits of 4 (read) and 1 (search).
    """
    for folder, bits in _way(path, wanted):
        try:
            found = folder.stat()
        except OSError:
            return ""
        if mode_allows(found.st_mode, found.st_uid, found.st_gid, account, bits) or _has_list(
            folder
        ):
            continue
        letters = ("r" if bits & 4 else "") + ("x" if bits & 1 else "")
        verb = "get into" if stat.S_ISDIR(found.st_mode) else "read"
        what = "" if folder == Path(os.path.realpath(path)) else f", on the way to {path},"
        return (
            f"user {account.name} cannot {verb} {folder}{what} which has mode "
            f"{stat.S_IMODE(found.st_mode):04o}: chmod o+{letters} {folder}, or move it"
        )
    return ""


def may_write(path: Path, account: Account) -> bool:
    """Tell whether a user can change a file, by its mode."""
    found = path.stat()
    return mode_allows(found.st_mode, found.st_uid, found.st_gid, account, 2)


def _way(path: Path, wanted: int) -> Iterator[tuple[Path, int]]:
    real = Path(os.path.realpath(path))
    for folder in reversed(real.parents):
        yield folder, 1
    yield real, wanted


def _has_list(folder: Path) -> bool:
    """Tell whether a folder has an access list, which may let in whom its mode does not."""
    try:
        os.getxattr(folder, ACL)
    except OSError as error:
        return error.errno not in {errno.ENODATA, errno.ENOTSUP}
    return True


def check_access(name: str, account: Account, folders: Collection[tuple[Path, int]]) -> None:
    """Raise StartError where a user cannot get to what its service needs.

    Args:
        name: The service.
        account: Whom it runs as.
        folders: Each with what is to be done there, as `closed` has it.
    """
    for folder, wanted in folders:
        if problem := access_problem(folder, account, wanted):
            raise StartError(name, problem)


def required_folders(run: Path, state: Path) -> list[tuple[Path, int]]:
    """Return the folders that every service has to get to, whoever it runs as."""
    return [(run, 1), (state, 1), *code()]


def code() -> list[tuple[Path, int]]:
    """Return the folders of Python's and garrison's own code."""
    return [(Path(os.__file__).parent, 5), (Path(__file__).parents[2] / "ipc", 5)]
