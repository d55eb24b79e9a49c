"""The interactions of the last minutes, in files: what a restart needs to answer each one once.

An interaction's token lets the bot answer it for 15 minutes. It is in a file that its owner alone
can read, and is deleted afterwards. At most `RECORDS_MOST` are kept, the newest. Seconds.
"""

import asyncio
import contextlib
import logging
import time
from pathlib import Path

import msgspec

from garrison.workers import Memory

from .files_on_disk import read_record, write_record

log = logging.getLogger(__name__)

LIFE_S = 15 * 60 - 30.0  # of a token, less what an answer may take
RECORDS_MOST = 1000


class Record(msgspec.Struct):
    """One interaction."""

    id: str
    token: str
    application: str
    at: float  # Unix time at which it was received
    memory: Memory  # as it is handed over
    message: str = ""  # of a press: the message that has the button
    custom_id: str = ""  # of a press: the button
    claimed: str = ""  # the part of an answer that is its original response; "": none yet
    is_over: bool = False  # Discord has no original response for it

    @property
    def is_open(self) -> bool:
        """Return whether its original response can be edited."""
        return not (self.message or self.is_over) and time.time() < self.at + LIFE_S


class InteractionStore:
    """The records in a folder.

    Args:
        folder: It is created.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._records: dict[str, Record] = {}  # the oldest first

    async def open(self) -> list[Record]:
        """Read the records that are not too old; return them, the oldest first."""
        found = await asyncio.to_thread(self._read)
        self._records = {one.id: one for one in sorted(found, key=lambda one: one.at)}
        await self.drop_old()
        return list(self._records.values())

    def now(self) -> float:
        """Return the Unix time: tokens expire also while this process does not run."""
        return time.time()

    def find(self, id: str) -> Record | None:
        """Return an interaction."""
        return self._records.get(id)

    def all(self) -> list[Record]:
        """Return all of them."""
        return list(self._records.values())

    async def save(self, record: Record) -> None:
        """Write an interaction; return when it is on disk.

        Raises:
            OSError: It cannot be written.
        """
        self._records[record.id] = record
        await asyncio.to_thread(write_record, self._path(record.id), record)
        if len(self._records) > RECORDS_MOST:
            await self.drop(next(iter(self._records)))

    async def drop(self, id: str) -> None:
        """Delete an interaction."""
        self._records.pop(id, None)
        await asyncio.to_thread(self._path(id).unlink, missing_ok=True)

    async def drop_old(self) -> None:
        """Delete what cannot be answered any more."""
        now = self.now()
        for record in self.all():
            if not now - LIFE_S < record.at < now + LIFE_S:  # also of a clock that was wrong
                await self.drop(record.id)

    def _read(self) -> list[Record]:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        found: list[Record] = []
        for path in self._folder.iterdir():
            record = read_record(path, Record) if path.suffix == ".json" else None
            if record is not None:
                found.append(record)
            else:  # damaged, or written by half
                with contextlib.suppress(OSError):
                    path.unlink()
        return found

    def _path(self, id: str) -> Path:
        return self._folder / f"{id}.json"
