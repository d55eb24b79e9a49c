"""Finds the files of a host that belong into a backup."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from garrison.supervisor.config.host_spec import HostSpec

from .manifest import CONFIG, HOME, outside_path
from .references import References

STATE_FILES = frozenset({"living.json", "update.json"})  # of this machine alone
ENDS_LEFT_OUT = ("-shm", ".lock", ".pid", ".new")  # made anew when they are needed
DAMAGED = ".damaged-"
CODE_MOST = 10 * 1024 * 1024  # bytes of one file of a plugin beside the config
CODE_FILES_MOST = 2000


@dataclass(frozen=True, slots=True)
class Source:
    """A file, and its path in the archive."""

    name: str
    path: Path


@dataclass
class Found:
    """What belongs into a backup."""

    files: list[Source] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def home_files(host: HostSpec) -> Found:
    """Return the files of the home: orders, accepted config, tombstones, data folders."""
    found = Found()
    for folder, name in ((host.home, HOME), (host.state, f"{HOME}/state")):
        for path in sorted(folder.glob("*.json")):
            if path.name not in STATE_FILES and _is_file(path):
                found.files.append(Source(f"{name}/{path.name}", path))
    services = host.state / "services"
    for path in _walk(services):
        name = f"{HOME}/state/services/{path.relative_to(services)}"
        if not _is_file(path):
            if path.is_symlink():
                found.left_out.append(f"{path}: a link")
        elif DAMAGED in path.name:
            found.left_out.append(f"{path}: set aside as damaged")
        elif not path.name.endswith(ENDS_LEFT_OUT):
            found.files.append(Source(name, path))
    return found


def config_files(configs: list[Path], named: References, secrets: bool) -> Found:
    """Return the files of the config, and those that it names.

    Args:
        configs: The config, and the files that it includes; relative paths begin at the folder of
            the first.
        named: What they name.
        secrets: Whether files of secrets belong into the backup.
    """
    found, folder = Found(), configs[0].parent
    paths = list(configs)
    paths += [path for module in named.modules for path in _code_of(folder, module)]
    for path in (folder / one for one in named.secret_files):
        if secrets:
            paths.append(path)
        else:
            found.left_out.append(f"{path}: secrets")
    paths += [folder / one for one in named.characters]
    for path in dict.fromkeys(Path(os.path.normpath(path)) for path in paths):
        if not path.is_file():
            found.left_out.append(f"{path}: not there")
        elif path.is_relative_to(folder):
            found.files.append(Source(f"{CONFIG}/{path.relative_to(folder)}", path))
        else:
            found.files.append(Source(outside_path(str(path)), path))
    return found


def _code_of(folder: Path, module: str) -> Iterator[Path]:
    """Yield the files of a plugin that lies beside the config."""
    if (folder / f"{module}.py").is_file():
        yield folder / f"{module}.py"
    if not (folder / module / "__init__.py").is_file():
        return
    for number, path in enumerate(_walk(folder / module)):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        is_code = not hidden and "__pycache__" not in path.parts and _is_file(path)
        if number < CODE_FILES_MOST and is_code and path.stat().st_size <= CODE_MOST:
            yield path


def _walk(folder: Path) -> Iterator[Path]:
    """Yield what is in a folder and below it, in order; links are not followed."""
    for top, folders, names in os.walk(folder):
        folders.sort()
        linked = [name for name in folders if (Path(top) / name).is_symlink()]
        for name in sorted([*names, *linked]):
            yield Path(top) / name


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:  # removed meanwhile
        return False
