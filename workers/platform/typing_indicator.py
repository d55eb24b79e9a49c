"""Shows that the agent thinks: calls the author's `typing` until the answer is sent. Seconds."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

log = logging.getLogger(__name__)

EVERY_S = 5.0  # platforms show it for 5 to 10 s
MOST_S = 60.0  # without an answer: it may be that there is none
CHANNELS_MOST = 64  # at the same time; others show nothing
CALL_S = 5.0  # for one call


class TypingIndicator:
    """The channels in which the agent thinks.

    Args:
        typing: The author's method.
        spawn: Runs a coroutine until the service stops.
    """

    def __init__(self, typing: Callable[[str], Awaitable[None]], spawn: Callable[..., Any]) -> None:
        self._typing, self._spawn = typing, spawn
        self._until: dict[str, float] = {}  # loop time, by channel
        self._changed: dict[str, asyncio.Event] = {}
        self._is_logged = False

    def begin(self, channel: str) -> None:
        """Note that a message of a channel is on its way to the agent."""
        now = asyncio.get_running_loop().time()
        is_new = channel not in self._until
        if is_new and len(self._until) >= CHANNELS_MOST:
            return
        self._until[channel] = now + MOST_S
        if is_new:
            self._changed[channel] = asyncio.Event()
            self._spawn(self._show(channel), f"typing {channel[:40]}", False)

    def end(self, channel: str) -> None:
        """Note that an answer is sent."""
        if channel in self._until:
            self._until[channel] = 0.0
            self._changed[channel].set()

    async def _show(self, channel: str) -> None:
        loop, changed = asyncio.get_running_loop(), self._changed[channel]
        try:
            while loop.time() < self._until[channel]:
                await self._call(channel)
                try:
                    async with asyncio.timeout(EVERY_S):
                        await changed.wait()
                except TimeoutError:
                    continue
                changed.clear()
        finally:
            del self._until[channel], self._changed[channel]

    async def _call(self, channel: str) -> None:
        try:
            async with asyncio.timeout(CALL_S):
                await self._typing(channel)
        except Exception as error:  # noqa: BLE001 (it is an ornament)
            if not self._is_logged:
                log.warning("platform.typing_failed channel=%s error=%r", channel, error)
            self._is_logged = True
