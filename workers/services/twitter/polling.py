"""Polls a stream of X within the limits of requests and the month's budget. Durations are seconds.

Nothing is skipped: after an error the same posts are read again.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from garrison.workers import Heard, PermanentFailure, Runtime

from .answer import status_of
from .budget import BudgetWatch
from .client import Api
from .config import Config
from .limits import Pace
from .outcome import FORBIDDEN, PORTAL, TOO_MANY, UNAUTHORIZED, reason_of, wait_after
from .reading import PAGE_LEAST, PAGE_MOST, Page, Since, Stream

log = logging.getLogger(__name__)

PAGES_MOST = 160  # X has the last 800 mentions; a page may be as small as 5
BUDGET_S = 300.0  # between looks at a budget that is used up
RETRY_S = 1.0  # after an error; doubled each time
RETRY_MOST_S = 300.0
FORBIDDEN_S = 900.0  # after X refuses the whole endpoint
SHOWN_FROM = 2  # failures one after the other


class Link(Protocol):
    """What is known of the connection; a `Platform` is one."""

    def note_traffic(self) -> None:
        """Note that X has answered."""
        ...

    def disconnected(self, why: str) -> None:
        """Note that nothing is received any more."""
        ...

    def connected(self) -> None:
        """Note that there is a connection again."""
        ...


class Poller:
    """One stream of X.

    Args:
        stream: What is read.
        api: X's, for its limits.
        runtime: The service's.
        config: Its keys.
        budget: Of posts that may be read.
        link: Where it is noted whether X answers.
    """

    def __init__(
        self,
        stream: Stream,
        api: Api,
        runtime: Runtime,
        config: Config,
        budget: BudgetWatch,
        link: Link,
    ) -> None:
        self._stream, self._api, self._runtime, self._budget = stream, api, runtime, budget
        self._link, self._is_forbidden = link, False
        self.name = stream.name
        self.since = Since("", 0.0)
        self.pace = Pace(config.poll, config.poll_idle, config.poll)
        self.read = 0  # posts since the start
        self.missed: asyncio.Future[list[Heard]]  # what is found at the start

    async def new(self) -> list[Heard]:
        """Read everything that is new once, the oldest first; wait where X limits it."""
        found: list[Heard] = []
        token = ""
        for _ in range(PAGES_MOST):
            most = await self._budget.readable()
            while token and most < PAGE_LEAST:  # the rest is older than what was read already
                await asyncio.sleep(BUDGET_S)
                most = await self._budget.readable()
            if most < PAGE_LEAST:
                break
            page = await self._page(token, min(most, PAGE_MOST))
            self._budget.note(page.read)
            self.read += page.read
            found += page.found
            token = page.next
            if not token:
                break
        if found:
            found.sort(key=lambda one: int(one.position))
            self.since = Since(found[-1].position, self.since.unix)
        return found

    async def read_new(self) -> list[Heard]:
        """Read everything that is new, the oldest first; try again until X answers.

        Raises:
            PermanentFailure: X refuses the tokens.
        """
        failures, before = 0, self.since
        while True:
            try:
                found = await self.new()
            except Exception as error:  # noqa: BLE001 (X, or the way to it, is disturbed)
                self.since = before
                failures += 1
                await self._failed(error, failures)
            else:
                if failures:
                    self._runtime.warn(f"poll {self.name}", None)
                if self._is_forbidden:
                    self._is_forbidden = False
                    self._link.connected()
                return found

    async def run(self, receive: Callable[[Heard], Awaitable[None]]) -> None:
        """Poll until the service stops.

        Args:
            receive: Takes each message.

        Raises:
            PermanentFailure: X refuses the tokens.
        """
        while True:
            await asyncio.sleep(self._wait_s())
            found = await self.read_new()
            for heard in found:
                await receive(heard)
            self.pace = self.pace.after(len(found))

    async def _page(self, token: str, most: int) -> Page:
        """Read a page; wait for as long as X limits it."""
        while True:
            await asyncio.sleep(self._api.limits.wait_s(self._stream.endpoint, time.monotonic()))
            try:
                page = await self._stream.page(self.since, token, most)
                self._link.note_traffic()
                return page
            except Exception as error:
                if status_of(error) != TOO_MANY:
                    raise
                wait = wait_after(error)
                log.warning("twitter.limited stream=%s wait_s=%.0f", self.name, wait)
                await asyncio.sleep(wait)

    def _wait_s(self) -> float:
        now, limits = time.monotonic(), self._api.limits
        endpoint = self._stream.endpoint
        return self.pace.wait_s(limits.spread_s(endpoint, now), limits.wait_s(endpoint, now))

    async def _failed(self, error: Exception, failures: int) -> None:
        status, reason = status_of(error), reason_of(error)
        if status == UNAUTHORIZED:
            raise PermanentFailure(
                f"X refuses the tokens: {reason}. Make new ones at {PORTAL}, under the app's Keys "
                "and tokens"
            ) from error
        log.warning("twitter.poll_failed stream=%s error=%s", self.name, reason)
        if status == FORBIDDEN:
            self._is_forbidden = True
            self._link.disconnected(
                f"X does not let this app read {self.name}: {reason}. Its plan and permissions are "
                f"at {PORTAL}"
            )
            await asyncio.sleep(FORBIDDEN_S)
            return
        if failures >= SHOWN_FROM:
            self._runtime.warn(f"poll {self.name}", f"{self.name} cannot be read: {reason}")
        await asyncio.sleep(min(RETRY_S * 2 ** min(failures - 1, 16), RETRY_MOST_S))
