"""Whether the disk of the home has little space: the decision, which is pure, and its watch.

Sizes are bytes, times monotonic seconds.
"""

import os
from collections.abc import Iterable, Sequence
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from .config.amount import limit_of, parse_amount

CHECK_S = 10.0  # between checks
MORE = 10  # a tenth above the limit is enough again: what is freed and filled in turns is no event


class Space(NamedTuple):
    """The space on the disk of one folder."""

    folder: str
    free: int  # for this user
    total: int


class DiskState(msgspec.Struct, frozen=True):
    """What is known of the disk that has the least space."""

    free: int = 0
    limit: int = 0  # 0: there is none
    low: bool = False
    folder: str = ""


def assess(spaces: Iterable[Space], amount: str, before: DiskState) -> DiskState:
    """Return the state of the fullest disk.

    Args:
        spaces: The disks; none: nothing can be read, and nothing changes.
        amount: As `limit_of` takes it.
        before: The last state.
    """
    found = [(one, limit_of(amount, one.total)) for one in spaces]
    if not found:
        return before
    one, limit = min(found, key=lambda pair: pair[0].free - pair[1])
    enough = limit + limit // MORE if before.low else limit
    return DiskState(one.free, limit, bool(limit) and one.free < enough, one.folder)


def event_of(before: DiskState, after: DiskState) -> tuple[str, dict[str, Any]] | None:
    """Return the event that a change of the state is."""
    if before.low == after.low:
        return None
    has = f"{_size(after.free)} free in {after.folder}"
    data = {"free_bytes": after.free, "limit_bytes": after.limit, "folder": after.folder}
    if after.low:
        return "disk.low", {**data, "reason": f"{has}, below disk_low ({_size(after.limit)})"}
    return "disk.ok", {**data, "reason": has}


def _size(number: int) -> str:
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if number >= 1 << power:
            return f"{number / (1 << power):.1f} {unit}"
    return f"{number} bytes"


class DiskWatch:
    """Checks the disks of a home.

    Args:
        folders: Its folders.
        amount: `disk_low`, as `limit_of` takes it.

    Attributes:
        state: As it was when it was checked last.
        due: When to check next.
    """

    def __init__(self, folders: Sequence[Path], amount: str) -> None:
        self._folders, self._amount = folders, amount
        self.state = DiskState()
        self.due = 0.0 if parse_amount(amount)[0] else inf

    def turn(self, now: float) -> tuple[str, dict[str, Any]] | None:
        """Check now; return the event, if there is one."""
        self.due = now + CHECK_S
        before = self.state
        self.state = assess(_spaces(self._folders), self._amount, before)
        return event_of(before, self.state)


def _spaces(folders: Iterable[Path]) -> list[Space]:
    """Return the space of each disk that can be read, once."""
    found: dict[int, Space] = {}
    for folder in folders:
        try:
            at, device = os.statvfs(folder), folder.stat().st_dev
        except OSError:
            continue
        total, free = at.f_blocks * at.f_frsize, at.f_bavail * at.f_frsize
        found.setdefault(device, Space(str(folder), free, total))
    return list(found.values())
