"""The file of the record of answers, and how much of it is in use."""

import sqlite3
from pathlib import Path

from garrison.workers.sqlite.files import PAGE
from garrison.workers.sqlite.store import SqliteStore, StoreFull

from . import schema

FILE = "answers.db"
SPARE = 16 * 1024 * 1024  # bytes of `max_bytes` that are kept free for answers in progress
MAX_PENDING = 16_384  # operations; further messages are rejected


class RecordFull(StoreFull):
    """There is no room for the record: on the disk, or within `answers_bytes`. Try again later."""


class AnswerStore(SqliteStore):
    """The file `answers.db`."""

    name = "answers"
    tables = schema.SCHEMA
    version = schema.FORMAT
    full = RecordFull

    def __init__(self, path: Path, max_bytes: int) -> None:
        super().__init__(path, max_bytes)
        self._max_pages = (max_bytes - min(max_bytes // 8, SPARE)) // PAGE
        self.committed(self._db.cursor())

    @property
    def is_full(self) -> bool:
        """Return True if no further message is to be accepted."""
        return self._pages >= self._max_pages or len(self._writer) >= MAX_PENDING

    @property
    def bytes(self) -> int:
        """Return the size of what is stored."""
        return self._pages * PAGE

    def committed(self, cursor: sqlite3.Cursor) -> None:
        """Count the pages in use."""
        self._pages = schema.used_pages(cursor)
