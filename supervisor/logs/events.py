"""The log of events: in memory the last few thousand, in a file one JSON line each.

The file is rotated by size, as the services' logs are, and opened anew if another program has
removed or renamed it. Sizes are bytes.
"""

import contextlib
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from garrison.ipc.log_events import LogEvent as LogEvent
from garrison.ipc.log_events import decode_events
from garrison.ipc.log_files import rotated_path

KEPT = 4096  # events in memory
FILE_BYTES, FILES = 10 * 1024 * 1024, 5  # of one file, and how many there are
RECALLED = 512  # events of the former supervisor that the next one loads
RECALLED_BYTES = 256 * 1024  # read from the end of each of the last two files
# As garrison's own loggers and journals write it
UTC_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|\+00:00)(?=\s|$)")


def _last_events(path: Path) -> Iterator[LogEvent]:
    """Yield the events at a file's end; damaged lines are skipped."""
    try:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        with os.fdopen(os.open(path, flags), "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - RECALLED_BYTES, 0))
            lines = file.read(RECALLED_BYTES).splitlines()
    except OSError:
        return
    yield from decode_events(lines)


def local_time(utc: str, separator: str = "T", precision: str = "milliseconds") -> str:
    """Return a recorded time in the local timezone, with its offset; text that is none as it is."""
    try:
        return datetime.fromisoformat(utc).astimezone().isoformat(separator, precision)
    except ValueError:
        return utc


def localized(line: str) -> str:
    """Return a log line with the UTC time at its beginning in the local timezone."""
    found = UTC_TIME.match(line)
    return f"{local_time(found[0])}{line[found.end() :]}" if found else line


class EventLog:
    """The events of one host.

    Args:
        path: The file.
        most: The largest size of one file.
        files: How many files there are at most, with the current one.
    """

    def __init__(self, path: Path, most: int = FILE_BYTES, files: int = FILES) -> None:
        self._path, self._most, self._files = path, most, files
        self._events: deque[LogEvent] = deque(maxlen=KEPT)
        self._count = 0
        self._fd = -1
        self._size = 0
        self._lost = 0  # events that a full disk did not accept
        self._in_line = False  # the last line was written in part
        self.listeners: list[Callable[[LogEvent], None]] = []

    def recall(self) -> None:
        """Load the last events of the former supervisor and continue its numbers."""
        found: list[LogEvent] = []
        for path in (rotated_path(self._path, 1), self._path):
            found += _last_events(path)
        self._events.extend(found[-RECALLED:])
        self._count = max((event.n for event in found), default=0)

    def record(self, event: str, service: str = "", **data: Any) -> LogEvent:
        """Write an event and pass it to the listeners."""
        self._count += 1
        now = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
        entry = LogEvent(self._count, now.replace("+00:00", "Z"), event, service, data)
        self._events.append(entry)
        is_lost = self._is_elsewhere()
        is_kept = self._write(msgspec.json.encode(entry) + b"\n")
        for listener in list(self.listeners):
            try:
                listener(entry)
            except Exception:  # noqa: BLE001 (a listener must not stop the supervisor)
                self.listeners.remove(listener)
        if not is_kept:
            self._lost += 1
        elif lost := self._lost:
            self._lost = 0
            self.record("journal.lost", events=lost)
            self._lost = lost if self._lost else 0  # that event was lost too
        if is_lost:
            self.record("log.reopened", log=self._path.name)
        return entry

    def last(self, number: int, services: frozenset[str] = frozenset()) -> list[LogEvent]:
        """Return the last events, oldest first, of some services or of all."""
        chosen = [e for e in self._events if not services or e.service in services]
        return chosen[-number:] if number > 0 else []

    @property
    def count(self) -> int:
        """Return the number of the last event."""
        return self._count

    def backwards(self, newest: int) -> Iterator[LogEvent]:
        """Yield the events in memory backwards, from a number on."""
        return (event for event in reversed(self._events) if event.n <= newest)

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _is_elsewhere(self) -> bool:
        """Close the file if it is no longer at its path; return whether it was not."""
        if self._fd < 0:
            return False
        own = os.fstat(self._fd)
        try:
            if os.path.samestat(os.lstat(self._path), own):
                return False
        except FileNotFoundError:
            pass
        except OSError:  # its folder cannot be reached; the open file still can
            return False
        self.close()
        return True

    def _write(self, line: bytes) -> bool:
        """Write a line; return False if the disk is full, which stops no service."""
        written = 0
        with contextlib.suppress(OSError):
            if self._fd < 0:
                self._open()
            if self._size and self._size + len(line) >= self._most:
                self._rotate()
            if self._in_line:  # end the line that a full disk had cut
                line = b"\n" + line
            written = os.write(self._fd, line)
            self._in_line = written < len(line)
            self._size += written
        return written == len(line)

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self._path, flags, 0o600)
        self._size = os.fstat(self._fd).st_size
        last = os.pread(self._fd, 1, self._size - 1) if self._size else b"\n"
        self._in_line = last != b"\n"

    def _rotate(self) -> None:
        """Begin a new file; the oldest one is removed."""
        self.close()
        for number in range(self._files, self._files + 100):  # also those of a larger log_files
            try:
                rotated_path(self._path, number).unlink()
            except FileNotFoundError:
                break
        for number in range(self._files - 2, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                rotated_path(self._path, number).rename(rotated_path(self._path, number + 1))
        self._path.rename(rotated_path(self._path, 1))
        self._open()
