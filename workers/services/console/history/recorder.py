"""Records what services use and do, once each half minute, whether anyone looks or not.

Durations are seconds.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from garrison.ipc import OrderFailed, SupervisorGone

from .files import HistoryFiles
from .ring import Ring, Sample
from .summing import Rates, columns, samples, sparkline, summary, summed, thinned

log = logging.getLogger(__name__)

FINE_S, COARSE_S = 30, 300
EACH = COARSE_S // FINE_S  # fine samples of a coarse one
RECENT = 40  # of a sparkline: 20 minutes
WIDTH, HEIGHT = 80, 20  # of a sparkline
PRUNE_S = 3600.0
SPANS = {"1h": 3600, "6h": 21_600, "24h": 86_400, "3d": 259_200, "7d": 604_800, "31d": 2_678_400}

Look = Callable[[], Awaitable[tuple[Mapping[str, Mapping[str, Any]], Rates]]]


class History:
    """The history of all services.

    Args:
        folder: Where it is kept.
        look: Returns the rows of services by NAME, and the rates of their calls.
        hours: Of fine samples.
        days: Of coarse ones.
    """

    def __init__(self, folder: Path, look: Look, hours: int, days: int) -> None:
        self._rings = {
            "fine": Ring(FINE_S, hours * 3600 // FINE_S),
            "coarse": Ring(COARSE_S, days * 86_400 // COARSE_S),
        }
        self._files, self._look = HistoryFiles(folder, self._rings), look
        self._recent: dict[str, deque[int]] = {}
        self._pending: dict[str, list[Sample]] = {}
        self._pruned_at = float("-inf")
        self._failed = ""

    @property
    def spans(self) -> list[str]:
        """Return the spans that there are charts of."""
        most = max(ring.length for ring in self._rings.values())
        return [name for name, length in SPANS.items() if length <= most]

    async def run(self) -> None:
        """Record until cancelled."""
        while True:
            with contextlib.suppress(OrderFailed, SupervisorGone):
                rows, rates = await self._look()
                self._record(rows, rates, int(time.time()))
            await asyncio.sleep(FINE_S - time.time() % FINE_S)

    def sparkline(self, name: str) -> str:
        """Return the points of a service's memory of the last 20 minutes."""
        return sparkline(list(self._recent.get(name, ())), WIDTH, HEIGHT)

    def chart(self, name: str, span: str) -> dict[str, Any]:
        """Return the lines of a service's chart, and what they say in numbers.

        Args:
            name: NAME of the service.
            span: One of `SPANS`; another is "24h".
        """
        length, now = SPANS.get(span, SPANS["24h"]), int(time.time())
        fine = length <= self._rings["fine"].length
        ring = "fine" if fine else "coarse"
        found = self._files.read(name, ring, now - length, now)
        shown = thinned(found)
        step = self._rings[ring].step * max(len(found) // max(len(shown), 1), 1)
        return {"lines": columns(shown, step), "summary": summary(found), "from": now - length}

    def _record(self, rows: Mapping[str, Mapping[str, Any]], rates: Rates, at: int) -> None:
        found = samples(rows, rates, at)
        for name, sample in found.items():
            if name not in self._recent:
                before = self._files.read(name, "fine", at - RECENT * FINE_S, at)
                self._recent[name] = deque((one.memory for one in before), RECENT)
            self._recent[name].append(sample.memory)
            self._pending.setdefault(name, []).append(sample)
        try:
            self._files.write("fine", found)
            full = {name: many for name, many in self._pending.items() if len(many) >= EACH}
            self._files.write("coarse", {name: summed(many) for name, many in full.items()})
            self._failed = ""
        except OSError as error:  # a full disk: this one is missing
            if self._failed != str(error):
                self._failed = str(error)
                log.warning("history.failed error=%s", error)
        for name in [one for one, many in self._pending.items() if len(many) >= EACH]:
            del self._pending[name]
        if time.monotonic() - self._pruned_at >= PRUNE_S:
            self._pruned_at = time.monotonic()
            self._forget(rows)

    def _forget(self, rows: Mapping[str, Any]) -> None:
        for kept in (self._recent, self._pending):
            for name in [one for one in kept if one not in rows]:
                del kept[name]
        longest = max(ring.length for ring in self._rings.values())
        self._files.prune(set(rows), time.time() - longest)
