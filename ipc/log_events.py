"""The file of events: one JSON line each; older ones are in `events.jsonl.1`, `.2` and so on."""

import contextlib
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from .log_files import identity, rotated_path

CHUNK_BYTES = 256 * 1024  # of one read
LINE_BYTES = 1 << 20  # a longer line is damaged


class LogEvent(msgspec.Struct, frozen=True):
    """One event."""

    n: int  # its number, counted from the first event in the files
    time: str  # UTC, RFC 3339
    event: str  # "service.state"
    service: str = ""
    data: dict[str, Any] = {}

    def text(self) -> str:
        """Return the event as text, without its time."""
        fields = {"service": self.service, **self.data} if self.service else self.data
        shown = " ".join(f"{key}={_value(value)}" for key, value in fields.items() if value != "")
        return f"{self.event} {shown}".rstrip()


def _value(value: Any) -> str:
    text = _number(value) if isinstance(value, float) else str(value)
    if " " not in text and text.isprintable():
        return text
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return f'"{"".join(escaped)}"'


def _number(value: float) -> str:
    """Return a number with three digits, without an exponent: 1234.5 is `1234`."""
    return f"{value:.3g}" if 1e-4 <= abs(value) < 999.5 else f"{value:.0f}"


def decode_events(lines: list[bytes]) -> Iterator[LogEvent]:
    """Yield the events of lines; damaged lines are skipped."""
    for line in lines:
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            yield msgspec.json.decode(line, type=LogEvent)


class EventReader:
    """Reads all recorded events, the oldest first, and follows what is added.

    Args:
        path: The file, `logs/events.jsonl`. Rotated files are renamed, never written again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rest = b""  # a line without its end
        self._files: list[BinaryIO] = []  # the oldest first; the last one may be live
        for _ in range(3):
            newest = identity(rotated_path(path, 1))
            self._files = _open_all(path)
            if identity(rotated_path(path, 1)) == newest:  # else it was rotated meanwhile
                break
            self.close()

    def read(self) -> list[LogEvent]:
        """Return the next events, at most a chunk of them; none: all have been read."""
        while self._files or self._open_next():
            data = self._files[0].read(CHUNK_BYTES)
            if data:
                *lines, self._rest = (self._rest + data).split(b"\n")
                self._rest = self._rest if len(self._rest) <= LINE_BYTES else b""
                if events := list(decode_events(lines)):
                    return events
            elif len(self._files) > 1 or self._is_over():
                self._files.pop(0).close()
                self._rest = b""
            else:
                return []
        return []

    def _is_over(self) -> bool:
        """Return True if the file that was the live one has been renamed, and is read."""
        file = self._files[0]
        try:
            is_live = self._path.stat().st_ino == os.fstat(file.fileno()).st_ino
        except OSError:
            return False  # the next file does not exist yet
        return not is_live and file.tell() >= os.fstat(file.fileno()).st_size

    def _open_next(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            self._files.append(self._path.open("rb"))
        return bool(self._files)

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()
        self._files.clear()


def _open_all(path: Path) -> list[BinaryIO]:
    files: list[BinaryIO] = []
    for number in count():
        try:
            files.insert(0, (rotated_path(path, number) if number else path).open("rb"))
        except FileNotFoundError:
            if number:  # without a live file there may be older ones
                break
    return files
