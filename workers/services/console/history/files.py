"""The files of the history: one a service and ring, of a fixed size each."""

import contextlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from urllib.parse import quote, unquote

from .ring import Ring, Sample, packed, unpacked

SERVICES_MOST = 256  # with a history; further ones have none


class HistoryFiles:
    """Rings on disk.

    Args:
        folder: Where; created when there is something to write.
        rings: Their shapes, by name.
    """

    def __init__(self, folder: Path, rings: Mapping[str, Ring]) -> None:
        self._folder, self._rings = folder, rings

    def write(self, ring: str, samples: Mapping[str, Sample]) -> None:
        """Write a sample of each service. Raises OSError, as on a full disk."""
        shape = self._rings[ring]
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, sample in list(samples.items())[:SERVICES_MOST]:
            file = os.open(self._path(name, ring), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(file, packed(sample), shape.offset(sample.at))
            finally:
                os.close(file)

    def read(self, name: str, ring: str, since: int, until: int) -> list[Sample]:
        """Return the samples of a service from one time to another, by time."""
        with contextlib.suppress(OSError), self._path(name, ring).open("rb") as file:
            return unpacked(file.read(self._rings[ring].size), since, until)
        return []

    def prune(self, known: Collection[str], before: float) -> None:
        """Delete what belongs to no service and was not written since a time."""
        for path in self._folder.glob("*"):  # none, where the folder is gone
            name, _, ring = path.name.rpartition(".")
            with contextlib.suppress(OSError):
                stale = unquote(name) not in known and path.stat().st_mtime < before
                if stale or ring not in self._rings or path.stat().st_size > self._rings[ring].size:
                    path.unlink()

    def _path(self, name: str, ring: str) -> Path:
        return self._folder / f"{quote(name, safe='')}.{ring}"
