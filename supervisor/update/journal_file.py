"""Keeps an update's journal and its lock in the home."""

from pathlib import Path

import msgspec

from garrison.ipc.messages import BAD_BYTES
from garrison.supervisor.state.atomic import write_atomic

from .journal import Update

JOURNAL, LOCK, DATA = "update.json", "update.lock", "updates"


def read_update(state: Path) -> Update | None:
    """Return the last update of a home; None: there was none, or its file is damaged."""
    try:
        return msgspec.json.decode((state / JOURNAL).read_bytes(), type=Update)
    except (OSError, *BAD_BYTES):
        return None


def write_update(state: Path, update: Update) -> None:
    """Write an update's journal; it survives a power cut.

    Raises:
        OSError: It cannot be written; the former one is unchanged.
    """
    write_atomic(state / JOURNAL, msgspec.json.encode(update), sync=True)


def data_folder(state: Path, number: int) -> Path:
    """Return the folder of an update's copies of data."""
    return state / DATA / str(number)
