"""Streams to a log file that never fail: on a full disk, output is lost and counted.

The number of lost bytes is written as one line before the next output. If the file could not be
created, that is tried again at most once a second. A stream can follow its path: if the file there
was removed or renamed, it continues in a new one. Sizes are bytes.
"""

import contextlib
import errno
import io
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from .file_id import file_id

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})
REOPEN_S = 1.0  # between attempts to create a file
FOLLOW_S = 0.1  # between two checks that the file is still at its path

Split: TypeAlias = Callable[[bytes], tuple[bytes, bytes]]  # what to write now, what to hold back


def open_log(path: str) -> int:
    """Open a log file for appending, readable by its user alone; return its descriptor."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(path, flags, 0o600)


def log_or_nothing(path: str) -> tuple[int, str]:
    """Return the descriptor of a log file and "". If the disk is full, return /dev/null and why.

    Raises:
        OSError: The file cannot be opened for another reason.
    """
    try:
        return open_log(path), ""
    except OSError as error:
        if error.errno not in FULL:
            raise
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), str(error.strerror)


class LossyStream(io.RawIOBase):
    """A raw stream whose writes never fail. The lock of the buffer above serialises threads.

    Args:
        descriptor: Of the file.
        name: The stream's.
        missing: The path of the file if it could not be created; the descriptor is /dev/null.

    Attributes:
        split: Removes secrets, see `Redactor.split`.
    """

    def __init__(self, descriptor: int, name: str, missing: str = "") -> None:
        self._descriptor, self.name, self._missing = descriptor, name, missing
        self._tried_at = time.monotonic()
        self._held = b""
        self._lost = 0
        self._why = ""
        self._in_line = False  # the last byte on the disk was no newline
        self._path = ""  # to follow
        self._file = (0, 0)  # device and inode of the file, as it was opened
        self._follow_at = 0.0
        self.split: Split | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(
            self._descriptor, offset, whence
        )  # a text stream on a file reads its position

    def write(self, data: Any) -> int:
        if self.split is None:
            self._put(bytes(data))
        else:
            done, self._held = self.split(self._held + bytes(data))
            self._put(done)
        return len(data)

    def release(self) -> None:
        """Write what was held back."""
        held, self._held = self._held, b""
        self._put(held)

    def follow(self, path: str = "") -> bool:
        """Open the file at the path anew if the stream's own is no longer there.

        Args:
            path: The path to follow from now on; empty: the one that was set before.

        Returns:
            Whether the stream continues in another file.
        """
        now = time.monotonic()
        self._follow_at = now + FOLLOW_S
        if path:
            self._path, self._file = path, file_id(os.fstat(self._descriptor))
        if not self._path or self._missing:
            return False
        try:
            if file_id(os.fstat(self._descriptor)) != self._file:
                return False  # the program has redirected the descriptor
            with contextlib.suppress(FileNotFoundError):
                if file_id(os.lstat(self._path)) == self._file:
                    return False
            self._open_anew(self._path)
        except OSError:  # no room, or no permission; the former file is better than none
            self._follow_at = now + REOPEN_S
            return False
        return True

    def _put(self, data: bytes) -> None:
        if not data:
            return
        if self._path and time.monotonic() >= self._follow_at:
            self.follow()
        if self._missing and not self._reopen():
            self._lost += len(data)
            return
        if self._lost and not self._write_lost():
            self._lost += len(data)
            return
        self._lost += len(data) - self._write(data)

    def _write_lost(self) -> bool:
        """Write how much was lost; return False if the disk has no room for that either."""
        begin = "\n" if self._in_line else ""
        text = f"{begin}garrison: {self._lost} bytes of this log were lost here: {self._why}\n"
        line = text.encode()
        if self._write(line) < len(line):
            return False
        self._lost = 0
        return True

    def _write(self, data: bytes) -> int:
        """Write; return how many bytes are on the disk."""
        taken, rest = 0, memoryview(data)
        try:
            while rest:
                count = os.write(self._descriptor, rest)
                taken, rest = taken + count, rest[count:]
        except OSError as error:
            if error.errno not in FULL:
                raise
            self._why = str(error.strerror)
        if taken:
            self._in_line = data[taken - 1] != ord("\n")
        return taken

    def _reopen(self) -> bool:
        """Try again to create the file, in place of /dev/null."""
        now = time.monotonic()
        if now < self._tried_at + REOPEN_S:
            return False
        self._tried_at = now
        try:
            self._open_anew(self._missing)
        except OSError as error:
            self._why = str(error.strerror)
            return False
        self._missing = ""
        return True

    def _open_anew(self, path: str) -> None:
        opened = open_log(path)
        try:
            os.dup2(opened, self._descriptor)  # children that start from now on inherit it
            self._file = file_id(os.fstat(opened))
        finally:
            os.close(opened)
        self._in_line = False

    def note_lost(self, problem: str) -> None:
        """Set the reason of the loss."""
        self._why = problem


_placed: list[LossyStream] = []


class _Unbuffered(io.BufferedWriter):
    """Has a lock, but no buffer."""

    def write(self, data: Any) -> int:
        written = super().write(data)
        self.flush()
        return written


def install(streams: Iterable[Any], missing: str = "", problem: str = "") -> list[LossyStream]:
    """Replace the raw streams below text streams, which other code may refer to already.

    Args:
        streams: Such as `sys.stdout`; a stream without a descriptor is left as it is.
        missing: The path of the file if it could not be created.
        problem: Why it could not be.
    """
    _placed.clear()
    for stream in streams:
        if not isinstance(stream, io.TextIOWrapper):
            continue
        with contextlib.suppress(OSError, ValueError):
            _placed.append(_below(stream, missing))
            _placed[-1].note_lost(problem)
    return _placed


def placed() -> list[LossyStream]:
    """Return the streams that were installed last."""
    return _placed


def follow(path: str = "") -> None:
    """Have all installed streams follow a path, or check now whether their file is still there."""
    for stream in _placed:
        stream.follow(path)


def path_of(descriptor: int) -> str:
    """Return the path of the regular file that a descriptor has open; empty if there is none."""
    try:
        path = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 (text, as it is used)
        return path if os.path.samestat(os.stat(path), os.fstat(descriptor)) else ""  # noqa: PTH116
    except OSError:
        return ""


def _below(stream: io.TextIOWrapper, missing: str) -> LossyStream:
    stream.reconfigure(encoding="utf-8", errors=stream.errors)  # the encoding of all logs
    raw = LossyStream(stream.fileno(), stream.name, missing)
    buffer: Any = stream.buffer
    if type(buffer) is io.BufferedWriter:
        buffer.__init__(raw)  # type: ignore[misc]  # the object keeps its identity
    else:  # PYTHONUNBUFFERED
        stream.__init__(  # type: ignore[misc]
            _Unbuffered(raw), encoding="utf-8", errors=stream.errors, write_through=True
        )
    return raw


def standard() -> list[Any]:
    """Return the standard output streams."""
    return [sys.stdout, sys.stderr]
