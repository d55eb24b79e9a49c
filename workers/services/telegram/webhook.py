"""Takes updates that Telegram sends to an address; an update is confirmed once it is handed over.

The server speaks plain HTTP: a proxy in front of it has the certificate.
"""

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from garrison.workers import PermanentFailure

from .config import Config, listen_of
from .lanes import Lanes

if TYPE_CHECKING:
    from aiohttp import web

log = logging.getLogger(__name__)

SECRET = "X-Telegram-Bot-Api-Secret-Token"
CONNECTIONS = 40  # of Telegram's at the same time
UNDER_WAY_MOST = 1000  # updates; Telegram sends a further one again
BODY_MOST = 1024 * 1024  # bytes of an update
HANDED_OVER_S = 50.0  # after which Telegram is to send an update again; it waits for 60 s
CLOSE_S = 1.0
LOG_EVERY_S = 60.0  # between two lines about refused requests


class Webhook:
    """The server that Telegram sends updates to.

    Args:
        config: The service's.
        secret: What Telegram proves itself by.
        library: The module `telegram`.
        client: The library's bot.
        http: The module `aiohttp.web`.
        lanes: Where updates go.
        alive: Called when an update has arrived.
    """

    def __init__(
        self,
        config: Config,
        secret: str,
        library: Any,
        client: Any,
        http: Any,
        lanes: Lanes,
        alive: Callable[[], None],
    ) -> None:
        self._secret, self._library, self._client = secret.encode(), library, client
        self._http, self._lanes, self._alive = http, lanes, alive
        self._is_checked = config.webhook_secret
        self._host, self._port = listen_of(config.listen)
        self._path = urlsplit(config.webhook_url).path or "/"
        self._log_from = 0.0  # when a refused request is logged again
        self.refused = 0  # requests without the secret
        application = http.Application(client_max_size=BODY_MOST)
        application.router.add_post(self._path, self._take)
        self._runner = http.AppRunner(application, access_log=None, shutdown_timeout=CLOSE_S)

    async def open(self) -> None:
        """Listen.

        Raises:
            PermanentFailure: The address cannot be listened at.
        """
        await self._runner.setup()
        try:
            await self._http.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise PermanentFailure(
                f"the webhook's server cannot listen at {self._host}:{self._port}: "
                f"{error.strerror or error}; change `listen`, or end what has the port"
            ) from error

    async def close(self) -> None:
        """Stop listening; Telegram keeps what it cannot deliver."""
        await self._runner.cleanup()

    def _note_refused(self, sender: str) -> None:
        self.refused += 1
        now = time.monotonic()
        if now >= self._log_from:
            self._log_from = now + LOG_EVERY_S
            log.warning("telegram.webhook_refused from=%s count=%d", sender, self.refused)

    async def _take(self, request: "web.Request") -> Any:
        """Answer 200 once an update is handed over: Telegram sends it again after anything else."""
        http = self._http
        given = request.headers.get(SECRET, "").encode("utf-8", "surrogateescape")
        if self._is_checked and not hmac.compare_digest(given, self._secret):
            self._note_refused(request.remote or "")
            return http.Response(status=403, text="the secret token is missing or wrong")
        if len(self._lanes) >= UNDER_WAY_MOST:
            return http.Response(status=503, text="too many updates are under way")
        body = await request.read()
        try:
            update = self._library.Update.de_json(json.loads(body), self._client)
            assert isinstance(update.update_id, int)
        except Exception as error:  # noqa: BLE001 (Telegram would send it again for a day)
            log.error("telegram.update_unreadable bytes=%d error=%r", len(body), error)
            return http.Response(status=200)
        self._alive()
        try:
            async with asyncio.timeout(HANDED_OVER_S):
                await asyncio.shield(self._lanes.add(update))
        except TimeoutError:
            return http.Response(status=503, text="not handed over yet")
        return http.Response(status=200)
