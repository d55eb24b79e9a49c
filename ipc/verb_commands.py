"""Runs verbs of the command line as processes of their own, with bounds. Durations are seconds.

Each verb has the same checks, errors and deadlines as an operator's, and a hanging one ends with
its process. `garrison mcp` and the console use it.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

COMMANDS_MOST = 4  # at the same time; others wait
OUTPUT_MOST = 8 << 20  # bytes of a command's output that are read
END_S = 2.0  # for a command that was interrupted
PLAIN = {"NO_COLOR": "1", "COLUMNS": "160"}


class VerbCommands:
    """Runs verbs as commands.

    Args:
        home: The home of the host that they are about.
        config: The configuration of those verbs that read one.
        environ: Their environment; None: that of this process.
    """

    def __init__(
        self, home: Path, config: Sequence[Path] = (), environ: Mapping[str, str] | None = None
    ) -> None:
        self._home, self._config = home, config
        self._environ = environ
        self._slots = asyncio.Semaphore(COMMANDS_MOST)
        self._running: set[asyncio.subprocess.Process] = set()

    async def run(
        self,
        verb: Sequence[str],
        words: Sequence[str],
        deadline: float,
        *,
        json: bool = True,
        reads_config: bool = False,
    ) -> tuple[int, str, str]:
        """Return exit code, output and errors of a verb's command.

        Args:
            verb: The words of the verb.
            words: What follows it.
            deadline: Seconds that it may take, once it has begun.
            json: Whether it prints JSON.
            reads_config: Whether it reads the config on disk.

        Raises:
            TimeoutError: It took too long, and was ended.
        """
        before = ["--home", str(self._home), *(("--json",) if json else ())]
        paths = self._config if reads_config else ()
        config = [word for path in paths for word in ("-c", str(path))]
        argv = [sys.executable, "-m", "garrison.supervisor.cli", *before, *verb, *config, *words]
        environ = os.environ if self._environ is None else self._environ
        async with self._slots:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**environ, **PLAIN},
                start_new_session=True,  # Ctrl-C at a terminal is for the server alone
            )
            self._running.add(process)
            try:
                async with asyncio.timeout(deadline):
                    return await _finished(process)
            finally:
                await _end(process)
                self._running.discard(process)

    async def close(self) -> None:
        """End the commands that run."""
        await asyncio.gather(*map(_end, self._running))


async def _finished(process: asyncio.subprocess.Process) -> tuple[int, str, str]:
    assert process.stdout is not None
    assert process.stderr is not None
    out, errors = await asyncio.gather(_read(process.stdout), _read(process.stderr))
    return await process.wait(), out, errors


async def _read(stream: asyncio.StreamReader) -> str:
    """Return what a stream has, up to the bound; the rest is read and dropped."""
    kept = bytearray()
    while block := await stream.read(1 << 16):
        kept += block[: OUTPUT_MOST - len(kept)]
    return kept.decode("utf-8", "replace")


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a command that still runs; what it ordered goes on."""
    for number in (signal.SIGINT, signal.SIGKILL):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await process.wait()
