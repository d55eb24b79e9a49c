"""How many requests run at a time, and how many start in a minute.

Durations are seconds.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from garrison.workers import Busy, RetryLater

from .limiter import Bucket

WAITING_MOST = 64
WAIT_S = 5.0  # for the limit per minute; a longer wait is the caller's


class Turns:
    """Lets so many in at a time; further ones wait, and beyond that are refused.

    Args:
        concurrency: At a time.
        per_minute: That begin in a minute; 0 is no limit.
    """

    def __init__(self, concurrency: int, per_minute: int = 0) -> None:
        self._free = asyncio.Semaphore(concurrency)
        self._bucket = Bucket(per_minute)
        self._waiting = 0

    @contextlib.asynccontextmanager
    async def turn(self, counts: bool = False) -> AsyncIterator[None]:
        """Wait for a turn.

        Args:
            counts: Whether it takes one of the limit per minute.

        Raises:
            Busy: Too many wait.
            RetryLater: The limit per minute is reached for longer than is waited for.
        """
        if self._waiting >= WAITING_MOST:
            raise Busy(f"{WAITING_MOST} requests wait already", 1.0)
        self._waiting += 1
        try:
            if counts:
                await self._take()
            await self._free.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._free.release()

    async def _take(self) -> None:
        wait = self._bucket.wait(1, time.monotonic())
        if wait > WAIT_S:
            raise RetryLater(wait, "`rpm` requests were made within a minute")
        self._bucket.take(1, time.monotonic())  # before the wait: others queue behind it
        await asyncio.sleep(wait)
