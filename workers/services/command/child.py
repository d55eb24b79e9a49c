"""One run of a command: starts it, copies its output to the log, and has its exit status.

The output comes through a pipe and leaves by the worker's own standard output, which removes
secrets from it, survives a full disk, and continues in a new file where the log was removed.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping

from .words import KEPT_BYTES

READ_BYTES = 64 * 1024  # at most, in one turn of the loop
LATE_READS = 64  # of what is in the pipe when the command has ended


class Child:
    """A command that runs.

    Attributes:
        pid: Of its process.
        started: When it was started, by the loop's clock.
        tail: The end of its output.
        on_output: Called with each piece of its output.
    """

    def __init__(self, process: subprocess.Popen[bytes], output: int) -> None:
        self._process, self._output = process, output
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._exit = os.pidfd_open(process.pid)  # it is not waited for yet, so it has this pid
        self._loop.add_reader(self._exit, self._exited)
        self.pid = process.pid
        self.started = self._loop.time()
        self.tail = b""
        self.on_output: Callable[[bytes], None] = lambda data: None
        self._loop.add_reader(output, self._read)

    @classmethod
    def start(cls, command: list[str], environment: Mapping[str, str]) -> "Child":
        """Start a command in a session of its own.

        Raises:
            OSError: It cannot be started.
        """
        output, theirs = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(output, False)
        try:
            process = subprocess.Popen(  # not by uvloop, which leaves three descriptors open in it
                command,
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=theirs,
                env=environment,
                start_new_session=True,
            )
        except BaseException:
            os.close(output)
            raise
        finally:
            os.close(theirs)
        return cls(process, output)

    @property
    def status(self) -> int | None:
        """Return its exit code, negative for a signal; None while it runs."""
        return self._process.returncode

    async def wait(self) -> int:
        """Return its exit status once it has ended and its output is in the log."""
        await self._ended.wait()
        for _ in range(LATE_READS):
            if not self._read():
                break
        status = self.status
        assert status is not None
        return status

    def send(self, name: str) -> None:
        """Send it a signal by name, if it runs."""
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.Signals[name])

    def _exited(self) -> None:
        """Take its exit status."""
        if self._process.poll() is not None:
            self._loop.remove_reader(self._exit)
            os.close(self._exit)
            self._ended.set()

    def close(self) -> None:
        """Close its output."""
        if self._output >= 0:
            self._loop.remove_reader(self._output)
            os.close(self._output)
            self._output = -1

    def _read(self) -> bool:
        """Copy a piece of its output; return False if there is none now."""
        if self._output < 0:
            return False
        try:
            data = os.read(self._output, READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self.close()  # the last process that could write to it has ended
            return False
        self.tail = (self.tail + data[-KEPT_BYTES:])[-KEPT_BYTES:]
        sys.stdout.buffer.write(data)
        self.on_output(data)
        return True
