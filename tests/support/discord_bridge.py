"""Discord's wire on loopback: simcord's model of it behind REST and a gateway. `python -m …`.

simcord has the semantics in process: permissions, error codes, payloads. What it leaves out and a
bot that must not say anything twice needs is added here: a nonce with `enforce_nonce` is one
message for some minutes, one of more than 25 characters is refused, a message's body may be
multipart, and a connection may end after a message has arrived. There is one server with some
channels, one person, and one bot, whose token is any but `bad`.

Paths below `/_test/` are for tests; `tests/support/discord_client.py` is their side.
"""

import asyncio
import contextlib
import io
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import discord
from aiohttp import WSMsgType, web
from simcord import intents as intents_of_events
from simcord._clock import Clock
from simcord.backend import Backend, serializers
from simcord.backend.errors import BackendError
from simcord.http import (
    FakeHTTPClient as FakeHTTPClient,  # its import registers simcord's routes
)
from simcord.http import router

API = "/api/v10"
NONCE_LONGEST = 25  # characters
NONCE_KEPT_S = 300.0
HEARTBEAT_MS = 41_250
CLOSED_BAD_TOKEN = 4004  # "Authentication failed"
MULTIPART_MOST = 32 * 1024 * 1024  # bytes


class WallClock(Clock):
    """The time of day, so that ids and times of messages are of now."""

    def now(self) -> datetime:
        """Return it."""
        return datetime.now(UTC)


@dataclass
class Upload:
    """One file of a multipart body, as simcord's routes read them."""

    filename: str
    fp: io.BytesIO
    description: str | None = None


@dataclass
class Bot:
    """One identified connection to the gateway."""

    socket: web.WebSocketResponse
    intents: discord.Intents
    sequence: int = 0


