"""`ChildProcess`: a process that a service has started, with all that it starts itself."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from .marked import belonging, kill_all, signal_all

MARK = "GARRISON_CHILD"  # in its environment, by which it and what it starts are found
INCARNATION = "GARRISON_INCARNATION"  # by which garrison finds what an ended worker had started
# What programs need to find themselves, their user and their language. Nothing else is inherited.
INHERITED = frozenset(
    {
        "HOME",
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "LOGNAME",
        "PATH",
        "SHELL",
        "TERM",
        "TMPDIR",
        "TZ",
        "USER",
    }
)
CHECK_S = 0.02

Stream: TypeAlias = int | None  # asyncio.subprocess.PIPE or DEVNULL; None: the service's own


class ChildProcess:
    """A process that ends with what it was started for, together with all that it has started.

    `Runtime.process` starts one. Durations are seconds.

    Attributes:
        pid: Its pid.
        stdin: Where its input is written, if that is a pipe.
        stdout: What it writes to its standard output, if that is a pipe.
        stderr: What it writes to its standard error, if that is a pipe.
    """

    def __init__(
        self, process: asyncio.subprocess.Process, mark: str, idle: float | None, now: float
    ) -> None:
        self._process = process
        self._mark = f"{MARK}={mark}".encode()
        self.pid = process.pid
        self.stdin, self.stdout, self.stderr = process.stdin, process.stdout, process.stderr
        self._idle, self._used, self._uses = idle, now, 0

    @property
    def returncode(self) -> int | None:
        """Return its exit code, negative for a signal; None while it runs."""
        return self._process.returncode

    @contextmanager
    def use(self) -> Iterator[None]:
        """Keep it from being idle: it is used until the block is left."""
        self._uses += 1
        try:
            yield
        finally:
            self._uses -= 1
            self._used = asyncio.get_running_loop().time()

    @property
    def may_be_idle(self) -> bool:
        """Return whether it ends when it is not used."""
        return self._idle is not None

    def is_idle(self, now: float) -> bool:
        """Return whether it has not been used for as long as it may be."""
        return self._idle is not None and not self._uses and now - self._used >= self._idle

    async def wait(self) -> int | None:
        """Return its exit code once it has ended; what it has started may still run."""
        while self.returncode is None and os.path.exists(f"/proc/{self.pid}"):  # noqa: ASYNC240, PTH110
            await self._until_readable()
        return self.returncode

    async def _until_readable(self) -> None:
        """Wait by the kernel: the pipes of a process can outlive it, and then asyncio waits on."""
        try:
            watched = os.pidfd_open(self.pid)
        except OSError:  # it has ended
            await asyncio.sleep(CHECK_S)
            return
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(watched, ended.set)
        try:
            await ended.wait()
            await asyncio.sleep(CHECK_S)  # until the loop has its exit code
        finally:
            loop.remove_reader(watched)
            os.close(watched)

    def signal(self, number: int) -> None:
        """Signal it and all that it has started."""
        signal_all(self.pid, self._mark, number)

    async def end(self, grace: float = 2.0, patience: float = 0.0) -> bool:
        """End it with all that it has started; return False if one of them cannot be ended.

        Its input is closed, and it has `patience` to end by itself; then SIGTERM, and after `grace`
        SIGKILL.
        """
        try:
            if self.stdin is not None:
                self.stdin.close()
            for number, seconds in ((0, patience), (signal.SIGTERM, grace)):
                if number:
                    self.signal(number)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await self.wait()
                        break
            return await kill_all(self.pid, self._mark)
        finally:  # also where this is cancelled
            self.kill()
            self._close_pipes()

    async def end_rest(self, grace: float = 2.0) -> bool:
        """End what it has started, after its own end; return False if something cannot be ended.

        What it wrote can still be read.
        """
        deadline = asyncio.get_running_loop().time() + grace
        self.signal(signal.SIGTERM)
        while belonging(self.pid, self._mark):
            if asyncio.get_running_loop().time() > deadline:
                return await kill_all(self.pid, self._mark)
            await asyncio.sleep(CHECK_S)  # no event reports the end of one that is no child
        return True

    def kill(self) -> None:
        """Kill it and all that it has started."""
        self.signal(signal.SIGKILL)

    def _close_pipes(self) -> None:
        """Close the pipes, which processes that cannot be ended may hold open."""
        transport = getattr(self._process, "_transport", None)
        if transport is not None:
            with contextlib.suppress(PermissionError, ProcessLookupError):
                transport.close()


async def start_child(
    command: tuple[str, ...],
    mark: str,
    *,
    stdin: Stream,
    stdout: Stream,
    stderr: Stream,
    env: Mapping[str, str] | None,
    cwd: str | Path | None,
    idle: float | None,
) -> ChildProcess:
    """Start a process in a session of its own. Raises OSError: it cannot be started."""
    inherited = {name: value for name, value in os.environ.items() if name in INHERITED}
    kept = {INCARNATION: os.environ[INCARNATION]} if INCARNATION in os.environ else {}
    environment = {**inherited, **(env or {}), **kept, MARK: mark}
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=environment,
        cwd=cwd,
        start_new_session=True,
    )
    return ChildProcess(process, mark, idle, asyncio.get_running_loop().time())
