"""The log of events: in memory the last few thousand, in a file one JSON line each.

The file is rotated once by size.
"""

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from garrison.ipc.log_events import LogEvent as LogEvent
from garrison.ipc.log_events import decode_events

KEPT = 4096  # events in memory
FILE_BYTES = 4 * 1024 * 1024  # the file is then renamed to .1, which is replaced
RECALLED = 512  # events of the former supervisor that the next one loads
RECALLED_BYTES = 256 * 1024  # read from the end of each of the two files


def _last_events(path: Path) -> Iterator[LogEvent]:
    """Yield the events at a file's end; damaged lines are skipped."""
    try:
        with path.open("rb") as file:
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


class EventLog:
    """The events of one host."""

    def __init__(self, path: Path) -> None:
        self._path = path
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
        for path in (self._path.with_name(self._path.name + ".1"), self._path):
            found += _last_events(path)
        self._events.extend(found[-RECALLED:])
        self._count = max((event.n for event in found), default=0)

    def record(self, event: str, service: str = "", **data: Any) -> LogEvent:
        """Write an event and pass it to the listeners."""
        self._count += 1
        now = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
        entry = LogEvent(self._count, now.replace("+00:00", "Z"), event, service, data)
        self._events.append(entry)
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

    def _write(self, line: bytes) -> bool:
        """Write a line; return False if the disk is full, which stops no service."""
        written = 0
        with contextlib.suppress(OSError):
            if self._fd < 0:
                flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                self._fd = os.open(self._path, flags, 0o600)
                self._size = os.fstat(self._fd).st_size
                if self._size and os.pread(self._fd, 1, self._size - 1) != b"\n":
                    self._in_line = True
            if self._in_line:  # end the line that a full disk had cut
                line = b"\n" + line
            written = os.write(self._fd, line)
            self._in_line = written < len(line)
            self._size += written
            if self._size >= FILE_BYTES:
                self.close()
                self._path.rename(self._path.with_name(self._path.name + ".1"))
        return written == len(line)
