"""The bot's account at Telegram: its client, login, the way of updates, and whether they arrive."""

import asyncio
import hashlib
import hmac
import logging
import os
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from garrison.workers import PermanentFailure, RetryLater, Runtime

from .config import Config
from .incoming import KINDS, Bot
from .outgoing import wait_of
from .tls import tls_context

if TYPE_CHECKING:
    import telegram

log = logging.getLogger(__name__)

TOKEN = "TELEGRAM_BOT_TOKEN"
BOT_FATHER = "@BotFather in Telegram (https://t.me/BotFather): /mybots, the bot, API Token"
CONNECT_S = 10.0
READ_S = 20.0
POOL_S = 5.0
CONNECTIONS = 64  # at the same time, polls apart
CALLS_S = 15.0  # for each call of a start and a probe
STALE_S = 30.0  # after a poll should have returned
ERROR_S = 300.0  # for which an error of the webhook counts
# These libraries log addresses with the token, and whole answers; all is raised as well.
LOUD = {"httpx": logging.WARNING, "httpcore": logging.WARNING, "telegram": logging.CRITICAL}


class Connection:
    """One bot's account.

    Args:
        runtime: The service's.
        config: Its config.
        library: The module `telegram`.
        request: The module `telegram.request`.
        http: The module `httpx`.
    """

    def __init__(
        self, runtime: Runtime, config: Config, library: Any, request: Any, http: Any
    ) -> None:
        for name, level in LOUD.items():
            logging.getLogger(name).setLevel(level)
        os.environ.setdefault("PTB_TIMEDELTA", "1")  # or the library warns at each duration
        self._runtime, self._config = runtime, config
        self._token = self._read_token()
        tls = {"verify": tls_context()}
        root = config.base_url.rstrip("/") or "https://api.telegram.org"
        self.file_root = f"{root}/file/bot{self._token}"
        timeouts = {"connect_timeout": CONNECT_S, "pool_timeout": POOL_S, "httpx_kwargs": tls}
        self.client: telegram.Bot = library.Bot(
            self._token,
            base_url=f"{root}/bot",
            base_file_url=f"{root}/file/bot",
            request=request.HTTPXRequest(CONNECTIONS, READ_S, READ_S, **timeouts),
            get_updates_request=request.HTTPXRequest(2, READ_S, READ_S, **timeouts),
        )
        self.errors = library.error
        self.files = http.AsyncClient(timeout=http.Timeout(READ_S, connect=CONNECT_S), **tls)
        self.polled_at = time.monotonic()  # when a poll returned last

    def _read_token(self) -> str:
        token = str(self._runtime.get_setting(TOKEN) or "").strip()
        if not token:
            raise PermanentFailure(
                f"there is no {TOKEN}: set it, and name it in the `secrets` of this service; a "
                f"bot's token is at {BOT_FATHER}"
            )
        if any(one.isspace() or one in "/?#%" for one in token):
            raise PermanentFailure(f"{TOKEN} is no token: copy it from {BOT_FATHER}")
        return token

    @property
    def bot(self) -> Bot:
        """Return the bot's own account."""
        return Bot(self.client.id, self.client.username)

    @property
    def secret(self) -> str:
        """Return the secret by which the webhook knows Telegram: the same at each start."""
        made = hmac.new(self._token.encode(), self._config.webhook_url.encode(), hashlib.sha256)
        return made.hexdigest()

    async def open(self) -> None:
        """Log in.

        Raises:
            PermanentFailure: The token is refused; the text states where to get one.
            RetryLater: Telegram wants the bot to wait.
            ConnectionError: Telegram cannot be reached, or does not answer.
        """
        errors = self.errors
        try:
            async with asyncio.timeout(CALLS_S):
                await self.client.initialize()
        except errors.InvalidToken as error:
            raise (refused_token(error.__cause__ or error) or outage(error)) from None
        except errors.RetryAfter as error:
            raise RetryLater(wait_of(error), "Telegram limits the bot's logins") from None
        except (errors.TelegramError, TimeoutError) as error:
            raise outage(error) from error

    async def choose_polling(self) -> None:
        """Have Telegram keep updates for polls: a webhook that is set takes them all."""
        async with asyncio.timeout(CALLS_S):
            try:
                info = await self.client.get_webhook_info()
            except (self.errors.BadRequest, self.errors.InvalidToken) as error:
                log.warning("telegram.no_webhooks error=%s", error)  # a server that has none
                return
            if info.url:
                log.warning("telegram.webhook_removed host=%s", host_of(info.url))
                await self.client.delete_webhook(drop_pending_updates=False)

    async def choose_webhook(self, connections: int) -> None:
        """Have Telegram send updates to `webhook_url`.

        Raises:
            PermanentFailure: Telegram refuses the address.
        """
        try:
            async with asyncio.timeout(CALLS_S):
                await self.client.set_webhook(
                    self._config.webhook_url,
                    secret_token=self.secret,
                    allowed_updates=list(KINDS),
                    max_connections=connections,
                )
        except self.errors.BadRequest as error:
            raise PermanentFailure(f"Telegram refuses webhook_url: {error}") from error

    async def close(self) -> None:
        """Close all connections."""
        await self.files.aclose()
        await self.client.shutdown()

    async def probe(self) -> None:
        """Check that updates of the bot arrive here.

        Raises:
            ConnectionError: They do not; the text states why.
        """
        try:
            async with asyncio.timeout(CALLS_S):
                await self.client.get_me()
                info = await self.client.get_webhook_info()
        except (self.errors.TelegramError, TimeoutError) as error:
            raise outage(error) from error
        problem = self._deafness(info)
        if problem:
            raise ConnectionError(problem)

    def _deafness(self, info: "telegram.WebhookInfo") -> str:
        """Return why updates do not arrive; "" if they do."""
        waiting = f"{info.pending_update_count} updates wait at Telegram"
        if self._config.mode == "polling":
            if info.url:
                return f"a webhook at {host_of(info.url)} takes the bot's updates; {waiting}"
            silent = time.monotonic() - self.polled_at
            if silent > self._config.poll_timeout + STALE_S:
                return f"no poll has returned for {silent:.0f} s; {waiting}"
            return ""
        if info.url != self._config.webhook_url:
            place = f"goes to {host_of(info.url)}" if info.url else "is not set"
            return f"the bot's webhook {place}, not to webhook_url; {waiting}"
        if info.last_error_date and info.pending_update_count:
            ago = time.time() - info.last_error_date.timestamp()
            if ago < ERROR_S:
                why = info.last_error_message or "an error"
                return f"Telegram cannot deliver to webhook_url: {why} ({ago:.0f} s ago); {waiting}"
        return ""


def refused_token(error: BaseException) -> PermanentFailure | None:
    """Return what a refused token is; None where a server answered that is not Telegram's."""
    if "Parsing the server response" in str(error):
        return None
    return PermanentFailure(
        f"Telegram refuses the token in {TOKEN}: get a new one from {BOT_FATHER}"
    )


def outage(error: BaseException) -> ConnectionError:
    """Return a failed call as one sentence."""
    why = "no answer in time" if isinstance(error, TimeoutError) else str(error)
    return ConnectionError(f"Telegram cannot be reached: {why[:300]}")


def host_of(url: str) -> str:
    """Return the host of an address, which may itself be secret."""
    return urlsplit(url).hostname or "another address"
