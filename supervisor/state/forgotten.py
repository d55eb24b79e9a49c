"""The persons who were forgotten, on disk: `forgotten.json` in the home.

It lies outside the folder `state`, so that a backup of that folder, or of one store, does not bring
back an older list with the data. Synced: what was forgotten stays so over a power cut.
"""

import os
import time
from pathlib import Path

import msgspec

from garrison.ipc.tombstones import SALT, Tombstones

from .atomic import write_atomic
from .stored import FORMAT, read_stored

FILE = "forgotten.json"


class StoredTombstones(msgspec.Struct):
    """The content of the file."""

    tombstones: Tombstones
    format: int = FORMAT


class ForgottenStore:
    """The file. It is read when it is first used.

    Args:
        home: The folder of the file.
    """

    def __init__(self, home: Path) -> None:
        self._file = home / FILE
        self._tombstones: Tombstones | None = None
        self.problem = ""  # why the file could not be used

    @property
    def tombstones(self) -> Tombstones:
        """Return who was forgotten."""
        if self._tombstones is None:
            stored, self.problem = read_stored(self._file, StoredTombstones)
            self._tombstones = Tombstones() if stored is None else stored.tombstones
        return self._tombstones

    def add(self, sources: tuple[str, ...], person: str) -> None:
        """Note that a person is forgotten; return once that is on disk.

        Args:
            sources: NAMEs of the platform's services.
            person: The id on the platform.

        Raises:
            OSError: It cannot be written.
        """
        before = self.tombstones
        if not before.salt:
            before = msgspec.structs.replace(before, salt=os.urandom(SALT))
        after = before.adding(sources, person, time.time())
        content = msgspec.json.encode(StoredTombstones(after))
        write_atomic(self._file, msgspec.json.format(content), sync=True)
        self._tombstones = after
