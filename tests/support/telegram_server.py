"""Telegram's Bot API on loopback, as a bot meets it, with faults on the wire. `python -m …`.

As the real one: an update is kept until a poll with a higher offset, a second poll ends the first
with 409, a webhook is sent an update until it answers 200, chats side by side. The token is any but
`bad`. A chat's id above 0 is a person, below 0 a group; a room is `CHAT` or `CHAT/TOPIC`.

Paths below `/_test/` are for tests; `tests/support/telegram_client.py` is their side.
"""

import asyncio
import base64
import contextlib
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from aiohttp import ClientError, ClientSession, ClientTimeout, web

BOT = {"id": 4242, "is_bot": True, "first_name": "Garrison", "username": "garrison_bot"}
PERSON = {"id": 77, "is_bot": False, "first_name": "Ada", "username": "ada", "language_code": "en"}
TEXT_MOST, CAPTION_MOST, DATA_MOST = 4096, 1024, 64
HOOK_AGAIN_S = 0.1
FILES = ("photo", "document", "voice", "audio", "video", "animation")


class Refused(Exception):
    """The API refuses a call."""

    def __init__(self, status: int, why: str, **parameters: Any) -> None:
        super().__init__(why)
        self.status, self.why, self.parameters = status, why, parameters


@dataclass
class Fault:
    """What becomes of the next calls of a method."""

    kind: str
    times: int = 1
    seconds: float = 0.0
    chat: int = 0


@dataclass
class Hook:
    """The webhook that the bot has set."""

    url: str = ""
    secret: str = ""
    error: str = ""
    error_at: int = 0


@dataclass
class State:
    """All that the server knows."""

    updates: list[dict[str, Any]] = field(default_factory=list)  # not confirmed
    record: list[dict[str, Any]] = field(default_factory=list)  # messages, in order
    calls: list[str] = field(default_factory=list)  # names of methods
    presses: list[str] = field(default_factory=list)  # that were acknowledged
    faults: dict[str, Fault] = field(default_factory=dict)  # by method
    files: dict[str, bytes] = field(default_factory=dict)
    commands: list[dict[str, str]] = field(default_factory=list)
    typing: list[str] = field(default_factory=list)
    sent: dict[int, dict[str, Any]] = field(default_factory=dict)  # messages, by id
    hook: Hook = field(default_factory=Hook)
    hook_at: str = ""  # where `https://…` is, in plain HTTP
    update_id: int = 1000
    message_id: int = 0


