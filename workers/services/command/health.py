"""Runs the command that checks the health of another one."""

import asyncio
import contextlib
import os
import signal

from garrison.workers.children.descendants import below, signal_all

from .words import ended, with_last_line

OUTPUT_BYTES = 16 * 1024  # of its output that is read


class HealthCommand:
    """One health command.

    Args:
        command: The program and its arguments.
        running: Gets the pid of each check, while it runs.
    """

    def __init__(self, command: list[str], running: set[int]) -> None:
        self._command, self._running = command, running

    async def run(self) -> None:
        """Run it once. A cancelled check is killed, with what it has started.

        Raises:
            RuntimeError: It ended with another code than 0, or cannot be run.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise RuntimeError(f"`{self._command[0]}` cannot be run: {error.strerror}") from error
        self._running.add(process.pid)
        try:
            output = await self._output(process)
            status = await process.wait()
        finally:
            if process.returncode is None:
                signal_all([*below(process.pid), process.pid], signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # what it left in the background
            self._running.discard(process.pid)
        if status:
            text = ended(status).replace("its command", "health_command", 1)
            raise RuntimeError(with_last_line(text, output))

    async def _output(self, process: asyncio.subprocess.Process) -> bytes:
        """Return the end of its output."""
        assert process.stdout is not None
        output = b""
        while data := await process.stdout.read(OUTPUT_BYTES):
            output = (output + data)[-OUTPUT_BYTES:]
        return output
