"""Keeps what a provider has spent today in a file, so that a restart does not renew its budget."""

import contextlib
import json
import logging
import time
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger(__name__)

DAY_S = 86_400


class Spent(NamedTuple):
    """The tokens of one day, and what they cost."""

    day: int  # days since the epoch, UTC
    tokens: int
    cost: float = 0.0


def today() -> tuple[int, float]:
    """Return the present day, and the seconds until the next one."""
    now = time.time()
    return int(now // DAY_S), DAY_S - now % DAY_S


class Ledger:
    """The file. Args: path: Where it is."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Spent:
        """Return what is noted; nothing if there is no file, or a damaged one."""
        try:
            data = json.loads(self._path.read_text("utf-8"))
            return Spent(int(data["day"]), int(data["tokens"]), float(data.get("cost", 0.0)))
        except FileNotFoundError:
            return Spent(0, 0)
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warning("the file %s is unreadable, counting from 0: %s", self._path, error)
            return Spent(0, 0)

    def write(self, spent: Spent) -> None:
        """Replace the file. A full disk is logged: the budget then counts in memory alone."""
        try:
            replace_file(self._path, json.dumps(spent._asdict()).encode())
        except OSError as error:
            log.warning("what was spent cannot be noted in %s: %s", self._path, error)


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file at once. Raises OSError; the file is then as it was."""
    beside = path.with_suffix(".new")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise
