"""Reads the last lines of log files, and follows what is added to them.

Older lines are in `NAME.log.1`, still older ones in `NAME.log.2`, and so on: `rotation` moves them
there while the file is written and read.
"""

import contextlib
import os
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import BinaryIO, TypeAlias

import msgspec

CHUNK_BYTES = 256 * 1024  # of one file in one read
LINE_BYTES = 16 * 1024  # a longer line is shown in pieces
TAIL_BYTES = 4 * 1024 * 1024  # searched for the last lines
MARK_BYTES = 256  # the bytes before a position, to find it again
UNSETTLED_MOST = 5  # reads of a file without its last position, until it counts as emptied
GAP = b"[lines were rotated away before they were read here]\n"

LAUNCHER, SUPERVISOR = "launcher.log", "supervisor.log"  # not logs of services

Identity: TypeAlias = tuple[
    int, int, int
]  # of a file that is no longer written: inode, mtime, size


class _File(msgspec.Struct):
    position: int
    inode: int
    rotated: Identity | None  # of its `.1`, at the last read
    mark: bytes = b""  # the last bytes that were read
    rest: bytes = b""  # a line without its end
    moved: list[BinaryIO] = msgspec.field(
        default_factory=list
    )  # rotated files with unread lines, the oldest first
    unsettled: int = 0


def rotated_path(path: Path, number: int) -> Path:
    """Return the path of a log's rotated file."""
    return path.with_name(f"{path.name}.{number}")


def identity(path: Path) -> Identity | None:
    """Return what distinguishes a rotated file from others; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def service_logs(folder: Path) -> dict[str, Path]:
    """Return the log files of services: NAME → path."""
    found = sorted(folder.glob("*.log")) if folder.is_dir() else []
    return {path.stem: path for path in found if path.name not in {LAUNCHER, SUPERVISOR}}


def last_lines(path: Path, number: int) -> list[str]:
    """Return the last lines of a log, rotated ones too; none without a file."""
    if number <= 0:
        return []
    data = b""
    for _ in range(3):
        before = identity(rotated_path(path, 1))
        data = _tail(path, number)
        if identity(rotated_path(path, 1)) == before:  # else it was rotated meanwhile
            break
    return [line.decode("utf-8", "replace") for line in data.splitlines()[-number:]]


def _tail(path: Path, number: int) -> bytes:
    """Return a log's end with at least `number` lines, if it has so many."""
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


class LogReader:
    """Follows the log files of a folder from now on.

    Args:
        folder: The folder of the log files.
        selects: Returns True for the NAMEs to follow; new files are followed too.
        since: Begin with the first line instead, without files that were last written before this
            time, in Unix seconds; None: with what is added from now on.
    """

    def __init__(
        self, folder: Path, selects: Callable[[str], bool], since: float | None = None
    ) -> None:
        self._folder = folder
        self._selects = selects
        self._files: dict[Path, _File] = {}
        self._left = 0  # bytes that there were at the beginning, and are not read
        for path in self._paths():
            if since is not None:
                with contextlib.suppress(FileNotFoundError):
                    state = self._files[path] = _whole_state(path, since)
                    self._left += _size_of(state, path)
                continue
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                state = _first_state(path, file)
                state.position = file.seek(0, os.SEEK_END)
                file.seek(max(state.position - MARK_BYTES, 0))
                state.mark = file.read(min(state.position, MARK_BYTES))
                self._files[path] = state

    def read(self) -> list[tuple[str, str]]:
        """Return new complete lines with their services' NAMEs; at most a chunk of each file."""
        lines: list[tuple[str, str]] = []
        for path in self._paths():
            lines += [(path.stem, line) for line in self._read(path)]
        return lines

    @property
    def is_complete(self) -> bool:
        """Return True once everything has been read that there was at the beginning."""
        return self._left <= 0

    def unfinished(self) -> list[str]:
        """Return the lines at the ends of files that have no end yet."""
        rests = [state.rest for state in self._files.values() if state.rest]
        return [rest.decode("utf-8", "replace") for rest in rests]

    def close(self) -> None:
        """Close the rotated files that are open."""
        for state in self._files.values():
            _close(state.moved)
            state.moved.clear()

    def _paths(self) -> Iterable[Path]:
        logs = service_logs(self._folder)
        return [path for name, path in logs.items() if self._selects(name)]

    def _read(self, path: Path) -> list[str]:
        try:
            data = self._next(path)
        except FileNotFoundError:
            return []
        state = self._files[path]
        self._left -= len(data)
        *whole, state.rest = (state.rest + data).split(b"\n")
        if len(state.rest) > LINE_BYTES:
            whole.append(state.rest)
            state.rest = b""
        return [line.decode("utf-8", "replace") for line in whole]

    def _next(self, path: Path) -> bytes:
        """Return the next unread bytes, at most a chunk."""
        state = self._files.get(path)
        while state is not None and state.moved:
            if data := state.moved[0].read(CHUNK_BYTES):
                return data
            state.moved.pop(0).close()
        newest = identity(rotated_path(path, 1))
        with path.open("rb") as file:
            if state is None or os.fstat(file.fileno()).st_ino != state.inode:
                state = self._files[path] = _first_state(path, file)
            if newest != state.rotated and _find_again(path, file, state, newest):
                state.unsettled = 0
                return b""  # the next read continues there
            added = _after(file, state, CHUNK_BYTES)
            if added is not None and (newest == state.rotated or state.mark):
                state.position += len(added)
                state.mark = (state.mark + added)[-MARK_BYTES:]
                state.unsettled = 0
                return added
            state.unsettled += 1
            if state.unsettled < UNSETTLED_MOST:  # it is being rotated
                return b""
            lost = GAP if newest != state.rotated else b""  # else another program has emptied it
            self._files[path] = _first_state(path, file)
            return lost


