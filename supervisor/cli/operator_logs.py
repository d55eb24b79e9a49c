"""A copy of services' logs for an operator, whom the supervisor reads them for."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from garrison.ipc.log_files import GAP

from .client import is_operator, request

MARK_BYTES = 128  # the last bytes of what was read, to find the place again
ROTATED = 1  # older files that are read, too
ANSWER_S = 5.0


@contextlib.contextmanager
def log_folder(home: Path, names: tuple[str, ...]) -> Iterator[tuple[Path, Callable[[], None]]]:
    """Yield the folder of logs, and a function that brings it up to date.

    For the host's own user it is the host's own folder, and the function does nothing.

    Args:
        home: The home.
        names: NAMEs and globs; none: all services.
    """
    if not is_operator(home):
        yield home / "logs", lambda: None
        return
    with tempfile.TemporaryDirectory(prefix="garrison-logs-") as folder:
        copy = _Copy(home, Path(folder), names)
        yield copy.folder, copy.refresh


class _Copy:
    """The ends of logs, as far as they were read."""

    def __init__(self, home: Path, folder: Path, names: tuple[str, ...]) -> None:
        self._home, self.folder = home, folder
        rows = request(home, "status", names, detail=False)["services"]
        self._ends: dict[str, tuple[int, bytes]] = {}
        for name in (row["name"] for row in rows):
            for number in range(ROTATED, 0, -1):
                self._append(name, self._read(name, rotated=number)["data"])
            self._take(name, self._read(name))

    def _read(self, name: str, **options: Any) -> dict[str, Any]:
        answer: dict[str, Any] = request(self._home, "logs", (name,), ANSWER_S, **options)
        return answer

    def _append(self, name: str, data: bytes) -> None:
        with (self.folder / f"{name}.log").open("ab") as file:
            file.write(data)

    def _take(self, name: str, answer: dict[str, Any]) -> None:
        data: bytes = answer["data"]
        self._append(name, GAP + data if answer["gap"] else data)
        _, mark = self._ends.get(name, (0, b""))
        self._ends[name] = answer["end"], (mark + data)[-MARK_BYTES:]

    def refresh(self) -> None:
        """Append what the services have written since."""
        for name, (end, mark) in self._ends.items():
            answer = self._read(name, after=end, mark=mark)
            if answer["data"] or answer["gap"]:
                self._take(name, answer)
