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

from .report import (
    FORMAT,
    RECORD_BYTES,
    CrashReport,
    CrashSummary,
    InFlight,
    RecentMessage,
    encoded,
)

KEPT, KEPT_A_SERVICE = 200, 20  # reports; the oldest are removed
FILE_NAME = re.compile(r"(.+)-(\d{1,15})\.json")


class CrashStore:
    """The crash reports on disk.

    Args:
        folder: Where they are kept; it is made when the first one is written.
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
        """Return a number that no report has had: the newest report is never removed."""
        self._last += 1
        return self._last

    def write(self, report: CrashReport) -> None:
        """Write a report, and remove the oldest ones beyond the limits.

        Raises:
            OSError, GarrisonError: It cannot be written.
        """
        if not self._known:
            make_private(self.folder)
        write_atomic(self.folder / f"{report.id}.json", encoded(report))
        self._known[report.n] = report.service
        self._prune(report.service)

    def _prune(self, service: str) -> None:
        own = [n for n, name in self._known.items() if name == service]
        beyond = own[:-KEPT_A_SERVICE]
        rest = [n for n in self._known if n not in set(beyond)]
        for n in [*beyond, *rest[:-KEPT]]:
            (self.folder / f"{self._known.pop(n)}-{n}.json").unlink(missing_ok=True)

    def ids(self, services: Collection[str] = ()) -> list[str]:
        """Return the ids of all reports, or of these services' reports, oldest first."""
        return [
            f"{name}-{n}" for n, name in self._known.items() if not services or name in services
        ]

    def lines(self, ids: Iterable[str]) -> list[CrashSummary]:
        """Return a line for each report; a damaged or newer file is left out."""
        found = (self._read(report_id, CrashSummary) for report_id in ids)
        return [line for line in found if line is not None]

    def read(self, report_id: str) -> CrashReport | None:
        """Return a report; None if its file is damaged, newer or missing."""
        report: CrashReport | None = self._read(report_id, CrashReport)
        return report

    def clear_values(self) -> int:
        """Remove the recorded arguments and results from all reports; return how many had any.

        Raises:
            OSError: A report cannot be written.
        """
        cleared = 0
        for report_id in self.ids():
            report = self.read(report_id)
            if report is None:
                continue
            held: list[InFlight | RecentMessage] = [*report.in_flight, *report.messages]
            if not any(one.value for one in held):
                continue
            for one in held:
                one.value = ""
            write_atomic(self.folder / f"{report_id}.json", encoded(report))
            cleared += 1
        return cleared

    def _read(self, report_id: str, kind: Any) -> Any:
        with contextlib.suppress(OSError, *BAD_BYTES):
            with (self.folder / f"{report_id}.json").open("rb") as file:
                data = file.read(2 * RECORD_BYTES)
            report = msgspec.json.decode(data, type=kind)
            return report if report.format <= FORMAT else None
        return None
