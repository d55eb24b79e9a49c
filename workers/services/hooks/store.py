"""The file of the hooks service: how far the journal was read, and what waits to be delivered."""

import logging
from pathlib import Path

import msgspec

from garrison.workers.sqlite.files import replace_file

from .journal import Position
from .kinds import Troubled
from .throttle import Pending

log = logging.getLogger(__name__)

FILE = "hooks.json"


class Record(msgspec.Struct):
    """What became of one hook's deliveries. Times are UTC, RFC 3339."""

    delivered: int = 0
    failed: int = 0  # deliveries that were given up
    last_at: str = ""
    last_on: str = ""
    last_service: str = ""
    problem: str = ""  # of the last delivery; empty: it arrived


class State(msgspec.Struct):
    """The content of the file."""

    position: Position | None = None
    troubled: Troubled = msgspec.field(default_factory=Troubled)
    pending: dict[str, Pending] = {}  # by NAME of the hook
    records: dict[str, Record] = {}


def load(folder: Path) -> State | None:
    """Return what the file has; None if there is none, or it is damaged."""
    path = folder / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=State)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, ValueError) as error:
        log.warning("hooks.damaged path=%s error=%s", path, error)
        return None


def save(folder: Path, data: bytes) -> None:
    """Replace the file. Raises OSError: it is as it was."""
    replace_file(folder / FILE, data)
