"""The operation that stores a posted message; those of one commit are stored together."""

import sqlite3
from collections.abc import Callable, Sequence

from garrison.workers.sqlite.writer import JoiningOperation

from . import schema
from .checksums import Message


class Insertion(JoiningOperation):
    """Stores one message; its result is that of `schema.insert`.

    Args:
        message: The message; its seq is set.
        next_seq: Returns the next seq.
    """

    __slots__ = ("_message", "_next_seq")

    def __init__(self, message: Message, next_seq: Callable[[], int]) -> None:
        self._message, self._next_seq = message, next_seq

    def __call__(self, cursor: sqlite3.Cursor) -> tuple[str, int]:
        """Store it alone."""
        return schema.insert(cursor, self._message, self._next_seq())

    @classmethod
    def run_together(
        cls, cursor: sqlite3.Cursor, operations: Sequence["Insertion"]
    ) -> list[tuple[str, int]]:
        """Store several."""
        messages = [one._message for one in operations]
        return schema.insert_all(cursor, messages, operations[0]._next_seq)
