"""What happened, one line an event, and the questions asked of it.

Events are kept in memory, the last few thousand, and in a file that is rotated once by size.
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

KEPT = 4096  # events in memory
FILE_BYTES = 4 * 1024 * 1024  # then it is renamed to .1, in place of the one before
RECALLED = 512  # events of the supervisor before that the next one knows
RECALLED_BYTES = 256 * 1024  # of the file's end, and of that of the one before


class Event(msgspec.Struct, frozen=True):
    """Something that happened."""

    n: int  # since the home began, or since the files of before were lost
    time: str  # UTC, RFC 3339
    event: str  # "service.state"
    service: str = ""
    data: dict[str, Any] = {}

    def text(self) -> str:
        """Return the event as people read it, without its time."""
        fields = {"service": self.service, **self.data} if self.service else self.data
        shown = " ".join(f"{key}={_value(value)}" for key, value in fields.items() if value != "")
        return f"{self.event} {shown}".rstrip()


def _value(value: Any) -> str:
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    if " " not in text and text.isprintable():
        return text
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return f'"{"".join(escaped)}"'


def _last_events(path: Path) -> Iterator[Event]:
    """Return what can be read at a file's end; whatever else is there is passed over."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - RECALLED_BYTES, 0))
            lines = file.read(RECALLED_BYTES).splitlines()
    except OSError:
        return
    for line in lines:
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            yield msgspec.json.decode(line, type=Event)


def local_time(utc: str, separator: str = "T", precision: str = "milliseconds") -> str:
    """Return a recorded time in the local timezone, with its offset; text that is none as it is."""
    try:
        return datetime.fromisoformat(utc).astimezone().isoformat(separator, precision)
    except ValueError:
        return utc


class EventLog:
    """Every event of this host."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._events: deque[Event] = deque(maxlen=KEPT)
        self._count = 0
        self._fd = -1
        self._size = 0
        self._lost = 0  # events that a full disk did not take
        self._in_line = False  # it took a part of one
        self.listeners: list[Callable[[Event], None]] = []

    def recall(self) -> None:
        """Know the last events of the supervisor before; its numbers go on."""
        found: list[Event] = []
        for path in (self._path.with_name(self._path.name + ".1"), self._path):
            found += _last_events(path)
        self._events.extend(found[-RECALLED:])
        self._count = max((event.n for event in found), default=0)

    def record(self, event: str, service: str = "", **data: Any) -> Event:
        """Write down what happened, and tell those who listen."""
        self._count += 1
        now = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")
        happened = Event(self._count, now.replace("+00:00", "Z"), event, service, data)
        self._events.append(happened)
        is_kept = self._write(msgspec.json.encode(happened) + b"\n")
        for listener in list(self.listeners):
            try:
                listener(happened)
            except Exception:  # noqa: BLE001 (who looks on must not end what is looked at)
                self.listeners.remove(listener)
        if not is_kept:
            self._lost += 1
        elif lost := self._lost:
            self._lost = 0
            self.record("journal.lost", events=lost)
            self._lost = lost if self._lost else 0  # it was lost as well
        return happened

    def last(self, number: int, services: frozenset[str] = frozenset()) -> list[Event]:
        """Return the last events, oldest first; of these services, or of all."""
        chosen = [e for e in self._events if not services or e.service in services]
        return chosen[-number:] if number > 0 else []

    @property
    def count(self) -> int:
        """Return the number of the last event."""
        return self._count

    def backwards(self, newest: int) -> Iterator[Event]:
        """Return the events in memory from a number on backwards."""
        return (event for event in reversed(self._events) if event.n <= newest)

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, line: bytes) -> bool:
        """Write a line; False where a full disk did not take it, which stops no service."""
        taken = 0
        with contextlib.suppress(OSError):
            if self._fd < 0:
                flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                self._fd = os.open(self._path, flags, 0o600)
                self._size = os.fstat(self._fd).st_size
                if self._size and os.pread(self._fd, 1, self._size - 1) != b"\n":
                    self._in_line = True
            if self._in_line:  # a full disk had cut the one before
                line = b"\n" + line
            taken = os.write(self._fd, line)
            self._in_line = taken < len(line)
            self._size += taken
            if self._size >= FILE_BYTES:
                self.close()
                self._path.rename(self._path.with_name(self._path.name + ".1"))
        return taken == len(line)
