"""Discord's wire on loopback: simcord's model of it behind REST and a gateway. `python -m …`.

simcord has the semantics in process: permissions, error codes, payloads. What it leaves out and a
bot that must not say anything twice needs is added here: a nonce with `enforce_nonce` is one
message for some minutes, one of more than 25 characters is refused, a message's body may be
multipart, and requests may fail in all the ways of `discord_faults`. There is one server with some
channels, one person, and one bot, whose token is any but `bad-…`.

Paths below `/_test/` are for tests; `tests/support/discord_client.py` is their side.
"""

import asyncio
import io
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from simcord import interactions
from simcord._clock import Clock
from simcord.backend import Backend, serializers
from simcord.backend.errors import BackendError
from simcord.backend.models import Interaction
from simcord.enums import InteractionType, MessageType
from simcord.http import (
    FakeHTTPClient as FakeHTTPClient,  # its import registers simcord's routes
)
from simcord.http import router
from tests.support.discord_faults import Faults
from tests.support.discord_gateway import Gateway

API = "/api/v10"
NONCE_LONGEST = 25  # characters
NONCE_KEPT_S = 300.0
LOADING = 1 << 7  # flag of a message whose text is still to come
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


class Bridge:
    """The server, the nonces, the gateway, and a record of arrivals."""

    def __init__(self, channels: list[str], guilds: int = 1) -> None:
        self.backend = backend = Backend(clock=WallClock())
        self.gateway = Gateway(backend)
        self.faults = Faults()
        self.record: list[dict[str, Any]] = []
        self.edits: list[int] = []  # places in the record of messages that changed
        self._places: dict[str, int] = {}  # in the record, by a message's id
        self.repeated = self.synced = 0
        self.starts_left = 1000
        self.shards = 1  # that are recommended
        self._nonces: dict[tuple[str, str], tuple[float, dict[str, Any]]] = {}
        self.person = backend.make_user("ada")
        self.channels: dict[str, int] = {}  # of a further server: NAME-1, NAME-2, …
        for number in range(guilds):
            guild = backend.create_guild("tests" if not number else f"tests-{number}")
            for user in (self.person, backend.bot_user):
                backend.add_member(guild.id, user.id)
            for name in channels:
                made = backend.create_channel(guild.id, name)
                self.channels[f"{name}-{number}" if number else name] = made.id
        self.channels["@ada"] = backend.get_dm_channel(self.person.id).id
        backend.subscribers.append(self._happened)

    # --- REST -------------------------------------------------------------------------------

    async def rest(self, request: web.Request) -> web.StreamResponse:
        """Answer one request of the API."""
        if request.headers.get("Authorization", "").startswith("Bot bad-"):
            return _json({"message": "401: Unauthorized", "code": 0}, 401)
        path = request.path.removeprefix(API)
        if path == "/gateway/bot":
            return _json(self._session_starts())
        return await self.faults.answered(request, path, lambda: self._answer(request, path))

    async def _answer(self, request: web.Request, path: str) -> web.Response:
        """Do what a request wants; return Discord's answer."""
        body, files = await _body(request)
        try:
            if request.method == "POST" and path.endswith("/messages"):
                value = self._create(path, body, files)
            else:
                self.synced += request.method == "PUT" and path.endswith("/commands")
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
        return _json(value) if value is not None else web.Response(status=204)

    def _session_starts(self) -> dict[str, Any]:
        limit = {"total": 1000, "remaining": self.starts_left, "reset_after": 60_000}
        limit["max_concurrency"] = 16
        return {"url": "ws://nowhere.invalid", "shards": self.shards, "session_start_limit": limit}

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

    def _happened(self, event: str, payload: Mapping[str, Any]) -> None:
        """Record a message once its text is there, and send the event to the bots."""
        if event in {"MESSAGE_CREATE", "MESSAGE_UPDATE"} and "author" in payload:
            id = str(payload["id"])
            if id in self._places:
                place = self._places[id]
                self.record[place] = {**self.record[place], **payload}
                self.edits.append(place)
            elif not payload.get("flags", 0) & LOADING:
                self._note(id, {**payload})
        self.gateway.happened(event, payload)

    def _note(self, id: str, payload: dict[str, Any]) -> None:
        self._places[id] = len(self.record)
        self.record.append({**payload, "at": time.monotonic()})

    # --- tests ------------------------------------------------------------------------------

    async def test(self, request: web.Request) -> web.Response:
        """Do what a test asks."""
        asked, what = await request.json(), request.match_info["what"]
        channel = self.channels.get(asked.pop("channel", ""), 0)
        done = self._observed(what, asked) or self._acted(what, channel, asked)
        return _json(done or {"message": f"no {what}"}, 200 if done else 404)

    def _observed(self, what: str, asked: dict[str, Any]) -> dict[str, Any] | None:
        """Return what a test wants to know, or change how the server behaves; None: neither."""
        match what:
            case "record":
                names = {str(id): name for name, id in self.channels.items()}
                rows = [_row(one, names) for one in self.record[asked["after"] :]]
                edits = [
                    (place, _row(self.record[place], names))
                    for place in self.edits[asked["edited"] :]
                ]
                return {"messages": rows, "edits": edits, **self._counts()}
            case "channels":
                return {name: str(id) for name, id in self.channels.items()}
            case "gateway":
                gateway = self.gateway
                return {"identified": gateway.identified, "resumed": gateway.resumed}
            case "commands":
                found = self.backend.commands.get(None, {})
                return {"synced": self.synced, "commands": list(found.values())}
            case "set":
                self.starts_left = asked.get("starts", self.starts_left)
                self.shards = asked.get("shards", self.shards)
            case "fault":
                self.faults.add(asked)
            case "deafen":
                self.gateway.deafen()
            case "disconnect":
                self.gateway.disconnect(asked["keep"])
            case _:
                return None
        return {"faults": self.faults.done}

    def _counts(self) -> dict[str, Any]:
        """Return numbers, and the interactions that the bot has let pass."""
        now, all_of_them = self.backend.now_iso(), self.backend.interactions.values()
        taken = {_question(one) for one in all_of_them if one.responded}
        passed = {
            _question(one)
            for one in all_of_them
            if not one.responded and now > (one.initial_response_deadline or "")
        }
        return {
            "repeated": self.repeated,
            "bots": len(self.gateway.connected),
            "waiting": sum(one.loading for one in all_of_them),
            "passed": sorted(passed - taken),
            "private": [
                one.content
                for channel in self.backend.messages.values()
                for one in channel.values()
                if one.is_ephemeral
            ],
        }

    def _acted(self, what: str, channel: int, asked: dict[str, Any]) -> dict[str, Any] | None:
        """Do as a person does; return the id of what was made."""
        backend, person = self.backend, self.person.id
        message = int(asked.get("id", 0))
        match what:
            case "say":
                file, attachments = asked.get("file"), []
                if file:
                    attachments = [
                        backend.cdn.store_attachment(
                            backend.snowflake(), channel, file, b"a file", None
                        )
                    ]
                text = asked["text"].replace("{bot}", str(backend.bot_user.id))
                said = backend.create_message(channel, person, text, attachments=attachments)
                message = said.id
            case "edit":
                backend.edit_message(channel, message, {"content": asked["text"]})
            case "delete":
                backend.delete_message(channel, message)
            case "react":
                backend.add_reaction(channel, message, asked["emoji"], person)
            case "reactions":
                there = backend.get_message(channel, message)
                shown: dict[str, Any] = dict(serializers.message_payload(backend, there))
                return {"found": {one["emoji"]["name"]: one["count"] for one in shown["reactions"]}}
            case "join":
                message = backend.create_message(
                    channel, person, "joined", message_type=MessageType.NEW_MEMBER
                ).id
            case "thread":
                made = backend.create_thread(channel, asked["name"], person)
                self.channels[asked["name"]] = message = made.id
            case "slash":
                message = self._chose_command(channel, asked)
            case "press":
                message = self._pressed(channel, message, asked)
            case "expire":
                backend.interactions[message].expires_at = backend.now_iso()
            case _:
                return None
        return {"id": str(message)}

    def _chose_command(self, channel: int, asked: dict[str, Any]) -> int:
        """Send a command; its text in the record is that of its options."""
        found = self.backend.commands.get(None, {}).values()
        command = next(one for one in found if one["name"] == asked["name"])
        kinds = {one["name"]: one["type"] for one in command.get("options") or []}
        options = [
            {"name": name, "type": kinds[name], "value": value}
            for name, value in asked["options"].items()
        ]
        data = {"id": command["id"], "name": asked["name"], "type": 1, "options": options}
        id, payload = self._interaction(InteractionType.APPLICATION_COMMAND, channel, data)
        self._asked(f"command-{id}", channel, " ".join(map(str, asked["options"].values())))
        self.gateway.happened("INTERACTION_CREATE", payload)
        return id

    def _pressed(self, channel: int, message: int, asked: dict[str, Any]) -> int:
        """Press the button with a label."""
        stored = self.backend.get_message(channel, message)
        shown: dict[str, Any] = dict(serializers.message_payload(self.backend, stored))
        buttons = [one for row in shown["components"] for one in row["components"]]
        button = next(one for one in buttons if one["label"] == asked["label"])
        if button.get("disabled"):
            raise web.HTTPConflict(text="the button is disabled")
        data = {"component_type": 2, "custom_id": button["custom_id"]}
        id, payload = self._interaction(InteractionType.MESSAGE_COMPONENT, channel, data)
        self.backend.interactions[id].source_message_id = message
        if asked.get("text"):
            self._asked(f"choice-{message}", channel, asked["text"])
        self.gateway.happened("INTERACTION_CREATE", {**payload, "message": shown})
        return id

    def _interaction(
        self, kind: InteractionType, channel: int, data: dict[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        made, payload = interactions.base_payload(
            self.backend,
            type=kind,
            channel_id=channel,
            guild_id=self.backend.get_channel(channel).guild_id,
            user_id=self.person.id,
            data=data,
        )
        return made.id, payload

    def _asked(self, id: str, channel: int, text: str) -> None:
        """Record a question that is no message."""
        position = self.backend.snowflake()
        payload = {"id": id, "channel_id": str(channel), "content": text, "author": {}}
        self._note(id, {**payload, "position": position})


def _question(one: Interaction) -> str:
    """Return the id of an interaction's question in the record."""
    press = one.source_message_id
    return f"choice-{press}" if press else f"command-{one.id}"


def _row(payload: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Return one message as tests read it."""
    command, replied = payload.get("interaction_metadata"), payload.get("message_reference") or {}
    return {
        "id": payload["id"],
        "channel": names[payload["channel_id"]],
        "position": payload.get("position") or int(payload["id"]),
        "text": payload["content"],
        "at": payload["at"],
        "bot": payload["author"].get("bot", False),
        "nonce": "",
        "files": [one["filename"] for one in payload.get("attachments") or []],
        "choices": [
            one["label"]
            for row in payload.get("components") or []
            for one in row["components"]
            if not one.get("disabled")
        ],
        "is_response": bool(command),
        "reply_to": f"command-{command['id']}" if command else replied.get("message_id", ""),
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


async def main(channels: list[str], guilds: int, listening: Callable[[int], None]) -> None:
    """Serve on a free port of 127.0.0.1 until standard input ends."""
    bridge = Bridge(channels, guilds)
    app = web.Application(client_max_size=MULTIPART_MOST)
    app.router.add_get("/gateway/", bridge.gateway.serve)
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
    asyncio.run(main(sys.argv[2:], int(sys.argv[1]), lambda port: print(port, flush=True)))
