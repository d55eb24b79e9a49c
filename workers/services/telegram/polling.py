"""Takes updates from Telegram by polls; an update is confirmed once it is handed over."""

import asyncio
import functools
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from garrison.workers import Runtime

from .config import Config
from .connection import Connection, outage, refused_token
from .incoming import KINDS
from .lanes import Lanes
from .offsets import Offsets
from .outgoing import wait_of

if TYPE_CHECKING:
    import telegram

log = logging.getLogger(__name__)

BATCH = 100  # the most that a poll returns: so many updates are under way at most
AGAIN_S = 0.5  # before the next poll after one that failed; doubled each time
AGAIN_MOST_S = 30.0
KNOWN_S = 0.5  # before the next poll while something is under way and nothing ends
EMPTY_S = 0.1  # after a poll that returned nothing at once: a server that does not wait
RIVAL_S = 1.0  # after a poll that another process ended; four times as long each time
RIVAL_MOST_S = 300.0
ALONE = 3  # polls that return in a row: there is no other process any more
ALONE_POLL_S = 10  # for which each of them waits, at most


class Poller:
    """The loop of polls.

    Args:
        runtime: The service's.
        config: Its config.
        connection: The bot's.
        library: The module `telegram`.
        lanes: Where updates go.
        alive: Called when a poll has returned.
        link: Called with why nothing is received any more, or with "" once it is again.
    """

    def __init__(
        self,
        runtime: Runtime,
        config: Config,
        connection: Connection,
        library: Any,
        lanes: Lanes,
        alive: Callable[[], None],
        link: Callable[[str], None],
    ) -> None:
        self._runtime, self._config, self._connection = runtime, config, connection
        self._library, self._lanes, self._alive, self._link = library, lanes, alive, link
        self._offsets = Offsets()
        self._progress = asyncio.Event()
        self._failures = self._rivals = self._alone = 0
        self._asked_at = 0.0  # when the last poll began

    async def run(self) -> None:
        """Poll until the service stops.

        Raises:
            PermanentFailure: Telegram refuses the token.
        """
        errors = self._library.error
        while True:
            try:
                updates = await self._poll()
            except errors.InvalidToken as error:
                failure = refused_token(error)
                if failure is not None:
                    raise failure from None
                await self._after_failure(error)
            except errors.Conflict as error:
                await self._after_conflict(str(error))
            except errors.RetryAfter as error:
                await asyncio.sleep(wait_of(error))
            except (errors.TelegramError, TimeoutError) as error:
                await self._after_failure(error)
            else:
                self._returned()
                await self._take(updates)

    async def _poll(self) -> "tuple[telegram.Update, ...]":
        # What is under way is returned again, at once: then there is no use in waiting.
        wait = 0 if self._offsets.open else self._config.poll_timeout
        wait = min(wait, ALONE_POLL_S) if self._rivals else wait
        offset, self._asked_at = self._offsets.offset, time.monotonic()
        async with asyncio.timeout(self._config.poll_timeout + 60.0):
            updates = await self._connection.client.get_updates(
                offset=offset, limit=BATCH, timeout=wait, allowed_updates=KINDS
            )
        self._offsets.confirmed(offset)
        return updates

    async def _take(self, updates: "tuple[telegram.Update, ...]") -> None:
        """Give new updates to their lanes; wait for progress where there are none."""
        new = [update for update in updates if self._offsets.add(update.update_id)]
        self._progress.clear()
        for update in new:
            ended = self._lanes.add(update)
            ended.add_done_callback(functools.partial(self._done, update.update_id))
        if self._offsets.open:
            await _happens(self._progress, KNOWN_S)
        elif not new and time.monotonic() - self._asked_at < EMPTY_S:
            await asyncio.sleep(EMPTY_S)

    def _done(self, update: int, _: "asyncio.Future[None]") -> None:
        self._offsets.done(update)
        self._progress.set()

    # --- the other ends of a poll -------------------------------------------------------------

    def _returned(self) -> None:
        self._connection.polled_at = time.monotonic()
        self._alive()
        if self._failures:
            self._failures = 0
            self._runtime.warn("polling", None)
        self._alone += 1
        if self._rivals and self._alone >= ALONE:
            self._rivals = 0
            log.info("telegram.conflict_ended")
            self._link("")

    async def _after_failure(self, error: BaseException) -> None:
        wait = min(AGAIN_S * 2**self._failures, AGAIN_MOST_S)
        self._failures = min(self._failures + 1, 16)
        log.warning("telegram.poll_failed error=%s wait_s=%.3g", outage(error), wait)
        if self._failures > 1:
            self._runtime.warn("polling", f"{outage(error)}; it is tried again")
        await asyncio.sleep(wait)

    async def _after_conflict(self, why: str) -> None:
        """Poll slowly: each poll ends one of the other process."""
        wait = min(RIVAL_S * 4**self._rivals, RIVAL_MOST_S)
        self._alone, self._rivals = 0, min(self._rivals + 1, 16)
        log.warning("telegram.conflict wait_s=%g error=%s", wait, why)
        if self._rivals > 1:  # the first may be a poll of a process of this service that has ended
            what = "a webhook was set" if "webhook" in why.lower() else "another process polls"
            self._link(
                f"{what} with this bot's token, and takes its messages: end it, or get a new token "
                "from @BotFather"
            )
        await asyncio.sleep(wait)


async def _happens(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, for so long at most."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
