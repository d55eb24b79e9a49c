"""Follows the log files of a folder: their last lines, and what is added to them."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

CHUNK_BYTES = 64 * 1024  # read of one file at a time
LINE_BYTES = 16 * 1024  # a longer line is shown in pieces
TAIL_BYTES = 4 * 1024 * 1024  # looked through for the last lines

LAUNCHER, SUPERVISOR = "launcher.log", "supervisor.log"  # not services'


@dataclass(slots=True)
class _File:
    position: int
    inode: int
    rest: bytes = b""


def service_logs(folder: Path) -> dict[str, Path]:
    """Return the log file of every service that has one, by NAME."""
    found = sorted(folder.glob("*.log")) if folder.is_dir() else []
    return {path.stem: path for path in found if path.name not in {LAUNCHER, SUPERVISOR}}


def last_lines(path: Path, number: int) -> list[str]:
    """Return the last lines of a file; none where it is not there."""
    if number <= 0:
        return []
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - TAIL_BYTES, 0))
            data = file.read()
    except FileNotFoundError:
        return []
    return [line.decode("utf-8", "replace") for line in data.splitlines()[-number:]]


class Follower:
    """What is added to log files from now on.

    Args:
        folder: Where the files are.
        chosen: Tells whether a service's lines are wanted; new files count as well.
    """

    def __init__(self, folder: Path, chosen: Callable[[str], bool]) -> None:
        self._folder = folder
        self._chosen = chosen
        self._files: dict[Path, _File] = {}
        for path in self._paths():
            found = path.stat()
            self._files[path] = _File(found.st_size, found.st_ino)

    def read(self) -> list[tuple[str, str]]:
        """Return new whole lines, each with its service's NAME; at most a chunk of each file."""
        lines: list[tuple[str, str]] = []
        for path in self._paths():
            lines += [(path.stem, line) for line in self._read(path)]
        return lines

    def _paths(self) -> Iterable[Path]:
        logs = service_logs(self._folder)
        return [path for name, path in logs.items() if self._chosen(name)]

    def _read(self, path: Path) -> list[str]:
        try:
            with path.open("rb") as file:
                found = os.fstat(file.fileno())
                state = self._files.setdefault(path, _File(0, found.st_ino))
                if state.inode != found.st_ino or found.st_size < state.position:
                    state.position, state.inode = 0, found.st_ino  # rotated, or cut
                if found.st_size == state.position:
                    return []
                file.seek(state.position)
                data = file.read(CHUNK_BYTES)
        except FileNotFoundError:
            return []
        state.position += len(data)
        *whole, state.rest = (state.rest + data).split(b"\n")
        if len(state.rest) > LINE_BYTES:
            whole.append(state.rest)
            state.rest = b""
        return [line.decode("utf-8", "replace") for line in whole]
