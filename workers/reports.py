"""`Reports`: what a service reports about itself: numbers, warnings, readiness, more time."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any

from garrison.ipc.caller import check_number
from garrison.ipc.messages import Link, encodable

from .incidents import Incidents

FACTS_MOST = 16  # numbers that a service may report
EXTENSION_MOST = 3600.0  # seconds, of one `extend`
REASON_MOST = 200  # characters of its reason
WARNINGS_MOST = 16  # warnings; a further one replaces the oldest
WARNING_MOST = 200  # characters of a warning that are shown
TEXT_MOST = 65_536  # characters of a warning that are looked at


class Reports:
    """What a service reports about itself through its runtime."""

    def __init__(self) -> None:
        self.ready: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.facts: dict[str, float] = {}  # replaced, never changed: a thread may report
        self.counts: Callable[[], Mapping[str, float]] = dict  # of garrison's own part of a service
        self.link: Callable[[], Link | None] = lambda: None  # of a platform
        self.extend: Callable[[float, str], None] = lambda seconds, reason: None
        self.incidents = Incidents()
        self.warnings: dict[str, str] = {}  # likewise; in the order in which they came
        self._lock = threading.Lock()

    def warn(self, key: str, text: str | None) -> None:
        """Set or remove a warning; see `Runtime.warn`."""
        if not isinstance(key, str) or not isinstance(text, str | None):
            given = f"{type(key).__name__} and {type(text).__name__}"
            raise TypeError(f"warn takes a key and a text, or None for the text, not {given}")
        line = " ".join(encodable(text[:TEXT_MOST]).split()) if text else ""
        if not line and key not in self.warnings:
            return
        with self._lock:
            others = {one: text for one, text in self.warnings.items() if one != key}
            if line:
                others[key] = line
            self.warnings = dict(list(others.items())[-WARNINGS_MOST:])

    def numbers(self) -> dict[str, float]:
        """Return the numbers to show; the author's go before garrison's own."""
        return dict(list({**self.facts, **self.counts(), **self.facts}.items())[:FACTS_MOST])

    def report(self, facts: Mapping[str, float]) -> None:
        """Replace the numbers; see `Runtime.report`."""
        chosen = list(facts.items())[:FACTS_MOST]
        self.facts = {name: float(value) for name, value in chosen}

    def move_deadline(self, seconds: float, reason: str) -> None:
        """Move the deadline of a start or a stop; see `Runtime.extend`."""
        check_number(seconds, "extend takes")
        if not 0 < seconds <= EXTENSION_MOST:
            raise ValueError(
                f"extend takes more than 0 and at most {EXTENSION_MOST:g} seconds, not "
                f"{seconds!r}; call it again while the work goes on"
            )
        self.extend(float(seconds), " ".join(str(reason).split())[:REASON_MOST])
