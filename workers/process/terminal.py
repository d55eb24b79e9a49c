"""A worker's terminal: that of `garrison run`, or none, which an error then explains."""

import io
import os
import sys
from typing import Any

_name = ""  # NAME of this process's service


class _NoTerminal(io.TextIOBase):
    """Standard input of a worker: an error names where there is a terminal."""

    def readable(self) -> bool:
        return True

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        raise RuntimeError(_sentence("standard input"))

    def read(self, size: int | None = -1, /) -> str:
        raise RuntimeError(_sentence("standard input"))


def prepare() -> None:
    """Have `breakpoint()`, pdb and `input()` raise a sentence that names `garrison run`."""
    sys.stdin = _NoTerminal()
    sys.breakpointhook = _break


def do_without(name: str) -> None:
    """Do the same, if it is not done yet; the sentence names this service.

    Args:
        name: NAME of the service.
    """
    global _name
    _name = name
    if not isinstance(sys.stdin, _NoTerminal):
        prepare()


def _sentence(what: str) -> str:
    return f"{what} needs a terminal, and a worker has none: garrison run {_name} gives it yours"


def _break(*args: Any, **kwargs: Any) -> Any:
    if "PYTHONBREAKPOINT" in os.environ:  # its owner has decided
        return sys.__breakpointhook__(*args, **kwargs)
    raise RuntimeError(_sentence("breakpoint()"))


def attach(pid: int) -> None:
    """Read from, and write to, what a process has as standard input, output and error.

    Raises:
        OSError: One of them cannot be opened: it is a socket, or the process has ended.
    """
    for number, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        # Its own terminal session stays with that process: this one has no job control to obey.
        opened = os.open(f"/proc/{pid}/fd/{number}", flags | os.O_APPEND | os.O_NOCTTY)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
    sys.breakpointhook = sys.__breakpointhook__
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
