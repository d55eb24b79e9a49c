"""Warms the library: the launcher imports this module before it forks workers.

A first call imports modules, builds the readers of answers, and loads certificates. Workers share
what the launcher has loaded. Nothing leaves this process: answers come from memory, and the failed
call connects to a port of this machine at which nothing listens.
"""

import asyncio
import contextlib
import json
import os
import socket
from typing import Any

from garrison.workers import load_library

from .incoming import Bot, memory_of
from .tls import tls_context

CHAT = {"id": 1, "type": "private", "first_name": "A"}
USER = {"id": 2, "is_bot": True, "first_name": "A", "username": "a"}
MESSAGE = {"message_id": 1, "date": 1, "chat": CHAT, "from": USER, "text": "Hello"}
RESULTS: dict[str, Any] = {
    "getMe": USER,
    "getUpdates": [{"update_id": 1, "message": MESSAGE}],
    "getWebhookInfo": {"url": "", "has_custom_certificate": False, "pending_update_count": 0},
    "getMyCommands": [],
    "sendMessage": MESSAGE,
    "sendChatAction": True,
}
TIMEOUT_S = 5.0


async def _warm() -> None:
    library = load_library("telegram", "python-telegram-bot")
    request = load_library("telegram.request", "python-telegram-bot")
    http = load_library("httpx", "python-telegram-bot")

    def answer(request: Any) -> Any:
        result = RESULTS[request.url.path.rpartition("/")[2]]
        return http.Response(200, text=json.dumps({"ok": True, "result": result}))

    def bot(root: str, **options: Any) -> Any:
        made = [
            request.HTTPXRequest(
                1, connect_timeout=TIMEOUT_S, httpx_kwargs={"trust_env": False, **options}
            )
            for _ in range(2)
        ]
        return library.Bot("1:warm", f"{root}/bot", request=made[0], get_updates_request=made[1])

    async with bot("http://127.0.0.1", transport=http.MockTransport(answer)) as client:
        (update,) = await client.get_updates(timeout=1, allowed_updates=["message"])
        memory_of(update.message, Bot(client.id, client.username))
        await client.get_webhook_info()
        await client.get_my_commands()
        await client.send_chat_action(1, "typing")
        await client.send_message(1, "Hello", reply_parameters=library.ReplyParameters(1))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        root = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with contextlib.suppress(library.error.TelegramError):
            async with bot(root, verify=tls_context()):
                pass


os.environ.setdefault("PTB_TIMEDELTA", "1")  # or the library warns at each duration
asyncio.run(_warm())
