"""Reads what metrics are made of: from the supervisor, and from the home's disk.

Sizes are bytes, durations seconds.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from garrison.ipc.call_totals import Totals
from garrison.ipc.errors import OrderFailed, SupervisorGone

from .families import Reading

PARTS: tuple[str, ...] = ("logs", "state", "deaths", "services", "other")
ENTRIES_MOST = 100_000  # files and folders of a home that are looked at
SIZES_S = 60.0  # how long the sizes of a home are kept: to find them reads every folder


class MetricsReader:
    """Reads a host, as often as it is scraped.

    Args:
        home: The host's home.
        status: Returns the data of `status`.
        totals: Returns the totals.
    """

    def __init__(
        self, home: Path, status: Callable[[], dict[str, Any]], totals: Callable[[], Totals]
    ) -> None:
        self._home, self._status, self._totals = home, status, totals
        self._sizes: dict[str, int] = {}
        self._sized_at = float("-inf")

    def read(self) -> Reading:
        """Return what there is; without a supervisor, what the disk alone shows."""
        status: dict[str, Any] | None = None
        totals: Totals | None = None
        with contextlib.suppress(SupervisorGone):
            status = self._status()
            with contextlib.suppress(OrderFailed):  # an older one, which counts nothing
                totals = self._totals()
        return Reading(
            status=status, totals=totals, home_bytes=self._home_bytes(), free_bytes=self._free()
        )

    def _home_bytes(self) -> dict[str, int]:
        if time.monotonic() >= self._sized_at + SIZES_S:
            self._sizes = home_bytes(self._home)
            self._sized_at = time.monotonic()
        return self._sizes

    def _free(self) -> int | None:
        with contextlib.suppress(OSError):
            return shutil.disk_usage(self._home).free
        return None


def home_bytes(home: Path) -> dict[str, int]:
    """Return how much disk each part of a home uses, as far as this user may read it.

    The parts are `logs`, crash reports (`deaths`), the data folders of services (`services`), the
    rest of `state`, and what else there is.
    """
    sizes = dict.fromkeys(PARTS, 0)
    for number, (part, entry) in enumerate(_entries(home)):
        if number >= ENTRIES_MOST:
            break
        with contextlib.suppress(OSError):
            sizes[part] += entry.stat(follow_symlinks=False).st_blocks * 512
    return sizes


def _entries(home: Path) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    """Yield the files of a home, each with its part. Its own parts may be links."""
    pending = [("other", str(home))]
    while pending:
        part, folder = pending.pop()
        try:
            with os.scandir(folder) as entries:
                found = list(entries)
        except OSError:
            continue
        for entry in found:
            own = part == "other" and folder == str(home) and entry.name in {"logs", "state"}
            inner = part == "state" and entry.name in {"deaths", "services"}
            of = entry.name if own or inner else part
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=own):
                    pending.append((of, entry.path))
                    continue
            yield of, entry
