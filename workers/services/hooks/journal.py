"""Reads the host's events from a position that outlasts this process; rotation loses none.

Rotated files are renamed, never written again, so a position is a file's inode and an offset. The
number and the time of the event before it show that it is still that file. Sizes are bytes.
"""

import contextlib
import os
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

CHUNK_BYTES = 256 * 1024  # of one read
LINE_BYTES = 1 << 20  # a longer line is damaged
LISTED_MOST = 3  # looks for a list of files that no rotation has changed


class Event(msgspec.Struct, frozen=True):
    """One event, as a line of the file has it."""

    n: int
    time: str  # UTC, RFC 3339
    event: str  # "service.state"
    service: str = ""  # NAME; empty: it is of the host
    data: dict[str, Any] = {}


class Position(msgspec.Struct, frozen=True):
    """The place behind the last event that was read."""

    inode: int
    offset: int
    n: int = 0
    time: str = ""


class Journal:
    """The events after a position, the oldest first.

    Args:
        path: The file, `logs/events.jsonl`.
        position: Where to begin; None: with the first event that there is.

    Attributes:
        lost: True if the position was not found again, so that events may be missing.
    """

    def __init__(self, path: Path, position: Position | None) -> None:
        self._path = path
        self._fd = -1
        self._inode = self._offset = 0
        self._last = position  # of the last event, in whichever file
        self._skips = False  # events up to `_last` come again
        self.lost = False

    def read(self) -> list[tuple[Event, Position]]:
        """Return the next events, each with the position behind it; none: all have been read.

        Raises:
            OSError: The file cannot be read; a missing one has no events.
        """
        if self._fd < 0 and not self._begin():
            return []
        while True:
            data = os.pread(self._fd, CHUNK_BYTES, self._offset)
            end = data.rfind(b"\n") + 1
            if end:
                if found := self._events(data[:end]):
                    return found
            elif len(data) >= CHUNK_BYTES:  # no event is so long
                self._offset += len(data)
            elif not self._next():
                return []

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _events(self, data: bytes) -> list[tuple[Event, Position]]:
        found: list[tuple[Event, Position]] = []
        for line in data.splitlines(keepends=True):
            self._offset += len(line)
            event = decoded(line)
            if event is None or (self._skips and self._was_read(event)):
                continue
            self._skips = False
            self._last = Position(self._inode, self._offset, event.n, event.time)
            found.append((event, self._last))
        return found

    def _was_read(self, event: Event) -> bool:
        """Return whether an event comes no later than the last one. Numbers begin again where all
        files were removed; then the times are later."""
        last = self._last
        return last is not None and event.n <= last.n and event.time <= last.time

    def _begin(self) -> bool:
        """Open the file of the position, or else the oldest; return False if there is none."""
        last = self._last
        for path in self._paths():
            fd = _opened(path)
            if fd is None:
                continue
            inode = os.fstat(fd).st_ino
            if last is None or (inode == last.inode and _is_behind(fd, last)):
                self._take(fd, inode, 0 if last is None else last.offset)
                return True
            os.close(fd)
        return self._begin_anew() if last is not None else False

    def _begin_anew(self) -> bool:
        """Begin with the oldest file, and pass over what was read."""
        for path in self._paths():
            fd = _opened(path)
            if fd is not None:
                self.lost = self._skips = True
                self._take(fd, os.fstat(fd).st_ino, 0)
                return True
        return False

    def _next(self) -> bool:
        """Go on with the file after this one; return False if this is the live one."""
        paths = self._paths()
        inodes = [_inode(path) for path in paths]
        if not inodes or inodes[-1] == self._inode:
            return False
        rest = os.pread(self._fd, CHUNK_BYTES, self._offset)  # written before it was renamed
        if b"\n" in rest or len(rest) >= CHUNK_BYTES:
            return True
        if self._inode not in inodes:  # another program has moved it
            self.close()
            return self._begin_anew()
        fd = _opened(paths[inodes.index(self._inode) + 1])
        if fd is None:
            return False
        self.close()
        self._take(fd, os.fstat(fd).st_ino, 0)
        return True

    def _take(self, fd: int, inode: int, offset: int) -> None:
        self.close()
        self._fd, self._inode, self._offset = fd, inode, offset

    def _paths(self) -> list[Path]:
        """Return the files that there are, the oldest first; the live one last."""
        found = self._listed()
        for _ in range(LISTED_MOST):
            before = [_inode(path) for path in found]
            found = self._listed()
            if [_inode(path) for path in found] == before:  # else they were rotated meanwhile
                break
        return found

    def _listed(self) -> list[Path]:
        older: list[Path] = []
        for number in count(1):
            path = self._path.with_name(f"{self._path.name}.{number}")
            if not _inode(path):
                break
            older.insert(0, path)
        return [*older, *([self._path] if _inode(self._path) else [])]


def decoded(line: bytes) -> Event | None:
    """Return the event of a line; None if it is damaged."""
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return msgspec.json.decode(line, type=Event)
    return None


def _opened(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None


def _inode(path: Path) -> int:
    """Return the inode of a file; 0: there is none."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def _is_behind(fd: int, last: Position) -> bool:
    """Return whether a position is behind its event: an inode may be used for another file."""
    begin = max(last.offset - LINE_BYTES, 0)
    data = os.pread(fd, last.offset - begin, begin)
    if len(data) < last.offset - begin or not data.endswith(b"\n"):
        return not last.offset
    event = decoded(data[:-1].rpartition(b"\n")[2])
    return event is not None and (event.n, event.time) == (last.n, last.time)


class FirstPosition:
    """Finds where the first start of this service begins to read: at the start of its host, or
    where it was added to a host that ran already. Pure.

    Args:
        name: NAME of this service.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._before: Position | None = None
        self._settled = self._added = False
        self.begin: Position | None = None  # None: at the first event

    def take(self, event: Event, behind: Position) -> None:
        """Note an event; all are to be noted, in order."""
        if event.event == "supervisor.started":
            self.begin, self._settled, self._added = self._before, False, False
        elif event.event == "supervisor.settled":
            self._settled = True
        elif event.service == self._name and self._settled and not self._added:
            self.begin, self._added = self._before, True
        self._before = behind
