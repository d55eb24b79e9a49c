"""A worker's terminal: that of `garrison run`, or none, which an error then explains."""

import io
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn


class _NoTerminal(io.TextIOBase):
    """Standard input of a worker: an error names where there is a terminal."""

    def __init__(self, sentence: Callable[[str], str]) -> None:
        self._sentence = sentence

    def readable(self) -> bool:
        return True

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        raise RuntimeError(self._sentence("standard input"))

    def read(self, size: int | None = -1, /) -> str:
        raise RuntimeError(self._sentence("standard input"))


def do_without(name: str) -> None:
    """Have `breakpoint()`, pdb and `input()` raise a sentence that names `garrison run`.

    Args:
        name: NAME of the service.
    """

    def sentence(what: str) -> str:
        return f"{what} needs a terminal, and a worker has none: garrison run {name} gives it yours"

    def hook(*args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError(sentence("breakpoint()"))

    sys.stdin = _NoTerminal(sentence)
    if "PYTHONBREAKPOINT" not in os.environ:  # else its owner has decided
        sys.breakpointhook = hook


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
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
