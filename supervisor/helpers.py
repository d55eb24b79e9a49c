"""Runs helper processes of the supervisor, which never waits for one by blocking.

Durations are seconds.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Generator, Mapping, Sequence
from typing import IO

from garrison.supervisor.config.environment import base_environment

ERROR_BYTES = 65_536  # of what it prints


class HelperProcesses:
    """Runs programs that do for the supervisor what takes long.

    Args:
        environ: The environment of the first supervisor; helpers get it without the secrets.
        others: Pids of children of this process that are not the engine's.
    """

    def __init__(self, environ: Mapping[str, str], others: set[int]) -> None:
        self._environ, self._others = environ, others

    def run(self, command: Sequence[str], limit: float) -> Generator[bool, None, str]:
        """Run a program; return why it has failed, empty if it has not.

        Args:
            command: Its command line.
            limit: It is killed after this time, with all that it has started.
        """
        from tempfile import TemporaryFile  # a supervisor that runs no helper does without

        with TemporaryFile() as errors:
            try:
                process = subprocess.Popen(
                    command,
                    env=base_environment(self._environ),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    start_new_session=True,
                )
            except OSError as error:
                return f"{command[0]}: {error.strerror}"
            self._others.add(process.pid)  # no leftover of a worker
            try:
                until = time.monotonic() + limit
                while process.poll() is None:
                    if time.monotonic() >= until:
                        return f"it has not shown within {limit:g} s that it can"
                    yield False
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                self._others.discard(process.pid)
            return "" if process.returncode == 0 else _last_error(errors, process.returncode)


def _last_error(errors: IO[bytes], code: int) -> str:
    errors.seek(0)
    lines = errors.read(ERROR_BYTES).decode("utf-8", "replace").strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else f"exit {code}"
