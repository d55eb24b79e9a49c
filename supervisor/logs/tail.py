"""Follows the log files of a folder: their last lines, and what is added to them.

A file's older lines are in `NAME.log.1`, those before in `.2`, …: `rotation` moves them there while
the file is written and read.
"""

import contextlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import BinaryIO, TypeAlias

CHUNK_BYTES = 256 * 1024  # read of one file at a time
LINE_BYTES = 16 * 1024  # a longer line is shown in pieces
TAIL_BYTES = 4 * 1024 * 1024  # looked through for the last lines
MARK_BYTES = 256  # by which a place is known again
UNSETTLED_MOST = 5  # looks at a file that does not go on where it ended, until that is taken as so
GAP = b"[lines were rotated away before they were read here]\n"

LAUNCHER, SUPERVISOR = "launcher.log", "supervisor.log"  # not services'

Identity: TypeAlias = tuple[int, int, int]  # a file that is written no more: inode, mtime, size


@dataclass(slots=True)
class _File:
    position: int
    inode: int
    rotated: Identity | None  # the `.1` beside it, when it was read last
    mark: bytes = b""  # the last that was read
    rest: bytes = b""  # a line without its end
    moved: list[BinaryIO] = field(default_factory=list)  # rotated away before it was read
    unsettled: int = 0


def rotated_path(path: Path, number: int) -> Path:
    """Return the path of a file's older lines."""
    return path.with_name(f"{path.name}.{number}")


def _identity(path: Path) -> Identity | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def service_logs(folder: Path) -> dict[str, Path]:
    """Return the log file of every service that has one, by NAME."""
    found = sorted(folder.glob("*.log")) if folder.is_dir() else []
    return {path.stem: path for path in found if path.name not in {LAUNCHER, SUPERVISOR}}


def last_lines(path: Path, number: int) -> list[str]:
    """Return the last lines of a file, also those that were rotated away; none where it is not
    there."""
    if number <= 0:
        return []
    for _ in range(3):
        before = _identity(rotated_path(path, 1))
        data = _tail(path, number)
        if _identity(rotated_path(path, 1)) == before:  # else it was rotated in between
            break
    return [line.decode("utf-8", "replace") for line in data.splitlines()[-number:]]


def _tail(path: Path, number: int) -> bytes:
    """Return at least so many last lines, if there are, of a file and those before it."""
    data = b""
    for older in count():
        try:
            with (rotated_path(path, older) if older else path).open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                begin = max(size - (TAIL_BYTES - len(data)), 0)
                file.seek(begin)
                data = file.read(size - begin) + data
        except FileNotFoundError:
            break
        if begin > 0 or data.count(b"\n") > number:
            break
    return data


class LogTail:
    """What is added to log files from now on.

    Args:
        folder: Where the files are.
        chosen: Tells whether a service's lines are wanted; new files count as well.
    """

    def __init__(self, folder: Path, chosen: Callable[[str], bool]) -> None:
        self._folder = folder
        self._chosen = chosen
        self._files: dict[Path, _File] = {}
        for path in self._paths():
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                state = _begun(path, file)
                state.position = file.seek(0, os.SEEK_END)
                file.seek(max(state.position - MARK_BYTES, 0))
                state.mark = file.read(min(state.position, MARK_BYTES))
                self._files[path] = state

    def read(self) -> list[tuple[str, str]]:
        """Return new whole lines, each with its service's NAME; at most a chunk of each file."""
        lines: list[tuple[str, str]] = []
        for path in self._paths():
            lines += [(path.stem, line) for line in self._read(path)]
        return lines

    def _paths(self) -> Iterable[Path]:
        logs = service_logs(self._folder)
        return [path for name, path in logs.items() if self._chosen(name)]

    def _read(self, path: Path) -> list[str]:
        try:
            data = self._next(path)
        except FileNotFoundError:
            return []
        state = self._files[path]
        *whole, state.rest = (state.rest + data).split(b"\n")
        if len(state.rest) > LINE_BYTES:
            whole.append(state.rest)
            state.rest = b""
        return [line.decode("utf-8", "replace") for line in whole]

    def _next(self, path: Path) -> bytes:
        """Return what comes next, a chunk at most."""
        state = self._files.get(path)
        while state is not None and state.moved:
            if data := state.moved[0].read(CHUNK_BYTES):
                return data
            state.moved.pop(0).close()
        newest = _identity(rotated_path(path, 1))
        with path.open("rb") as file:
            if state is None or os.fstat(file.fileno()).st_ino != state.inode:
                state = self._files[path] = _begun(path, file)
            if newest != state.rotated and _find_again(path, file, state, newest):
                state.unsettled = 0
                return b""  # the next look goes on from there
            added = _after(file, state, CHUNK_BYTES)
            if added is not None and (newest == state.rotated or state.mark):
                state.position += len(added)
                state.mark = (state.mark + added)[-MARK_BYTES:]
                state.unsettled = 0
                return added
            state.unsettled += 1
            if state.unsettled < UNSETTLED_MOST:  # in the middle of being rotated
                return b""
            lost = GAP if newest != state.rotated else b""  # else somebody has emptied it
            self._files[path] = _begun(path, file)
            return lost


def _begun(path: Path, file: BinaryIO) -> _File:
    return _File(0, os.fstat(file.fileno()).st_ino, _identity(rotated_path(path, 1)))


def _after(file: BinaryIO, state: _File, most: int) -> bytes | None:
    """Return what follows a place in a file, or None: what was before it is not there any more."""
    mark = state.mark[-state.position :] if state.position else b""
    file.seek(state.position - len(mark))
    data = file.read(len(mark) + most)
    return data[len(mark) :] if data.startswith(mark) else None


def _find_again(path: Path, live: BinaryIO, state: _File, newest: Identity | None) -> bool:
    """Find the place that was read up to, after what was there has moved to other files."""
    moved: list[BinaryIO] = []  # the oldest first
    try:
        for number in count(1):
            file = rotated_path(path, number)
            if _identity(file) == state.rotated:  # also None: there is none
                break
            moved.insert(0, file.open("rb"))
    except FileNotFoundError:  # it was long ago
        _closed(moved)
        return False
    place = _File(state.position, 0, None, state.mark)
    while moved:
        size = moved[0].seek(0, os.SEEK_END)
        if place.position <= size:
            break
        place.position -= size
        moved.pop(0).close()
    here = moved[0] if moved else live
    if (
        newest is None
        or _identity(rotated_path(path, 1)) != newest
        or _after(here, place, 0) is None
    ):
        _closed(moved)
        return False
    state.rotated, state.moved = newest, moved
    if moved:
        moved[0].seek(place.position)
        state.position, state.mark = 0, b""
    else:
        state.position = place.position
        state.mark = state.mark[-place.position :] if place.position else b""
    return True


def _closed(files: list[BinaryIO]) -> None:
    for file in files:
        file.close()
