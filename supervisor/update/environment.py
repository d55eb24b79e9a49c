"""Environments of Python side by side: what the running one is, and the switch between two.

`.venv` becomes a link to a folder of `.venv.versions`. Each version keeps its folder, so that a
process never imports from another one than it was started with.
"""

import contextlib
import ctypes
import errno
import json
import os
import pwd
import shutil
import sys
from pathlib import Path

from .refusals import Facts

VERSIONS = ".versions"  # behind the name of the environment
EXCHANGE, AT_FDCWD = 2, -100  # of renameat2
CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv", "/run/secrets/kubernetes.io")
SPARE_BYTES = 64 * 1024 * 1024


def own_environment() -> Path:
    """Return the path of the environment that this process runs by, as hosts are started by it."""
    prefix = Path(sys.prefix)
    if prefix.parent.name.endswith(VERSIONS):
        return prefix.parent.with_name(prefix.parent.name.removesuffix(VERSIONS))
    return prefix


def python_of(environment: Path | str) -> str:
    """Return the interpreter of an environment."""
    return str(Path(environment) / "bin" / "python")


def versions_of(environment: Path) -> Path:
    """Return the folder of the versions of an environment."""
    return environment.with_name(environment.name + VERSIONS)


def current_of(environment: Path) -> Path:
    """Return the folder of the version that an environment's path leads to."""
    return environment.resolve() if environment.is_symlink() else environment.absolute()


def next_number(environment: Path) -> int:
    """Return the number of the next version; the first one was made without garrison."""
    folder = versions_of(environment)
    names = [one.name for one in folder.iterdir()] if folder.is_dir() else []
    return max([1, *(int(name) for name in names if name.isdigit())]) + 1


def facts_of(environment: Path, supervisor: int, home: Path) -> Facts:
    """Return what is known of the environment that runs a host.

    Args:
        environment: Its path.
        supervisor: The supervisor's pid.
        home: The host's.
    """
    runs_by = _environment_of(supervisor)
    mark = next((one for one in CONTAINER_MARKS if Path(one).exists()), "")
    return Facts(
        str(environment),
        is_venv=sys.prefix != sys.base_prefix,
        container=mark,
        in_image=_file_system(environment) == "overlay",
        is_first=supervisor == 1,
        pipx=(environment / "pipx_metadata.json").exists(),
        uv_tool=(environment / "uv-receipt.toml").exists(),
        editable=_checkout(environment),
        has_pip=any(_packages(environment).glob("pip-*.dist-info")),
        writable=os.access(environment.parent, os.W_OK),
        exchanges=_exchanges(environment.parent),
        others=_other_hosts(environment, supervisor),
        user=_other_user(supervisor),
        runs_by="" if not runs_by or _same(runs_by, environment) else str(runs_by),
    )


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _packages(environment: Path) -> Path:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return environment / "lib" / version / "site-packages"


def _checkout(environment: Path) -> str:
    """Return the checkout that garrison is used from; empty if its files are installed."""
    for file in _packages(environment).glob("garrison-*.dist-info/direct_url.json"):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            found = json.loads(file.read_bytes())
            if found.get("dir_info", {}).get("editable"):
                return str(found.get("url", "")).removeprefix("file://")
    return ""


def _environment_of(pid: int) -> Path | None:
    """Return the environment that a supervisor runs by; None: it cannot be seen."""
    words = _words(pid)
    return Path(words[0]).parent.parent if words and words[0].startswith("/") else None


def _other_user(pid: int) -> str:
    """Return who a process runs as; empty: as this one."""
    try:
        uid = Path(f"/proc/{pid}").stat().st_uid
        return "" if uid == os.geteuid() else pwd.getpwuid(uid).pw_name
    except (OSError, KeyError):
        return ""


def _words(pid: int) -> list[str]:
    try:
        return list(map(os.fsdecode, Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")))
    except OSError:
        return []


def _other_hosts(environment: Path, supervisor: int) -> tuple[str, ...]:
    """Return the homes, or else the pids, of other supervisors that run by an environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in {supervisor, os.getpid()}:
            continue
        words = _words(int(entry.name))
        if "garrison.supervisor.cli" not in words and not any(
            word.endswith("/bin/garrison") for word in words[:2]
        ):
            continue
        if "up" in words and "--detach" not in words and _same(_prefix(words), environment):
            at = words.index("--home") + 1 if "--home" in words else 0
            found.append(words[at] if at else f"pid {entry.name}")
    return tuple(found)


def _prefix(words: list[str]) -> Path:
    return Path(words[0]).parent.parent


def _file_system(path: Path) -> str:
    """Return the type of the file system that a path is on; empty if it is not known."""
    best, kind = "", ""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            before, _, after = line.partition(" - ")
            point = before.split()[4]
            if path.resolve().is_relative_to(point) and len(point) >= len(best):
                best, kind = point, after.split()[0]
    return kind


def _exchanges(folder: Path) -> bool:
    """Return whether two paths in a folder can be exchanged, by exchanging two."""
    tries = [folder / f".garrison-{os.getpid()}-{end}" for end in "ab"]
    try:
        tries[0].mkdir(mode=0o700)
        tries[1].symlink_to(tries[0].name)
        exchange(tries[1], tries[0])
        return True
    except OSError as error:
        return error.errno in {errno.EACCES, errno.EROFS}  # reported as not writable
    finally:
        for one in tries:
            with contextlib.suppress(OSError):
                one.rmdir() if one.is_dir() and not one.is_symlink() else one.unlink()


def exchange(one: Path, other: Path) -> None:
    """Exchange what two paths lead to, at one moment.

    Raises:
        OSError: It cannot be done.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one))


def switch(environment: Path, staged: Path, former: Path) -> None:
    """Have an environment's path lead to another version, at one moment.

    Each step can be repeated, after a kill at any moment.

    Args:
        environment: The path.
        staged: The folder of the version that it leads to from now on.
        former: Where the present version goes, if the path is still a folder of its own.

    Raises:
        OSError: It cannot be done.
    """
    beside = versions_of(environment) / "link"
    if not (environment.is_symlink() and _same(environment, staged)):
        _remove(beside)
        beside.symlink_to(os.path.relpath(staged, environment.parent))
        if environment.is_dir() and not environment.is_symlink():
            exchange(beside, environment)
        else:
            beside.replace(environment)
    if beside.is_dir() and not beside.is_symlink():  # what the path was before
        beside.rename(former)
    _remove(beside)
    _sync(environment.parent)
    _sync(versions_of(environment))


def _remove(path: Path) -> None:
    if path.is_symlink():
        path.unlink()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_version(folder: Path, environment: Path) -> None:
    """Remove a version that no process runs by; nothing else is ever removed."""
    if folder.parent == versions_of(environment) and not _same(folder, environment):
        shutil.rmtree(folder, ignore_errors=True)


def remove_all_but(environment: Path, kept: set[Path]) -> None:
    """Remove the versions of an environment, and the backups of former updates, except some."""
    for one in versions_of(environment).iterdir():
        if one in kept:
            continue
        if one.name.isdigit():
            remove_version(one, environment)
        elif one.name.startswith("before-"):
            one.unlink(missing_ok=True)
