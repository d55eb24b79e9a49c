"""A running command, forked, that a test reads from and types into."""

import contextlib
import os
import re
import select
import signal
from typing import Self

from tests.support.commands import ROOT, ForkedProcess
from tests.support.host import Host
from tests.support.waiting import PATIENCE


class Following:
    """A command that runs until it is ended, at the latest at the end of the block."""

    def __init__(self, host: Host, *words: str) -> None:
        (typed, into), (out, printed) = os.pipe(), os.pipe()
        self._in, self._out = os.fdopen(into, "wb"), os.fdopen(out, "rb")
        command = ("--home", str(host.home), *words)
        self.process = ForkedProcess(command, ROOT, host.environ, (typed, printed, printed))
        os.close(typed)
        os.close(printed)
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
