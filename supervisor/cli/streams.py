"""The standard streams of a command: none is missing, and a failed write ends no command.

A command that does something (`up`, `restart`) has done it, whatever becomes of its output, and a
host is worth more than its console. A command that shows something fails if that was not written.
"""

import errno
import io
import os
import select
import sys
from collections.abc import Iterator

TYPE_CHECKING = False  # `typing` is left out for the sake of `garrison up`
if TYPE_CHECKING:
    from typing import Any, TextIO

STANDARD = (0, 1, 2)


class OutputStream(io.RawIOBase):
    """A raw stream whose writes do not fail.

    Args:
        descriptor: Where to write.
        name: The stream's.
        missing: The descriptor was closed when this process was started; nothing is written.

    Attributes:
        problem: The first error of a write.
        ends_with_reader: A write raises BrokenPipeError if the reader of a pipe has ended.
    """

    def __init__(self, descriptor: int, name: str, missing: bool) -> None:
        self._descriptor, self.name, self._missing = descriptor, name, missing
        self.problem: OSError | None = None
        self.ends_with_reader = True

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return not self._missing and os.isatty(self._descriptor)

    def write(self, data: "Any") -> int:
        rest = memoryview(bytes(data))
        try:
            if self._missing and rest:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            while rest:
                rest = rest[self._write_some(rest) :]
        except OSError as error:
            if isinstance(error, BrokenPipeError) and self.ends_with_reader:
                raise
            self.problem = self.problem or error
        return len(data)

    def _write_some(self, data: memoryview) -> int:
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:  # another program has made the terminal or pipe non-blocking
            poll = select.poll()
            poll.register(self._descriptor, select.POLLOUT)
            poll.poll()
            return 0


class Streams:
    """The standard streams of this process, as they were made usable."""

    def __init__(self) -> None:
        missing = set(_open_missing())
        self._out, sys.stdout = _replace(1, sys.stdout, 1 in missing)
        self._err, sys.stderr = _replace(2, sys.stderr, 2 in missing)
        if sys.stdin is None:
            sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115

    def serve_command_that_acts(self) -> None:
        """Have the command go on even if the reader of its output has ended."""
        self._out.ends_with_reader = self._err.ends_with_reader = False

    def finish(self) -> str:
        """Write what is buffered; return why not all output was written, empty if it was."""
        self.serve_command_that_acts()  # what is left raises no more
        sys.stdout.flush()
        error = self._out.problem
        return str(error.strerror) if error is not None else ""


def _open_missing() -> Iterator[int]:
    """Open /dev/null where a standard descriptor is closed; else a socket would get its number."""
    for number in STANDARD:
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number
            os.set_inheritable(opened, True)
            yield opened


def _replace(number: int, former: "TextIO | None", missing: bool) -> "tuple[OutputStream, TextIO]":
    name = "<stdout>" if number == 1 else "<stderr>"
    raw = OutputStream(number, name, missing or former is None)
    if former is None:
        encoding, errors = "utf-8", "backslashreplace"
    else:
        encoding, errors = former.encoding, former.errors or "strict"
    made = io.TextIOWrapper(
        io.BufferedWriter(raw), encoding, errors, line_buffering=number == 2 or raw.isatty()
    )
    return raw, made
