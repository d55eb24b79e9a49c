"""Probes whether a platform's receiving side is alive: regularly, and by order. Seconds."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from garrison.ipc.messages import Link

from .link import LinkState

log = logging.getLogger(__name__)

PROBE_S = 20.0  # for one probe


class Probing:
    """The probes of one platform.

    Args:
        link: What is known of the connection.
        probe: The author's method; None: there is none.
        every: Seconds between probes; 0: never.
        report: Called after each probe.
    """

    def __init__(
        self,
        link: LinkState,
        probe: Callable[[], Awaitable[None]] | None,
        every: float,
        report: Callable[[], None] = lambda: None,
    ) -> None:
        self._link, self._probe, self._every, self._report = link, probe, every, report
        self._running: asyncio.Task[None] | None = None

    @property
    def is_possible(self) -> bool:
        """Return whether the author wrote a probe."""
        return self._probe is not None

    async def run(self) -> None:
        """Probe whenever nothing was received for the time of the config."""
        while self._probe is not None and self._every > 0:
            wait = self._every - self._link.quiet_s
            if wait > 0:
                await asyncio.sleep(wait)
            else:
                await self.check()

    async def check(self) -> Link:
        """Probe now, or join the probe that is under way; return what is known then."""
        if self._probe is not None:
            if self._running is None:
                self._running = asyncio.ensure_future(self._once(self._probe))
            await asyncio.shield(self._running)
        return self._link.report()

    async def _once(self, probe: Callable[[], Awaitable[Any]]) -> None:
        problem = ""
        try:
            async with asyncio.timeout(PROBE_S):
                await probe()
        except TimeoutError as error:
            problem = str(error) or f"the probe did not end within {PROBE_S:g} s"
        except Exception as error:  # noqa: BLE001 (an outage of the platform)
            problem = str(error) or type(error).__name__
        finally:
            self._running = None
        self._link.note_probe(problem)
        if problem:
            log.warning("platform.deaf error=%s", problem)
        self._report()
