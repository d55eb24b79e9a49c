"""Crash reports on disk: `state/deaths/ID.json`, bounded in number and size.

Each report is one file, complete in itself, so commands can read it without a supervisor.
"""

import contextlib
import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import msgspec

from garrison.ipc.messages import BAD_BYTES
from garrison.supervisor.state.atomic import NEW, write_atomic
from garrison.supervisor.state.home import make_private

from .report import FORMAT, RECORD_BYTES, CrashReport, CrashSummary, encoded

KEPT, KEPT_A_SERVICE = 200, 20  # reports; the oldest are removed
FILE_NAME = re.compile(r"(.+)-(\d{1,15})\.json")


class CrashStore:
    """The records on disk.

    Args:
        folder: Where they are, or will be.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[int, str] = {}  # number → NAME, oldest first
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(folder)):  # noqa: PTH208
                if found := FILE_NAME.fullmatch(name):
                    self._known[int(found[2])] = found[1]
                elif name.endswith(NEW):
                    (folder / name).unlink(missing_ok=True)  # of a supervisor that was killed
        self._known = dict(sorted(self._known.items()))
        self._last = max(self._known, default=0)

    def next_number(self) -> int:
        """Return a number that no record has, nor had: the newest is never pruned."""
        self._last += 1
        return self._last

    def write(self, death: CrashReport) -> None:
        """Write a record down, and let the oldest go that are beyond the bounds.

        Raises:
            OSError, GarrisonError: It cannot be written.
        """
        if not self._known:
            make_private(self.folder)
        write_atomic(self.folder / f"{death.id}.json", encoded(death))
        self._known[death.n] = death.service
        self._prune(death.service)

    def _prune(self, service: str) -> None:
        own = [n for n, name in self._known.items() if name == service]
        beyond = own[:-KEPT_A_SERVICE]
        rest = [n for n in self._known if n not in set(beyond)]
        for n in [*beyond, *rest[:-KEPT]]:
            (self.folder / f"{self._known.pop(n)}-{n}.json").unlink(missing_ok=True)

    def ids(self, services: Collection[str] = ()) -> list[str]:
        """Return the ids of records, oldest first; of these services, or of all."""
        return [
            f"{name}-{n}" for n, name in self._known.items() if not services or name in services
        ]

    def lines(self, ids: Iterable[str]) -> list[CrashSummary]:
        """Return these deaths in a line each; one whose file is damaged or newer is left out."""
        found = (self._read(death_id, CrashSummary) for death_id in ids)
        return [line for line in found if line is not None]

    def read(self, death_id: str) -> CrashReport | None:
        """Return a whole record; None where its file is damaged, or not there."""
        death: CrashReport | None = self._read(death_id, CrashReport)
        return death

    def _read(self, death_id: str, form: Any) -> Any:
        with contextlib.suppress(OSError, *BAD_BYTES):
            with (self.folder / f"{death_id}.json").open("rb") as file:
                data = file.read(2 * RECORD_BYTES)
            read = msgspec.json.decode(data, type=form)
            return read if read.format <= FORMAT else None
        return None