class Bridge:
    """The server, the nonces, the connections, and a record of arrivals."""

    def __init__(self, channels: list[str]) -> None:
        self.backend = Backend(clock=WallClock())
        self.bots: list[Bot] = []
        self.record: list[dict[str, Any]] = []
        self.repeated = 0
        self.starts_left = 1000
        self.drops = 0  # next messages after whose arrival the connection ends
        self._nonces: dict[tuple[str, str], tuple[float, dict[str, Any]]] = {}
        self._sending: set[asyncio.Task[None]] = set()
        backend = self.backend
        guild = backend.create_guild("tests")
        self.person = backend.make_user("ada")
        for user in (self.person, backend.bot_user):
            backend.add_member(guild.id, user.id)
        made = [backend.create_channel(guild.id, name) for name in channels]
        self.channels = {str(channel.name): channel.id for channel in made}
        backend.subscribers.append(self._happened)

    # --- REST -------------------------------------------------------------------------------

    async def rest(self, request: web.Request) -> web.StreamResponse:
        """Answer one request of the API."""
        if request.headers.get("Authorization") == "Bot bad":
            return _json({"message": "401: Unauthorized", "code": 0}, 401)
        path = request.path.removeprefix(API)
        if path == "/gateway/bot":
            return _json(self._session_starts())
        body, files = await _body(request)
        creates = request.method == "POST" and path.endswith("/messages")
        try:
            value = self._create(path, body, files) if creates else None
            if value is None:
                value = router.dispatch(
                    self.backend,
                    request.method,
                    path,
                    json=body,
                    params=dict(request.query),
                    files=files,
                )
        except BackendError as error:
            return _json(error.to_json(), error.status)
        if creates and self.drops:
            self.drops -= 1
            assert request.transport is not None
            request.transport.abort()
        return _json(value) if value is not None else web.Response(status=204)

    def _session_starts(self) -> dict[str, Any]:
        limit = {"total": 1000, "remaining": self.starts_left, "reset_after": 60_000}
        return {"url": "ws://nowhere.invalid", "shards": 1, "session_start_limit": limit}

    def _create(self, path: str, body: Any, files: list[Upload]) -> dict[str, Any]:
        """Create a message, or return the one that its nonce has created already."""
        nonce = str(body.get("nonce") or "")
        if len(nonce) > NONCE_LONGEST:
            text = f"nonce: Must be {NONCE_LONGEST} or fewer in length."
            raise BackendError(400, 50035, f"Invalid Form Body\n{text}")
        key, now = (path, nonce), time.monotonic()
        if nonce and body.get("enforce_nonce") and key in self._nonces:
            began, before = self._nonces[key]
            if now < began + NONCE_KEPT_S:
                self.repeated += 1
                return before
        made = router.dispatch(self.backend, "POST", path, json=body, files=files)
        message: dict[str, Any] = {**made, "nonce": nonce} if nonce else made
        if nonce:
            self._nonces[key] = (now, message)
        return message

    # --- the gateway ------------------------------------------------------------------------

    async def gateway(self, request: web.Request) -> web.StreamResponse:
        """Serve one bot's connection. A session is not resumed: the bot identifies anew."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"op": 10, "d": {"heartbeat_interval": HEARTBEAT_MS}})
        bot: Bot | None = None
        try:
            async for frame in socket:
                if frame.type is not WSMsgType.TEXT:
                    break
                sent = json.loads(frame.data)
                match sent["op"]:
                    case 1:
                        await socket.send_json({"op": 11})
                    case 2:
                        bot = await self._identify(socket, sent["d"])
                    case 6:
                        await socket.send_json({"op": 9, "d": False})
        finally:
            if bot in self.bots:
                self.bots.remove(bot)
        return socket

    async def _identify(self, socket: web.WebSocketResponse, data: dict[str, Any]) -> Bot | None:
        if data["token"] == "bad":
            await socket.close(code=CLOSED_BAD_TOKEN, message=b"Authentication failed.")
            return None
        backend = self.backend
        bot = Bot(socket, discord.Intents._from_value(data["intents"]))
        guilds = [{"id": str(id), "unavailable": True} for id in backend.guilds]
        ready = {
            "v": 10,
            "user": dict(serializers.user_payload(backend.bot_user)),
            "guilds": guilds,
            "session_id": "session",
            "resume_gateway_url": f"ws://{data['token']}.invalid",
            "application": {"id": str(backend.application_id), "flags": 0},
        }
        self._send(bot, "READY", ready)
        for guild in backend.guilds.values():
            self._send(bot, "GUILD_CREATE", serializers.guild_create_payload(backend, guild))
        self.bots.append(bot)
        return bot

    def _happened(self, event: str, payload: Mapping[str, Any]) -> None:
        if event == "MESSAGE_CREATE":
            self.record.append({**payload, "at": time.monotonic()})
        for bot in list(self.bots):
            self._send(bot, event, payload)

    def _send(self, bot: Bot, event: str, payload: Mapping[str, Any]) -> None:
        gate = intents_of_events.required_intent(event, payload)
        if gate is not None and not getattr(bot.intents, gate):
            return
        data: dict[str, Any] = json.loads(json.dumps(payload))
        own = self.backend.bot_user.id
        if event == "MESSAGE_CREATE" and not bot.intents.message_content:
            intents_of_events.censor_message(data, own, backend=self.backend)
        if event == "GUILD_CREATE":
            intents_of_events.prune_guild_create(data, bot.intents, own)
        bot.sequence += 1
        frame = {"op": 0, "t": event, "s": bot.sequence, "d": data}
        # Frames are written in the order of these tasks' creation: each writes before it waits.
        task = asyncio.create_task(_written(bot.socket, frame))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    # --- tests ------------------------------------------------------------------------------

    async def test(self, request: web.Request) -> web.Response:
        """Do what a test asks."""
        asked = await request.json()
        match request.match_info["what"]:
            case "say":
                channel = self.channels[asked["channel"]]
                said = self.backend.create_message(channel, self.person.id, asked["text"])
                return _json({"id": str(said.id)})
            case "record":
                names = {str(id): name for name, id in self.channels.items()}
                rows = [_row(one, names) for one in self.record[asked["after"] :]]
                counts = {"repeated": self.repeated, "bots": len(self.bots)}
                return _json({"messages": rows, **counts})
            case "edit":
                channel, id = self.channels[asked["channel"]], int(asked["id"])
                self.backend.edit_message(channel, id, {"content": asked["text"]})
                return _json({})
            case "delete":
                self.backend.delete_message(self.channels[asked["channel"]], int(asked["id"]))
                return _json({})
            case "react":
                channel, id = self.channels[asked["channel"]], int(asked["id"])
                self.backend.add_reaction(channel, id, asked["emoji"], self.person.id)
                return _json({})
            case "starts":
                self.starts_left = asked["left"]
                return _json({})
            case "drop":
                self.drops += asked["times"]
                return _json({})
            case "channels":
                return _json({name: str(id) for name, id in self.channels.items()})
            case unknown:
                return _json({"message": f"no {unknown}"}, 404)


def _row(payload: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Return one message as tests read it."""
    return {
        "id": payload["id"],
        "channel": names[payload["channel_id"]],
        "position": int(payload["id"]),
        "text": payload["content"],
        "at": payload["at"],
        "bot": payload["author"].get("bot", False),
        "nonce": "",
        "files": [one["filename"] for one in payload.get("attachments") or []],
        "reply_to": (payload.get("message_reference") or {}).get("message_id", ""),
    }


def _json(value: object, status: int = 200) -> web.Response:
    # To the letter: the library reads any other type as text, also with a charset behind it
    headers = {"Content-Type": "application/json"}
    return web.Response(body=json.dumps(value).encode(), status=status, headers=headers)


async def _body(request: web.Request) -> tuple[Any, list[Upload]]:
    """Return the JSON of a request, and its files where it is multipart."""
    if not request.content_type.startswith("multipart/"):
        return (await request.json() if request.can_read_body else None), []
    body: Any = None
    files: list[Upload] = []
    posted = await request.post()
    for name, value in posted.items():
        if name == "payload_json":
            assert isinstance(value, str)
            body = json.loads(value)
        elif isinstance(value, web.FileField):
            files.append(Upload(value.filename, io.BytesIO(value.file.read())))
    return body, files


async def _written(socket: web.WebSocketResponse, frame: dict[str, Any]) -> None:
    with contextlib.suppress(ConnectionError):  # the bot was killed
        await socket.send_json(frame)


async def main(channels: list[str], listening: Callable[[int], None]) -> None:
    """Serve on a free port of 127.0.0.1 until standard input ends."""
    bridge = Bridge(channels)
    app = web.Application(client_max_size=MULTIPART_MOST)
    app.router.add_get("/gateway/", bridge.gateway)
    app.router.add_post("/_test/{what}", bridge.test)
    app.router.add_route("*", f"{API}/{{rest:.*}}", bridge.rest)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        listening(runner.addresses[0][1])
        await asyncio.to_thread(sys.stdin.read)
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:], lambda port: print(port, flush=True)))