class Server:
    """The API and its record."""

    def __init__(self) -> None:
        self.state = State()
        self.changed = asyncio.Condition()
        self.poll = 0  # number of the newest one
        self.polling = 0
        self._lanes: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._sending: set[asyncio.Task[None]] = set()
        self._http: ClientSession | None = None

    # --- the API ------------------------------------------------------------------------------

    async def api(self, request: web.Request) -> web.StreamResponse:
        """Answer one call."""
        method = request.match_info["method"]
        token = request.match_info["token"]
        if token.startswith("bad"):
            return _error(401, "Unauthorized")
        try:
            arguments, files = await _arguments(request)
        except ConnectionError:  # the bot was killed
            return web.Response(status=400)
        fault = self._fault(method)
        if fault is not None:
            early = await self._before(fault, request)
            if early is not None:
                return early
        self.state.calls.append(method)
        try:
            handler = getattr(self, f"call_{method}", None)
            if handler is None and method.startswith("send"):
                result = self._send_file(method, arguments, files)
            elif handler is None:
                raise Refused(404, "Not Found")
            else:
                result = handler(arguments)
                result = await result if asyncio.iscoroutine(result) else result
        except Refused as error:
            return _error(error.status, error.why, error.parameters)
        if fault is not None:
            late = await self._after(fault, request, result)
            if late is not None:
                return late
        return web.json_response({"ok": True, "result": result})

    def _fault(self, method: str) -> Fault | None:
        fault = self.state.faults.get(method)
        if fault is None:
            return None
        fault.times -= 1
        if fault.times <= 0:
            del self.state.faults[method]
        return fault

    async def _before(self, fault: Fault, request: web.Request) -> web.StreamResponse | None:
        """Do what a fault does before the call arrives."""
        match fault.kind:
            case "429":
                wait = int(fault.seconds)
                why = f"Too Many Requests: retry after {wait}"
                return _error(429, why, {"retry_after": wait})
            case "500":
                return _error(500, "Internal Server Error")
            case "502":
                return web.Response(status=502, text="<html>Bad Gateway</html>")
            case "401":
                return _error(401, "Unauthorized")
            case "409":
                return _conflict()
            case "lost":
                _abort(request)
                return web.Response()
            case "slow":
                await asyncio.sleep(fault.seconds)
            case "moved":
                why = "Bad Request: group chat was upgraded to a supergroup chat"
                return _error(400, why, {"migrate_to_chat_id": fault.chat})
            case "blocked":
                return _error(403, "Forbidden: bot was blocked by the user")
        return None

    async def _after(
        self, fault: Fault, request: web.Request, result: Any
    ) -> web.StreamResponse | None:
        """Do what a fault does once the call has arrived."""
        match fault.kind:
            case "cut":
                _abort(request)
                return web.Response()
            case "half":
                body = json.dumps({"ok": True, "result": result}).encode()
                answer = web.StreamResponse(headers={"Content-Length": str(len(body))})
                answer.content_type = "application/json"
                await answer.prepare(request)
                await answer.write(body[: len(body) // 2])
                _abort(request)
                return answer
            case "garbled":
                return web.Response(text='{"ok": tr', content_type="application/json")
            case "500 after":
                return _error(500, "Internal Server Error")
        return None

    def call_getMe(self, _: dict[str, Any]) -> dict[str, Any]:
        return {**BOT, "can_join_groups": True, "can_read_all_group_messages": False}

    def call_getWebhookInfo(self, _: dict[str, Any]) -> dict[str, Any]:
        hook = self.state.hook
        about: dict[str, Any] = {
            "url": hook.url,
            "has_custom_certificate": False,
            "pending_update_count": len(self.state.updates),
        }
        if hook.error_at:
            about |= {"last_error_date": hook.error_at, "last_error_message": hook.error}
        return about

    def call_setWebhook(self, given: dict[str, Any]) -> bool:
        if given["url"] and urlsplit(given["url"]).scheme != "https":
            raise Refused(400, "Bad Request: bad webhook: An HTTPS URL must be provided")
        self.state.hook = Hook(given["url"], given.get("secret_token", ""))
        for update in self.state.updates:
            self._send_hook(update)
        return True

    def call_deleteWebhook(self, _: dict[str, Any]) -> bool:
        self.state.hook = Hook()
        return True

    async def call_getUpdates(self, given: dict[str, Any]) -> list[dict[str, Any]]:
        state = self.state
        if state.hook.url:
            why = "can't use getUpdates method while webhook is active; use deleteWebhook"
            raise Refused(409, f"Conflict: {why} to delete the webhook first")
        offset, limit = int(given.get("offset", 0)), int(given.get("limit", 100))
        self.poll += 1
        mine = self.poll
        state.updates = [one for one in state.updates if one["update_id"] >= offset]
        self.polling += 1
        try:
            async with self.changed:
                self.changed.notify_all()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(float(given.get("timeout", 0)) or 0.001):
                        await self.changed.wait_for(lambda: state.updates or self.poll != mine)
        finally:
            self.polling -= 1
        if self.poll != mine:
            why = "terminated by other getUpdates request; make sure that only one bot instance"
            raise Refused(409, f"Conflict: {why} is running")
        return state.updates[:limit]

    def call_sendMessage(self, given: dict[str, Any]) -> dict[str, Any]:
        text = given.get("text", "")
        if not text.strip():
            raise Refused(400, "Bad Request: message text is empty")
        if len(text.encode("utf-16-le")) // 2 > TEXT_MOST:
            raise Refused(400, "Bad Request: message is too long")
        return self._sent(given, text)

    def call_sendMediaGroup(self, given: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            self._sent(given, one.get("caption", ""), files=[one["type"]])
            for one in json.loads(given["media"])
        ]

    def call_sendChatAction(self, given: dict[str, Any]) -> bool:
        self.state.typing.append(_room(given))
        return True

    def call_getFile(self, given: dict[str, Any]) -> dict[str, Any]:
        data = self.state.files.get(given["file_id"])
        if data is None:
            raise Refused(400, "Bad Request: wrong file_id or the file is temporarily unavailable")
        about = {"file_id": given["file_id"], "file_unique_id": "u", "file_size": len(data)}
        return {**about, "file_path": f"documents/{given['file_id']}"}

    def call_answerCallbackQuery(self, given: dict[str, Any]) -> bool:
        self.state.presses.append(given["callback_query_id"])
        return True

    def call_editMessageReplyMarkup(self, given: dict[str, Any]) -> dict[str, Any]:
        message = self.state.sent[int(given["message_id"])]
        message.pop("reply_markup", None)
        return message

    def call_getMyCommands(self, _: dict[str, Any]) -> list[dict[str, str]]:
        return self.state.commands

    def call_setMyCommands(self, given: dict[str, Any]) -> bool:
        self.state.commands = json.loads(given["commands"])
        return True

    def _send_file(
        self, method: str, given: dict[str, Any], files: dict[str, str]
    ) -> dict[str, Any]:
        kind = method.removeprefix("send").lower()
        if kind not in FILES:
            raise Refused(404, "Not Found")
        if str(given.get(kind, "")).startswith("http"):
            raise Refused(400, "Bad Request: failed to get HTTP URL content")
        if len(given.get("caption", "")) > CAPTION_MOST:
            raise Refused(400, "Bad Request: message caption is too long")
        names = list(files.values()) or [str(given[kind])]
        return self._sent(given, given.get("caption", ""), files=names)

    def _sent(
        self, given: dict[str, Any], text: str, files: list[str] | None = None
    ) -> dict[str, Any]:
        """Record a message of the bot; return it."""
        _check_markup(text, given.get("parse_mode", ""))
        chat = str(given["chat_id"])
        if not chat.removeprefix("-").isdigit() or chat == "404":
            raise Refused(400, "Bad Request: chat not found")
        thread = given.get("message_thread_id")
        message = self._message(_room(given), text, BOT, int(thread) if thread else None)
        reply = json.loads(given.get("reply_parameters") or "{}")
        if given.get("reply_markup"):
            message["reply_markup"] = json.loads(given["reply_markup"])
            _check_buttons(message["reply_markup"])
        self.state.sent[message["message_id"]] = message
        self._note(message, True, str(reply.get("message_id", "")), files or [])
        return message

    # --- what people do -----------------------------------------------------------------------

    def _message(
        self, room: str, text: str, sender: dict[str, Any], thread: int | None = None
    ) -> dict[str, Any]:
        self.state.message_id += 1
        chat, _, topic = room.partition("/")
        message: dict[str, Any] = {
            "message_id": self.state.message_id,
            "date": int(time.time()),
            "chat": _chat(int(chat)),
            "from": sender,
        }
        if text:
            message |= {"text": text, "entities": _entities(text)}
        if topic or thread:
            message |= {"message_thread_id": int(topic or thread or 0), "is_topic_message": True}
        return message

    def _note(
        self, message: dict[str, Any], bot: bool, reply_to: str = "", files: list[str] | None = None
    ) -> None:
        topic = message.get("message_thread_id")
        chat = str(message["chat"]["id"])
        row = {
            "id": str(message["message_id"]),
            "channel": f"{chat}/{topic}" if topic else chat,
            "position": message["message_id"],
            "text": message.get("text", ""),
            "at": time.monotonic(),
            "bot": bot,
            "reply_to": reply_to,
            "files": files or [],
        }
        self.state.record.append(row)

    async def update(self, kind: str, content: dict[str, Any]) -> None:
        """Keep an update until the bot has confirmed it."""
        self.state.update_id += 1
        update = {"update_id": self.state.update_id, kind: content}
        self.state.updates.append(update)
        async with self.changed:
            self.changed.notify_all()
        if self.state.hook.url:
            self._send_hook(update)

    def _send_hook(self, update: dict[str, Any]) -> None:
        task = asyncio.create_task(self._hook(update))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _hook(self, update: dict[str, Any]) -> None:
        """Send an update to the webhook until it answers 200; those of a chat in order."""
        state = self.state
        if self._http is None:
            self._http = ClientSession(timeout=ClientTimeout(total=60))
        async with self._lanes[_chat_of(update)]:
            while state.hook.url and update in state.updates:
                hook = state.hook
                headers = {"X-Telegram-Bot-Api-Secret-Token": hook.secret} if hook.secret else {}
                url = state.hook_at + urlsplit(hook.url).path
                try:
                    async with self._http.post(url, json=update, headers=headers) as answer:
                        status = answer.status
                except (ClientError, TimeoutError):
                    hook.error, hook.error_at = "Connection refused", int(time.time())
                else:
                    if status == 200:
                        state.updates.remove(update)
                        return
                    hook.error, hook.error_at = f"Wrong response: {status}", int(time.time())
                await asyncio.sleep(HOOK_AGAIN_S)

    async def close(self) -> None:
        """End what is under way."""
        for task in list(self._sending):
            task.cancel()
        if self._http is not None:
            await self._http.close()

    async def test(self, request: web.Request) -> web.Response:
        """Do what a test asks."""
        asked, state = await request.json(), self.state
        match request.match_info["what"]:
            case "say":
                return web.json_response({"id": await self._say(asked)})
            case "update":
                await self.update(asked["kind"], asked["content"])
            case "press":
                message = state.sent[int(asked["message"])]
                rows = message["reply_markup"]["inline_keyboard"]
                data = next(one["callback_data"] for row in rows for one in row
                            if one["text"] == asked["label"])  # fmt: skip
                id = f"{time.monotonic_ns()}"
                query = {"id": id, "from": PERSON, "chat_instance": "c", "data": data}
                await self.update("callback_query", {**query, "message": message})
                return web.json_response({"id": id})
            case "fault":
                method = asked.pop("method")
                state.faults[method] = Fault(**asked)
            case "file":
                state.files[asked["id"]] = base64.b64decode(asked["data"])
            case "hook":
                state.hook_at = asked["at"]
            case "set_hook":
                state.hook = Hook(asked["url"])
            case "record":
                return web.json_response(state.record[asked["after"] :])
            case "state":
                return web.json_response(self._shown())
        return web.json_response({})

    async def _say(self, asked: dict[str, Any]) -> str:
        message = self._message(asked["room"], asked["text"], {**PERSON, **asked["sender"]})
        replied = asked["more"].pop("reply_to", None)
        if replied:
            message["reply_to_message"] = self.state.sent[int(replied)]
        message |= asked["more"]
        self._note(message, False)
        await self.update("message", message)
        return str(message["message_id"])

    def _shown(self) -> dict[str, Any]:
        state = self.state
        return {
            "calls": state.calls,
            "commands": state.commands,
            "hook": state.hook.url,
            "kept": [one["update_id"] for one in state.updates],
            "polling": self.polling,
            "presses": state.presses,
            "sent": {str(id): one for id, one in state.sent.items()},
            "typing": state.typing,
        }

    async def file(self, request: web.Request) -> web.Response:
        """Return a file's content."""
        data = self.state.files.get(request.match_info["id"])
        return web.Response(body=data) if data is not None else web.Response(status=404)


def _chat(id: int) -> dict[str, Any]:
    if id > 0:
        return {"id": id, "type": "private", "first_name": "Ada", "username": "ada"}
    return {"id": id, "type": "supergroup", "title": f"Group {-id}", "is_forum": True}


def _chat_of(update: dict[str, Any]) -> int:
    for one in update.values():
        if isinstance(one, dict):
            found = one.get("chat") or one.get("message", {}).get("chat", {})
            return int(found.get("id", 0))
    return 0


def _room(given: dict[str, Any]) -> str:
    thread = given.get("message_thread_id")
    return f"{given['chat_id']}/{thread}" if thread else str(given["chat_id"])


def _entities(text: str) -> list[dict[str, Any]]:
    """Return the entities of plain words: mentions and commands."""
    found, at = [], 0
    for word in text.split(" "):
        kind = {"@": "mention", "/": "bot_command"}.get(word[:1])
        if kind and len(word) > 1:
            length = len(word.encode("utf-16-le")) // 2
            found.append({"type": kind, "offset": at, "length": length})
        at += len(word.encode("utf-16-le")) // 2 + 1
    return found


def _check_markup(text: str, mode: str) -> None:
    is_bad = text.count("*") % 2 if mode.startswith("Markdown") else text.count("<") % 2
    if mode and is_bad:
        why = "can't parse entities: Can't find end of the entity starting at byte offset 0"
        raise Refused(400, f"Bad Request: {why}")


def _check_buttons(markup: dict[str, Any]) -> None:
    for row in markup["inline_keyboard"]:
        for one in row:
            if not 1 <= len(one["callback_data"].encode()) <= DATA_MOST:
                raise Refused(400, "Bad Request: BUTTON_DATA_INVALID")


def _error(status: int, why: str, parameters: dict[str, Any] | None = None) -> web.Response:
    body: dict[str, Any] = {"ok": False, "error_code": status, "description": why}
    if parameters:
        body["parameters"] = parameters
    return web.json_response(body, status=status)


def _conflict() -> web.Response:
    why = "terminated by other getUpdates request; make sure that only one bot instance is running"
    return _error(409, f"Conflict: {why}")


def _abort(request: web.Request) -> None:
    assert request.transport is not None
    request.transport.abort()


async def _arguments(request: web.Request) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the arguments of a call, and the names of its files by their fields."""
    if request.content_type == "application/json":
        return await request.json(), {}
    given: dict[str, Any] = {}
    files: dict[str, str] = {}
    for name, value in (await request.post()).items():
        if isinstance(value, web.FileField):
            files[name] = value.filename
        else:
            given[name] = value
    return given | dict(request.query.items()), files


async def main(listening: Callable[[int], None]) -> None:
    """Serve on a free port of 127.0.0.1 until standard input ends."""
    server = Server()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/_test/{what}", server.test)
    app.router.add_get("/file/bot{token}/documents/{id}", server.file)
    app.router.add_route("*", "/bot{token}/{method}", server.api)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        listening(runner.addresses[0][1])
        await asyncio.to_thread(sys.stdin.read)
    finally:
        await server.close()
        await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main(lambda port: print(port, flush=True)))
