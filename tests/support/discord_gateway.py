"""The gateway of the Discord bridge: sessions, shards, resumes, and events in their order.

A session keeps its latest events for a while after its connection has ended; a bot that resumes it
gets what it missed. A shard gets the events of its servers, and direct messages are the first
shard's, as at Discord.
"""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import discord
from aiohttp import WSMsgType, web
from simcord import intents as intents_of_events
from simcord.backend import Backend, serializers

HEARTBEAT_MS = 41_250
CLOSED_BAD_TOKEN = 4004  # "Authentication failed"
EVENTS_KEPT = 1000  # of a session, for a bot that resumes it
SESSIONS_KEPT = 100


@dataclass(eq=False)
class Session:
    """One identified bot, or shard of it; `socket` is None while it is not connected."""

    id: str
    intents: discord.Intents
    identified: dict[str, Any]  # without the token
    socket: web.WebSocketResponse | None
    events: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=EVENTS_KEPT))
    sequence: int = 0

    @property
    def shard(self) -> tuple[int, int]:
        """Return its number, and of how many."""
        number, count = self.identified.get("shard") or (0, 1)
        return number, count


class Gateway:
    """All connections of bots.

    Args:
        backend: simcord's.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.sessions: dict[str, Session] = {}
        self.identified: list[dict[str, Any]] = []  # each identify, in order
        self.resumed = 0
        self._deaf: set[web.WebSocketResponse] = set()  # open connections that carry no events
        self._numbers = 0
        self._sending: set[asyncio.Task[None]] = set()

    @property
    def connected(self) -> list[Session]:
        """Return the sessions that have a connection."""
        return [one for one in self.sessions.values() if one.socket is not None]

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Serve one connection."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"op": 10, "d": {"heartbeat_interval": HEARTBEAT_MS}})
        session: Session | None = None
        try:
            async for frame in socket:
                if frame.type is not WSMsgType.TEXT:
                    break
                sent = json.loads(frame.data)
                match sent["op"]:
                    case 1:
                        await socket.send_json({"op": 11})
                    case 2:
                        session = await self._identify(socket, sent["d"], str(request.url.host))
                    case 6:
                        session = await self._resume(socket, sent["d"])
                    case 8 if session is not None:
                        self._send_members(session, sent["d"])
        finally:
            self._deaf.discard(socket)
            if session is not None and session.socket is socket:
                session.socket = None
        return socket

    def disconnect(self, keep: bool) -> None:
        """End all connections without a word.

        Args:
            keep: Sessions may be resumed.
        """
        for session in self.connected:
            assert session.socket is not None
            transport = session.socket._req.transport if session.socket._req else None
            if transport is not None:
                transport.abort()
            session.socket = None
        if not keep:
            self.sessions.clear()

    def deafen(self) -> None:
        """Have all connections stay open, and carry no events any more."""
        self._deaf |= {one.socket for one in self.connected if one.socket is not None}

    def happened(self, event: str, payload: Mapping[str, Any]) -> None:
        """Send an event to each shard that it concerns."""
        for session in list(self.sessions.values()):
            number, count = session.shard
            guild = payload.get("guild_id") or (payload.get("id") if "GUILD_" in event else None)
            if (int(guild) >> 22) % count == number if guild else number == 0:
                self._send(session, event, payload)

    async def _identify(
        self, socket: web.WebSocketResponse, data: dict[str, Any], host: str
    ) -> Session | None:
        if data.pop("token").startswith("bad-"):
            await socket.close(code=CLOSED_BAD_TOKEN, message=b"Authentication failed.")
            return None
        self.identified.append(data)
        self._numbers += 1
        intents = discord.Intents._from_value(data["intents"])
        session = Session(f"session-{self._numbers}", intents, data, socket)
        backend, (number, count) = self._backend, session.shard
        own = [one for one in backend.guilds.values() if (one.id >> 22) % count == number]
        transport = socket._req.transport if socket._req else None
        port = transport.get_extra_info("sockname")[1] if transport is not None else 0
        ready = {
            "v": 10,
            "user": dict(serializers.user_payload(backend.bot_user)),
            "guilds": [{"id": str(one.id), "unavailable": True} for one in own],
            "session_id": session.id,
            "resume_gateway_url": f"ws://{host}:{port}/gateway/",
            "application": {"id": str(backend.application_id), "flags": 0},
            "shard": [number, count],
        }
        self._send(session, "READY", ready)
        for guild in own:
            self._send(session, "GUILD_CREATE", serializers.guild_create_payload(backend, guild))
        self.sessions[session.id] = session
        if len(self.sessions) > SESSIONS_KEPT:
            self.sessions.pop(next(iter(self.sessions)))
        return session

    async def _resume(self, socket: web.WebSocketResponse, data: dict[str, Any]) -> Session | None:
        session = self.sessions.get(data["session_id"])
        if session is None or session.sequence - data["seq"] > len(session.events):
            await socket.send_json({"op": 9, "d": False})
            return None
        self.resumed += 1
        session.socket = socket
        for frame in [one for one in session.events if one["s"] > data["seq"]]:
            self._write(session, frame)
        self._send(session, "RESUMED", {})
        return session

    def _send_members(self, session: Session, asked: dict[str, Any]) -> None:
        """Answer a request for members of a server."""
        guild = self._backend.get_guild(int(asked["guild_id"]))
        ids = asked.get("user_ids") or []
        wanted = {int(one) for one in ids} if isinstance(ids, list) else {int(ids)}
        members = [
            serializers.member_payload(self._backend, guild, member)
            for id, member in guild.members.items()
            if id in wanted
        ]
        chunk = {
            "guild_id": str(guild.id),
            "members": members,
            "chunk_index": 0,
            "chunk_count": 1,
            "not_found": [],
            "nonce": asked["nonce"],
        }
        self._send(session, "GUILD_MEMBERS_CHUNK", chunk)

    def _send(self, session: Session, event: str, payload: Mapping[str, Any]) -> None:
        gate = intents_of_events.required_intent(event, payload)
        if gate is not None and not getattr(session.intents, gate):
            return
        data: dict[str, Any] = json.loads(json.dumps(payload))
        own = self._backend.bot_user.id
        if event == "MESSAGE_CREATE" and not session.intents.message_content:
            intents_of_events.censor_message(data, own, backend=self._backend)
        if event == "GUILD_CREATE":
            intents_of_events.prune_guild_create(data, session.intents, own)
        session.sequence += 1
        frame = {"op": 0, "t": event, "s": session.sequence, "d": data}
        if event != "RESUMED":
            session.events.append(frame)
        self._write(session, frame)

    def _write(self, session: Session, frame: dict[str, Any]) -> None:
        if session.socket is None or session.socket in self._deaf:
            return
        # Frames are written in the order of these tasks' creation: each writes before it waits.
        task = asyncio.create_task(_written(session.socket, frame))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)


async def _written(socket: web.WebSocketResponse, frame: dict[str, Any]) -> None:
    with contextlib.suppress(ConnectionError):  # the bot was killed
        await socket.send_json(frame)
