"""The connection to Discord: login, session starts, the gateway, and what `status` shows of it."""

import asyncio
import logging
from collections.abc import Callable
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
SHARD_S = 6.0  # Discord lets most bots identify one shard in 5 s
PROBE_S = 5.0  # for the gateway's answer
DEAF = 4000  # close code of a connection that is to be made again: the session can be resumed
MESSAGES_KEPT = 1000  # by the library, for edits and deletions


class SessionLost(RuntimeError):
    """Discord has ended a session: what was sent meanwhile is read after a restart."""


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
        library.VoiceClient.warn_nacl = library.VoiceClient.warn_dave = False  # no voice here
        self.client: discord.Client = self._create()
        self._identify = self.client.before_identify_hook
        setattr(self.client, "before_identify_hook", self._before_identify)  # noqa: B010 (mypy: a method)
        self._is_lost = self._was_ready = False
        self._shards: set[int] = set()  # that have a session
        self._complete = asyncio.Event()  # each server of each shard is there
        self._at_once = 1  # shards that may identify at the same time
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
        handled = ("on_connect", "on_shard_connect", "on_disconnect", "on_resumed", "on_ready")
        for name in handled:
            setattr(client, name, getattr(self, f"_{name}"))
        return client  # type: ignore[no-any-return]

    async def log_in(self) -> str:
        """Log in; return the id of the bot's application.

        Raises:
            PermanentFailure: The token is refused; the text states where to get one.
            RetryLater: Discord wants the bot to wait.
        """
        try:
            await self._log_in()
            await self._check_session_starts()
        except BaseException:
            await self.client.close()
            raise
        return str(self.client.application_id)

    async def open(self, disconnected: Callable[[str], None]) -> None:
        """Connect; return once the bot is ready.

        Args:
            disconnected: Called with the reason when the connection ends for good.

        Raises:
            PermanentFailure: The token or an intent is refused; the text states where to get them.
        """
        try:
            await self._connect()
        except BaseException:
            await self.client.close()
            raise
        self._was_ready = True
        self._runtime.spawn(self._until_end(disconnected), "gateway")
        if not self._config.message_content:
            self._runtime.warn("intent", "mentions and commands only: message_content is false")

    async def _connect(self) -> None:
        self._work = asyncio.ensure_future(self.client.connect())
        # The library's own event comes 2 s after the last server, for those that do not come
        ready = asyncio.ensure_future(self.client.wait_until_ready())
        complete = asyncio.ensure_future(self._complete.wait())
        shards = self.client.shard_count or 1
        wait = READY_S + SHARD_S * (shards - 1) / self._at_once
        if shards > 1:
            self._runtime.extend(wait, f"{shards} shards identify, {self._at_once} in 5 s")
        try:
            await asyncio.wait(
                {self._work, ready, complete}, timeout=wait, return_when=asyncio.FIRST_COMPLETED
            )
            if self._work.done():
                await self._run()  # raises what ended it
            if not (ready.done() or complete.done()):
                raise TimeoutError(f"Discord's gateway did not greet the bot within {wait:g} s")
        except BaseException:
            self._work.cancel()
            raise
        finally:
            ready.cancel()
            complete.cancel()

    async def _before_identify(self, shard: int | None, *, initial: bool = False) -> None:
        """End the connection where a new session would begin: a restart reads what was missed."""
        if self._was_ready:
            raise SessionLost(
                "Discord has ended the bot's session: the service restarts, and reads what was "
                "written meanwhile"
            )
        # The library waits 5 s before each shard but the first
        await self._identify(shard, initial=initial or bool((shard or 0) % self._at_once))

    async def _until_end(self, disconnected: Callable[[str], None]) -> None:
        try:
            await self._run()
        except Exception as error:
            disconnected(str(error))
            raise

    async def close(self) -> None:
        """Leave the gateway, and close all connections."""
        await self.client.close()

    async def request(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request to Discord's API; return its answer."""
        route = self._library.http.Route(method, path)
        options = {} if body is None else {"json": body}
        return await self.client.http.request(route, **options)

    async def probe(self) -> None:
        """Have the gateway answer a question, and the API another.

        A gateway that does not answer is closed: the library connects again, and resumes.

        Raises:
            RuntimeError: One does not answer; the text states what follows.
        """
        user = self.client.user
        for guild in self._one_guild_a_shard():
            try:
                async with asyncio.timeout(PROBE_S):
                    await guild.query_members(user_ids=[user.id if user else 0], cache=False)
            except TimeoutError as error:
                await self._close_gateway(guild.shard_id)
                raise RuntimeError(
                    f"Discord's gateway did not answer within {PROBE_S:g} s; the bot connects again"
                ) from error
        if self._is_lost:
            raise RuntimeError("not connected to Discord: the library tries again by itself")
        await self.request("GET", "/users/@me")

    def _one_guild_a_shard(self) -> "list[discord.Guild]":
        found = {guild.shard_id: guild for guild in self.client.guilds if not guild.unavailable}
        return list(found.values())

    async def _close_gateway(self, shard: int) -> None:
        """Close a connection that is deaf. The library makes another one."""
        socket = self.client._connection._get_websocket(shard_id=shard)
        await socket.close(DEAF)

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
        try:
            found = await self.request("GET", "/gateway/bot")
        except self._library.HTTPException as error:
            log.warning("the number of session starts is not known: %s", error)
            return
        if self._config.shards == "auto":
            self.client.shard_count = int(found.get("shards") or 1)
        limit = found.get("session_start_limit") or {}
        self._at_once = max(int(limit.get("max_concurrency") or 1), 1)
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

    def note_event(self) -> None:
        """Note an event of the gateway: the bot is ready when the last server has come."""
        if self._complete.is_set() or len(self._shards) < (self.client.shard_count or 1):
            return
        if not any(guild.unavailable for guild in self.client.guilds):
            self._complete.set()

    async def _on_connect(self) -> None:
        if self._config.shards == 1:
            self._shards.add(0)
            self.note_event()

    async def _on_shard_connect(self, shard: int) -> None:
        self._shards.add(shard)
        self.note_event()

    async def _on_ready(self) -> None:
        self._restored()

    async def _on_resumed(self) -> None:
        self._restored()

    async def _on_disconnect(self) -> None:
        self._is_lost = True
        self._runtime.warn("gateway", "not connected to Discord: it reconnects by itself")

    def _restored(self) -> None:
        self._is_lost = False
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
