"""The file `placement.json`: where each service ran last, and which nodes are drained."""

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from .atomic import write_atomic
from .stored import FORMAT, read_stored

FILE = "placement.json"


class StoredPlacement(msgspec.Struct, kw_only=True):
    """The content of the file."""

    format: int = FORMAT
    last: dict[str, str] = {}  # service → the node that it ran on last
    data: dict[str, tuple[str, ...]] = {}  # node → services that have files there
    drained: tuple[str, ...] = ()  # nodes
    devices: dict[str, tuple[str, tuple[int, ...], float]] = {}  # service → its GPUs, see `Devices`


class PlacementStore:
    """Reads the file at the start, and writes it after each change.

    Args:
        state: The folder.
        report_unsaved: Called with why it cannot be written.

    Attributes:
        problem: Why what was there cannot be used, in words; empty: it can.
    """

    def __init__(self, state: Path, report_unsaved: Callable[[str], None]) -> None:
        self._file, self._report_unsaved = state / FILE, report_unsaved
        found, self.problem = read_stored(self._file, StoredPlacement)
        self.known = found or StoredPlacement()

    def save(
        self,
        last: dict[str, str],
        data: dict[str, tuple[str, ...]],
        drained: tuple[str, ...],
        devices: Mapping[str, tuple[str, tuple[int, ...], float]],
    ) -> None:
        """Write the file, if anything has changed."""
        known = {name: (one[0], one[1], one[2]) for name, one in devices.items()}
        now = StoredPlacement(last=dict(last), data=dict(data), drained=drained, devices=known)
        if now == self.known:
            return
        self.known = now
        try:
            write_atomic(self._file, msgspec.json.encode(now))
        except OSError as error:
            self._report_unsaved(f"{self._file}: {error.strerror}")
