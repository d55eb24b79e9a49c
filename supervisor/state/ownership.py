"""Checks that the home belongs to this user alone: what others can change is not believed."""

import contextlib
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from garrison.ipc.errors import GarrisonError
from garrison.supervisor.config.host_spec import HostSpec

OTHERS_WRITE = 0o022
PARTS = frozenset({"run", "state", "logs", "deaths", "services"})  # folders in a home
SUFFIXES = (".lock", ".sock", ".json", ".jsonl", ".log", ".flight")  # files that are garrison's


class UnsafeHome(GarrisonError):
    """Other users own or can write a part of the home; run the command that the text names."""

    code = "unsafe_home"


def check_home(host: HostSpec, change: bool = True) -> None:
    """Check the folders that exist, and the files in them that are garrison's.

    A folder within the home that others can write is closed for them. One outside it is refused:
    closing it may break what else is there.

    Args:
        host: The settings of the host.
        change: Whether to close what can be closed.

    Raises:
        UnsafeHome: A part belongs to another user, or others can write it.
    """
    if os.path.lexists(host.home):
        check_folder(host.home, tighten=_is_ours(host.home), change=change)
    for name, folder in (("run", host.run), ("state", host.state), ("logs", host.logs)):
        for path in dict.fromkeys((host.home / name, folder)):
            if os.path.lexists(path):
                check_folder(path, tighten=folder.parent == host.home, change=change)
    for folder in dict.fromkeys((host.home, host.run, host.state, host.logs)):
        _check_files(folder, change)


def check_folder(folder: Path, tighten: bool, change: bool = True) -> None:
    """Check one folder, and the link at its path if it is one.

    Args:
        folder: It exists.
        tighten: Whether to take away the right of others to write it, rather than to refuse it.
        change: Whether to do that now.

    Raises:
        UnsafeHome: It belongs to another user, or others can write it.
    """
    link = folder.lstat()
    if stat.S_ISLNK(link.st_mode) and link.st_uid not in {os.geteuid(), 0}:
        raise _owned_by_other(folder, link.st_uid, "rm {path}")
    try:
        found = folder.stat()
    except OSError:  # a link to nothing; whoever makes the folder reports that
        return
    if found.st_uid != os.geteuid():
        raise _owned_by_other(folder, found.st_uid, "chown -R --from={uid} {own} {path}")
    if found.st_mode & OTHERS_WRITE:
        if not tighten:
            raise UnsafeHome(
                f"{folder} can be written by other users (mode {stat.S_IMODE(found.st_mode):o}), "
                f"so they could change what garrison reads there. Run: chmod go-w {folder}, or "
                "choose another folder"
            )
        if change:
            folder.chmod(stat.S_IMODE(found.st_mode) & ~OTHERS_WRITE)


def exposed_folders(host: HostSpec) -> list[str]:
    """Return a sentence for each folder above the home's that every user may change.

    They could move what is in it, and put other folders there. In a container or on a shared disk
    there may be no other users, so this is no error.
    """
    own = (host.home, host.run, host.state, host.logs)  # those within the home are its own
    tops = [one for one in own if one == host.home or not one.is_relative_to(host.home)]
    above = (parent for top in tops for parent in top.resolve().parents)
    exposed = []
    for folder in dict.fromkeys(above):
        with contextlib.suppress(OSError):
            mode = folder.stat().st_mode
            if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
                exposed.append(
                    f"every user can write {folder} (mode {stat.S_IMODE(mode):o}), so they could "
                    f"move what is in it and put a home of their own there: chmod o-w {folder}, "
                    f"or chmod +t {folder}"
                )
    return exposed


def _is_ours(home: Path) -> bool:
    """Return True if a folder is a home, or empty: then closing it for others breaks nothing."""
    names = {entry.name for entry in _entries(home)}
    return not names or "supervisor.lock" in names or names <= PARTS


def _check_files(folder: Path, change: bool) -> None:
    for entry in _entries(folder):
        if entry.name not in PARTS and not entry.name.endswith(SUFFIXES):
            continue
        try:
            found = entry.stat(follow_symlinks=False)
        except OSError:  # removed meanwhile
            continue
        if stat.S_ISSOCK(found.st_mode):  # of a service's own user; bound anew anyway
            continue
        if found.st_uid not in {os.geteuid(), 0}:
            raise _owned_by_other(Path(entry.path), found.st_uid, "rm -r {path}")
        if change and stat.S_ISREG(found.st_mode) and found.st_mode & OTHERS_WRITE:
            with contextlib.suppress(OSError):
                os.chmod(entry.path, stat.S_IMODE(found.st_mode) & ~OTHERS_WRITE)  # noqa: PTH101


def _entries(folder: Path) -> Iterator["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError:
        return


def _owned_by_other(path: Path, uid: int, command: str) -> UnsafeHome:
    own = os.geteuid()
    text = command.format(path=path, uid=uid, own=own)
    return UnsafeHome(
        f"{path} belongs to {_user(uid)}, who could change what garrison reads there; this is "
        f"{_user(own)}. If you trust what is in it, run: {text}; otherwise choose another home "
        "with --home"
    )


def _user(uid: int) -> str:
    with contextlib.suppress(KeyError):
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    return f"uid {uid}"
