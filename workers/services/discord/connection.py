"""The connection to Discord: login, session starts, the gateway, and what `status` shows of it."""

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from garrison.workers import PermanentFailure, RetryLater, Runtime

from .config import Config

if TYPE_CHECKING:
    import discord

log = logging.getLogger(__name__)

TOKEN = "DISCORD_TOKEN"
PORTAL = "https://discord.com/developers/applications"
BAD_TOKEN = 4004  # the gateway's close code
LONGEST_LIMIT_S = 30.0  # of Discord's rate limits that a send waits for; a longer one puts it off
READY_S = 60.0
MESSAGES_KEPT = 1000  # by the library, for edits and deletions


class Connection:
    """One bot's connection.

    Args:
        runtime: The service's.
        config: Its config.
        library: The module `discord`.
    """

    def __init__(self, runtime: Runtime, config: Config, library: Any) -> None:
        self._runtime, self._config, self._library = runtime, config, library
        if config.base_url:
            _point_to(library, config.base_url)
        self.client: discord.Client = self._create()
        self._lost_at: float | None = None
        self._work: asyncio.Task[None] | None = None

    def _create(self) -> "discord.Client":
        library, config = self._library, self._config
        intents = library.Intents.default()
        intents.typing = False
        intents.message_content = config.message_content
        pings = {name: name in config.allowed_mentions for name in ("users", "roles", "everyone")}
        options: dict[str, Any] = {
            "intents": intents,
            "allowed_mentions": library.AllowedMentions(replied_user=False, **pings),
            "member_cache_flags": library.MemberCacheFlags.none(),
            "chunk_guilds_at_startup": False,
            "max_messages": MESSAGES_KEPT,
            "max_ratelimit_timeout": LONGEST_LIMIT_S,
        }
        if config.presence:
            options["activity"] = library.CustomActivity(name=config.presence)
        if config.shards == 1:
            client = library.Client(**options)
        else:
            count = None if config.shards == "auto" else config.shards
            client = library.AutoShardedClient(shard_count=count, **options)
        for name in ("on_disconnect", "on_resumed", "on_ready"):
            setattr(client, name, getattr(self, f"_{name}"))
        return client  # type: ignore[no-any-return]

    async def open(self) -> None:
        """Log in and connect; return once the bot is ready.

        Raises:
            PermanentFailure: The token or an intent is refused; the text states where to get them.
            RetryLater: Discord wants the bot to wait.
        """
        try:
            await self._log_in()
            await self._check_session_starts()
            await self._connect()
        except BaseException:
            await self.client.close()
            raise
        self._runtime.spawn(self._run(), "gateway")
        if not self._config.message_content:
            self._runtime.warn("intent", "mentions and commands only: message_content is false")

    async def _connect(self) -> None:
        self._work = asyncio.ensure_future(self.client.connect())
        ready = asyncio.ensure_future(self.client.wait_until_ready())
        try:
            await asyncio.wait(
                {self._work, ready}, timeout=READY_S, return_when=asyncio.FIRST_COMPLETED
            )
            if self._work.done():
                await self._run()  # raises what ended it
            if not ready.done():
                raise TimeoutError(f"Discord's gateway did not greet the bot within {READY_S:g} s")
        except BaseException:
            self._work.cancel()
            raise
        finally:
            ready.cancel()

    async def close(self) -> None:
        """Leave the gateway, and close all connections."""
        await self.client.close()

    async def _log_in(self) -> None:
        token = self._runtime.get_setting(TOKEN)
        if not token:
            raise PermanentFailure(
                f"there is no {TOKEN}: set it, and name it in the `secrets` of this service; a "
                f"bot's token is at {PORTAL}, under Bot"
            )
        try:
            await self.client.login(str(token))
        except self._library.LoginFailure as error:
            raise PermanentFailure(
                f"Discord refuses the token in {TOKEN}: get a new one at {PORTAL}, under Bot, "
                "Reset Token"
            ) from error
        except self._library.HTTPException as error:
            raise _later(error) or error from error

    async def _check_session_starts(self) -> None:
        """Leave a reserve of the day's session starts: one who uses them up loses the token."""
        route = self._library.http.Route("GET", "/gateway/bot")
        try:
            found = await self.client.http.request(route)
        except self._library.HTTPException as error:
            log.warning("the number of session starts is not known: %s", error)
            return
        limit = found.get("session_start_limit") or {}
        left, reset = limit.get("remaining"), limit.get("reset_after", 0) / 1000
        if isinstance(left, int) and left < self._config.session_reserve:
            raise RetryLater(
                max(reset, 1.0),
                f"{left} session starts are left today, session_reserve is "
                f"{self._config.session_reserve}",
            )

    async def _run(self) -> None:
        """Run until the connection ends for good, which ends the service."""
        assert self._work is not None
        try:
            await self._work
        except self._library.PrivilegedIntentsRequired as error:
            raise PermanentFailure(
                "Discord refuses the intent message_content: switch Message Content Intent on at "
                f"{PORTAL}, under Bot, or set message_content = false"
            ) from error
        except self._library.ConnectionClosed as error:
            if error.code == BAD_TOKEN:
                raise PermanentFailure(
                    f"Discord refuses the token in {TOKEN}: get a new one at {PORTAL}, under Bot"
                ) from error
            raise
        raise ConnectionError("the connection to Discord has ended")

    # --- what `status` shows ------------------------------------------------------------------

    async def _on_ready(self) -> None:
        self._restored()

    async def _on_resumed(self) -> None:
        self._restored()

    async def _on_disconnect(self) -> None:
        if self._lost_at is None:
            self._lost_at = time.monotonic()
            self._runtime.warn("gateway", "not connected to Discord: it reconnects by itself")

    def _restored(self) -> None:
        self._lost_at = None
        self._runtime.warn("gateway", None)

    def report(self) -> None:
        """Show numbers in `garrison status`."""
        facts = {"guilds": float(len(self.client.guilds))}
        if self.client.is_ready():
            facts["latency_ms"] = round(self.client.latency * 1000, 1)
        self._runtime.report(**facts)


def _later(error: Any) -> RetryLater | None:
    """Return when a refused login may be tried again, if Discord says so."""
    if error.status != 429:
        return None
    seconds = error.response.headers.get("Retry-After", "60")
    try:
        return RetryLater(float(seconds), "Discord limits the bot's logins")
    except ValueError:
        return RetryLater(60.0, "Discord limits the bot's logins")


def _point_to(library: Any, base_url: str) -> None:
    """Have the library speak with a server that has Discord's API."""
    import yarl

    url = yarl.URL(base_url)
    library.http.Route.BASE = f"{base_url.rstrip('/')}/api/v10"
    scheme = "wss" if url.scheme == "https" else "ws"
    library.gateway.DiscordWebSocket.DEFAULT_GATEWAY = url.with_scheme(scheme) / "gateway" / ""
