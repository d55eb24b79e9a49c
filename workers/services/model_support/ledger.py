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
    """The tokens of one day."""

    day: int  # days since the epoch, UTC
    tokens: int


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
            return Spent(int(data["day"]), int(data["tokens"]))
        except FileNotFoundError:
            return Spent(0, 0)
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warning("the file %s is unreadable, counting from 0: %s", self._path, error)
            return Spent(0, 0)

    def write(self, spent: Spent) -> None:
        """Replace the file. A full disk is logged: the budget then counts in memory alone."""
        beside = self._path.with_suffix(".new")
        try:
            beside.write_text(json.dumps(spent._asdict()), "utf-8")
            beside.replace(self._path)
        except OSError as error:
            log.warning("what was spent cannot be noted in %s: %s", self._path, error)
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
