"""The file of the news for an owner: which events were read, and the messages to be sent."""

import logging
from datetime import datetime
from pathlib import Path

import msgspec

from .news import News

log = logging.getLogger(__name__)

Cursor = tuple[str, int]  # time and number of an event


class Item(msgspec.Struct):
    """One message."""

    id: str
    person: str
    text: str


class State(msgspec.Struct):
    """The content of the file."""

    cursor: Cursor | None = None  # the last event that was read; None: none yet
    news: News = msgspec.field(default_factory=News)
    outbox: dict[str, list[Item]] = {}  # by platform
    sent_at: float = 0.0  # Unix seconds


def is_after(event: Cursor, cursor: Cursor | None) -> bool:
    """Return whether an event follows those that were read. Numbers begin again when old files are
    removed, so the time decides first."""
    return cursor is None or event > cursor


def unix_time(text: str) -> float:
    """Return the time of an event, in Unix seconds; 0.0 if it has none."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def load(path: Path) -> State:
    """Return what the file has; nothing if there is none, or it is damaged: then what has happened
    meanwhile is not reported."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=State)
    except FileNotFoundError:
        return State()
    except (OSError, msgspec.MsgspecError, ValueError) as error:
        log.warning("owner.damaged path=%s error=%s", path, error)
        return State()
