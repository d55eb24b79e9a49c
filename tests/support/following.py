"""A running command that a test reads from and types into."""

import contextlib
import os
import re
import select
import signal
import subprocess
from typing import Self

from tests.support.host import COMMAND, Host
from tests.support.waiting import PATIENCE


class Following:
    """A command that runs until it is ended, at the latest at the end of the block."""

    def __init__(self, host: Host, *words: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "--home", str(host.home), *words],
            env=host.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._in, self._out = self.process.stdin, self.process.stdout
        self._got = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._in.close()
        self._out.close()
        self.process.wait(PATIENCE)

    def until(self, pattern: str) -> str:
        """Return all output once a line matches."""
        while not re.search(pattern, text := self._got.decode(), re.MULTILINE):
            assert self.readable(PATIENCE), f"no {pattern!r} came; {text!r}"
            more = os.read(self._out.fileno(), 65_536)
            assert more, f"it ended without {pattern!r}; {text!r}"
            self._got += more
        return text

    def readable(self, timeout: float) -> bool:
        """Return True if there is more output."""
        return bool(select.select([self._out], [], [], timeout)[0])

    def interrupt(self) -> int:
        """Interrupt it, as Ctrl-C does; return its exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE)

    def rest(self) -> str:
        """Return all output after its end."""
        self._got += self._out.read()
        return self._got.decode()
