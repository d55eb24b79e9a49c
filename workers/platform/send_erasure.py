"""Erase and export rows of the send log: by the ids of sends, or by the channel.

A row has no text: the id of an answer, the channel, the platform's id of what was sent. The agent's
record knows which answers were a person's.
"""

import sqlite3
from functools import partial
from typing import Any

from garrison.workers.sqlite.forgetting import overwrite

from .send_log import SendLog

SENDS_MOST = 1_000  # ids of one call
ROWS_MOST = 1_000  # of one read

COLUMNS = "id, part, channel, state, wall, theirs"


async def forget_sends(log: SendLog, sends: list[str]) -> int:
    """Delete the rows of sends that have ended; return how many.

    Raises:
        ValueError: Too many ids.
    """
    _check(sends)
    return await log.run(partial(_delete, where="id", values=sends))


async def forget_channel(log: SendLog, channel: str) -> int:
    """Delete the rows of a channel and its positions, and overwrite what was deleted before.

    Raises:
        NotOverwritten: The disk is full.
    """
    count = await log.run(partial(_delete, where="channel", values=[channel]))
    count += await log.run(partial(_delete_cursor, stream=channel))
    await overwrite(log.run, log.path)
    return count


async def export_sends(log: SendLog, sends: list[str]) -> list[dict[str, Any]]:
    """Return the rows of sends.

    Raises:
        ValueError: Too many ids.
    """
    _check(sends)
    return await log.run(partial(_read, where="id", values=sends))


async def export_channel(log: SendLog, channel: str) -> list[dict[str, Any]]:
    """Return the rows of a channel, at most `ROWS_MOST`."""
    return await log.run(partial(_read, where="channel", values=[channel]))


def _check(sends: list[str]) -> None:
    if len(sends) > SENDS_MOST:
        raise ValueError(f"at most {SENDS_MOST:,} ids in one call, not {len(sends):,}")


def _delete(at: sqlite3.Cursor, where: str, values: list[str]) -> int:
    """Delete rows; those of sends under way are kept: they are needed to send once."""
    before = at.connection.total_changes
    at.executemany(
        f"DELETE FROM sends WHERE {where} = ? AND state <> 'sending'", [(one,) for one in values]
    )
    return at.connection.total_changes - before


def _delete_cursor(at: sqlite3.Cursor, stream: str) -> int:
    return at.execute("DELETE FROM cursors WHERE stream = ?", (stream,)).rowcount


def _read(at: sqlite3.Cursor, where: str, values: list[str]) -> list[dict[str, Any]]:
    query = f"SELECT {COLUMNS} FROM sends WHERE {where} = ? LIMIT {ROWS_MOST}"
    names = COLUMNS.split(", ")
    return [
        dict(zip(names, row, strict=True)) for one in values for row in at.execute(query, (one,))
    ]