def _first_state(path: Path, file: BinaryIO) -> _File:
    return _File(0, os.fstat(file.fileno()).st_ino, identity(rotated_path(path, 1)))


def _whole_state(path: Path, since: float) -> _File:
    """Return the state of a reader that has read nothing of a log, nor of its rotated files."""
    for _ in range(3):
        moved: list[BinaryIO] = []
        with path.open("rb") as live:
            state = _first_state(path, live)
            for number in count(1):
                try:
                    file = rotated_path(path, number).open("rb")
                except FileNotFoundError:
                    break
                if os.fstat(file.fileno()).st_mtime < since:
                    file.close()
                    break
                moved.insert(0, file)
        state.moved = moved
        if identity(rotated_path(path, 1)) == state.rotated:  # else it was rotated meanwhile
            break
        _close(moved)
        state.moved = []
    return state


def _size_of(state: _File, path: Path) -> int:
    sizes = [os.fstat(file.fileno()).st_size for file in state.moved]
    return sum(sizes) + path.stat().st_size


def _after(file: BinaryIO, state: _File, most: int) -> bytes | None:
    """Return what follows a position in a file; None: the bytes before it have changed."""
    mark = state.mark[-state.position :] if state.position else b""
    file.seek(state.position - len(mark))
    data = file.read(len(mark) + most)
    return data[len(mark) :] if data.startswith(mark) else None


def _find_again(path: Path, live: BinaryIO, state: _File, newest: Identity | None) -> bool:
    """Find the last position again, after its lines have moved to other files."""
    moved: list[BinaryIO] = []  # the oldest first
    try:
        for number in count(1):
            file = rotated_path(path, number)
            if identity(file) == state.rotated:  # also None: there is none
                break
            moved.insert(0, file.open("rb"))
    except FileNotFoundError:  # its file has been removed
        _close(moved)
        return False
    last = _File(state.position, 0, None, state.mark)
    while moved:
        size = moved[0].seek(0, os.SEEK_END)
        if last.position <= size:
            break
        last.position -= size
        moved.pop(0).close()
    here = moved[0] if moved else live
    if newest is None or identity(rotated_path(path, 1)) != newest or _after(here, last, 0) is None:
        _close(moved)
        return False
    state.rotated, state.moved = newest, moved
    if moved:
        moved[0].seek(last.position)
        state.position, state.mark = 0, b""
    else:
        state.position = last.position
        state.mark = state.mark[-last.position :] if last.position else b""
    return True


def _close(files: list[BinaryIO]) -> None:
    for file in files:
        file.close()
