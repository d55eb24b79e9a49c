"""Rates of calls: between two readings of the host's totals, some seconds apart.

Durations are seconds.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from garrison.ipc import OrderFailed, SupervisorGone
from garrison.ipc.call_rates import ServiceRates, service_rates
from garrison.ipc.call_totals import Totals

EVERY_S = 5.0


class CallRates:
    """What calls there are, for all tabs.

    Args:
        ask: Returns the data of the order `counters`.
    """

    def __init__(self, ask: Callable[[], Awaitable[Any]]) -> None:
        self._ask = ask
        self._reading = asyncio.Lock()
        self._totals: Totals | None = None
        self._read_at = float("-inf")
        self._rates: Mapping[str, ServiceRates] = {}

    async def now(self) -> Mapping[str, ServiceRates]:
        """Return the rates by service; empty until there were two readings."""
        await self._refresh()
        return self._rates

    async def totals(self) -> Totals | None:
        """Return the totals; None: there are none."""
        await self._refresh()
        return self._totals

    async def _refresh(self) -> None:
        if time.monotonic() - self._read_at < EVERY_S:
            return
        async with self._reading:
            if time.monotonic() - self._read_at < EVERY_S:
                return
            self._read_at = time.monotonic()
            try:
                totals = msgspec.convert(await self._ask(), Totals)
            except (OrderFailed, SupervisorGone):
                return
            if self._totals is not None:
                self._rates = service_rates(self._totals, totals)
            self._totals = totals
