"""Below standard streams that go to a log file: a full disk is not the error of whoever prints.

What the disk does not take is lost, counted, and told in one line before the next that it takes.
A file that could not be made is tried again at most once a second. Sizes are bytes.
"""

import contextlib
import errno
import io
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})
REOPEN_S = 1.0  # between attempts to make a file

Split: TypeAlias = Callable[[bytes], tuple[bytes, bytes]]  # what can be written, what is held back


def open_log(path: str) -> int:
    """Open a log file to append to, its user's alone; return its descriptor."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    return os.open(path, flags, 0o600)


def log_or_nothing(path: str) -> tuple[int, str]:
    """Return the descriptor of a log file, or where a disk has no room for it of nothing at all,
    and the problem in words.

    Raises:
        OSError: Something else is wrong with it.
    """
    try:
        return open_log(path), ""
    except OSError as error:
        if error.errno not in FULL:
            raise
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), str(error.strerror)


class LossyStream(io.RawIOBase):
    """A descriptor that takes everything; the lock of the buffer above keeps threads apart.

    Args:
        descriptor: Of the file.
        name: As the stream has it.
        missing: The path of the file, where it could not be made: the descriptor leads nowhere.
    """

    def __init__(self, descriptor: int, name: str, missing: str = "") -> None:
        self._descriptor, self.name, self._missing = descriptor, name, missing
        self._tried_at = time.monotonic()
        self._held = b""
        self._lost = 0
        self._why = ""
        self._in_line = False  # the last byte that was taken ended no line
        self.split: Split | None = None  # keeps secrets out

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._descriptor, offset, whence)  # a stream on a file asks where it is

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

    def _put(self, data: bytes) -> None:
        if not data:
            return
        if self._missing and not self._made():
            self._lost += len(data)
            return
        if self._lost and not self._told():
            self._lost += len(data)
            return
        self._lost += len(data) - self._taken(data)

    def _told(self) -> bool:
        """Say how much was lost; False where the disk has no room for that either."""
        begin = "\n" if self._in_line else ""
        words = f"{begin}garrison: {self._lost} bytes of this log were lost here: {self._why}\n"
        line = words.encode()
        if self._taken(line) < len(line):
            return False
        self._lost = 0
        return True

    def _taken(self, data: bytes) -> int:
        """Write; return how many bytes the disk took."""
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

    def _made(self) -> bool:
        """Try again to make the file, and put it where nothing is."""
        now = time.monotonic()
        if now < self._tried_at + REOPEN_S:
            return False
        self._tried_at = now
        try:
            opened = open_log(self._missing)
        except OSError as error:
            self._why = str(error.strerror)
            return False
        os.dup2(opened, self._descriptor)  # what is started from now on has it as well
        os.close(opened)
        self._missing = ""
        return True

    def note_lost(self, problem: str) -> None:
        """Note why the file could not be made."""
        self._why = problem


_placed: list[LossyStream] = []


class _Unbuffered(io.BufferedWriter):
    """Has a lock, and keeps nothing."""

    def write(self, data: Any) -> int:
        written = super().write(data)
        self.flush()
        return written


def install(streams: Iterable[Any], missing: str = "", problem: str = "") -> list[LossyStream]:
    """Put outlets below streams that others may have taken hold of already; return them.

    Args:
        streams: Such as `sys.stdout`; what is no stream on a descriptor is left as it is.
        missing: The path of the file, where it could not be made.
        problem: Why.
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
    """Return those that were put below streams last."""
    return _placed


def _below(stream: io.TextIOWrapper, missing: str) -> LossyStream:
    stream.reconfigure(encoding="utf-8", errors=stream.errors)  # as everybody reads it
    outlet = LossyStream(stream.fileno(), stream.name, missing)
    buffer: Any = stream.buffer
    if type(buffer) is io.BufferedWriter:
        buffer.__init__(outlet)  # type: ignore[misc]  # the object stays the same
    else:  # PYTHONUNBUFFERED
        stream.__init__(  # type: ignore[misc]
            _Unbuffered(outlet), encoding="utf-8", errors=stream.errors, write_through=True
        )
    return outlet


def standard() -> list[Any]:
    """Return the standard streams that are written to."""
    return [sys.stdout, sys.stderr]
