"""Keeps what Ray has brought to a machine, for the node there: Ray deletes it when it wants to.

A virtual environment or folders of modules lie in the folder of Ray's session. Ray may remove them
once the actor has ended that has brought them, and a new session has another folder; the node goes
on meanwhile. So the node runs from copies in its home, whose files are links where possible.
"""

import contextlib
import os
import shutil
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

BY_RAY = "runtime_resources"  # the folder of all that Ray brings, in that of its session
FOLDER = "runtime-env"  # in the node's home
KEPT = 2  # the one of the node, and the one of workers that it has adopted


class Brought(NamedTuple):
    """What Ray has brought."""

    python: str  # that runs this program
    virtualenv: str = ""  # whose Python that is; empty: one that Ray has not made
    modules: tuple[str, ...] = ()  # folders of modules


def brought(executable: str, path: Iterable[str]) -> Brought:
    """Return what Ray has brought, by the Python of a program and the path of its modules."""
    virtualenv = str(Path(executable).parent.parent) if _is_by_ray(executable) else ""
    modules = (one for one in path if _is_by_ray(one) and not (virtualenv and virtualenv in one))
    return Brought(executable, virtualenv, tuple(dict.fromkeys(modules)))


def _is_by_ray(path: str) -> bool:
    return BY_RAY in Path(path).parts


def kept(home: Path, what: Brought, environ: dict[str, str]) -> str:
    """Keep what Ray has brought; return the Python of the node.

    Args:
        home: Of the node.
        what: Ray has brought.
        environ: Of the node's process, which is changed.

    Raises:
        OSError: It cannot be copied.
    """
    own = [
        one
        for one in environ.get("PYTHONPATH", "").split(os.pathsep)
        if one and not _is_by_ray(one)
    ]
    environ.pop("VIRTUAL_ENV", None)
    folder, python = home / FOLDER, what.python
    if what.virtualenv or what.modules:
        digest = sha256("\0".join((what.virtualenv, *what.modules)).encode()).hexdigest()[:16]
        place = folder / digest
        if not place.exists():
            _copy(what, place)
        os.utime(place)  # the latest
        own = [*(str(place / str(number)) for number in range(len(what.modules))), *own]
        if what.virtualenv:
            python = str(place / "virtualenv" / "bin" / Path(python).name)
    environ.pop("PYTHONPATH", None)
    if own:
        environ["PYTHONPATH"] = os.pathsep.join(own)
    _remove_old(folder)
    return python


def _copy(what: Brought, place: Path) -> None:
    """Copy all of it; a copy that was not finished is begun anew."""
    place.parent.mkdir(mode=0o700, exist_ok=True)
    begun = place.with_suffix(".new")
    shutil.rmtree(begun, ignore_errors=True)
    for number, source in enumerate(what.modules):
        shutil.copytree(source, begun / str(number), symlinks=True, copy_function=_link)
    if what.virtualenv:
        target = begun / "virtualenv"
        shutil.copytree(what.virtualenv, target, symlinks=True, copy_function=_link)
    begun.rename(place)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # another file system, or too many links
        shutil.copy2(source, target, follow_symlinks=False)


def _remove_old(folder: Path) -> None:
    """Remove all but the latest."""
    with contextlib.suppress(OSError):
        found = [one for one in folder.iterdir() if one.suffix != ".new"]
        for one in sorted(found, key=lambda path: path.stat().st_mtime)[:-KEPT]:
            shutil.rmtree(one, ignore_errors=True)
