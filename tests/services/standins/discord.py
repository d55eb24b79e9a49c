"""Stands in for discord.py: its client, with Discord itself replaced by a test's Unix socket.

`DISCORD_STAND_IN` is the socket's path; `tests/support/counterparts.py` is the other side. A line
each way is a JSON object.
"""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

__version__ = "0.0.stand-in"

log = logging.getLogger(__name__)

RECONNECT_S = 0.1


class LoginFailure(Exception):
    """The token is refused."""


class NotFound(Exception):
    """There is no such channel or message."""


class Forbidden(Exception):
    """The bot may not do that."""


class Object:
    """Anything that has an id."""

    def __init__(self, id: int) -> None:
        self.id = id


class Reference:
    """What a message replies to."""

    def __init__(self, message_id: int) -> None:
        self.message_id = message_id


class Intents:
    """The kinds of events that a client receives."""

    message_content: bool = False

    @classmethod
    def default(cls) -> "Intents":
        """Return the default ones, without the content of messages."""
        return cls()


class User:
    """Somebody, or a bot."""

    def __init__(self, number: int, name: str, bot: bool = False) -> None:
        self.id, self.name, self.display_name, self.bot = number, name, name, bot


class Message:
    """A message of a user."""

    reference: Reference | None = None
    guild: "Guild | None"

    def __init__(
        self, number: int, author: User | None, content: str, channel: "PartialMessageable"
    ) -> None:
        self.id, self.author, self.content, self.channel = (
            number,
            author or User(0, ""),
            content,
            channel,
        )
        self.created_at = datetime.now(UTC)
        self.guild = Guild()
        self.mentions: list[User] = []


class PartialMessage:
    """A message of which no more than its number need be known."""

    def __init__(self, number: int) -> None:
        self.id = number


class PartialMessageable:
    """A channel, of which no more than its number need be known."""

    def __init__(self, client: "Client", number: int) -> None:
        self.id, self._client = number, client

    async def send(
        self, content: str, *, nonce: str = "", reference: PartialMessage | None = None
    ) -> Message:
        """Send a text."""
        return await self._client._send(self, content)

    def get_partial_message(self, number: int) -> PartialMessage:
        """Return a message to refer to."""
        return PartialMessage(number)

    async def history(
        self, *, limit: int | None = 100, after: Object | None = None
    ) -> AsyncIterator[Message]:
        """Yield nothing: it is not kept."""
        messages: list[Message] = []
        for message in messages:
            yield message


class Guild:
    """A server."""

    id = 1
    text_channels: list[PartialMessageable] = []


class Client:
    """A bot's connection."""

    def __init__(self, *, intents: Intents) -> None:
        self.user: User | None = None
        self.guilds: list[Guild] = []
        self._intents = intents
        self._token = ""
        self._sent = 0
        self._ready = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self._handlers: dict[str, Callable[..., Awaitable[None]]] = {}
        self._handling: set[asyncio.Task[None]] = set()

    def event(self, handler: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        """Register a handler."""
        self._handlers[handler.__name__] = handler
        return handler

    async def login(self, token: str) -> None:
        """Take a token, or refuse it."""
        log.info("logging in using static token")
        if token == "bad":
            raise LoginFailure("Improper token has been passed.")
        self._token = token
        self.user = User(1, "bot", bot=True)

    async def connect(self) -> None:
        """Stay connected until closed; a connection that is lost is made again."""
        while True:
            try:
                reader, self._writer = await asyncio.open_unix_connection(
                    os.environ["DISCORD_STAND_IN"]
                )
                self._write({"token": self._token})
                self._ready.set()
                async for line in reader:
                    self._receive(json.loads(line))
            except OSError:
                pass
            await asyncio.sleep(RECONNECT_S)

    async def start(self, token: str) -> None:
        """Log in and stay connected until closed."""
        await self.login(token)
        await self.connect()

    async def wait_until_ready(self) -> None:
        """Return when connected."""
        await self._ready.wait()

    def get_partial_messageable(self, number: int) -> PartialMessageable:
        """Return a channel to send to."""
        return PartialMessageable(self, number)

    async def close(self) -> None:
        """Disconnect."""
        if self._writer is not None:
            self._writer.close()

    def _receive(self, event: dict[str, Any]) -> None:
        author = User(event["author"], event["name"], event["bot"])
        text = event["text"] if self._intents.message_content else ""
        message = Message(event["id"], author, text, PartialMessageable(self, event["channel"]))
        if handler := self._handlers.get("on_message"):
            task = asyncio.create_task(_handled(handler, message))
            self._handling.add(task)
            task.add_done_callback(self._handling.discard)

    async def _send(self, channel: PartialMessageable, text: str) -> Message:
        self._sent += 1
        assert self.user is not None
        self._write({"id": self._sent, "channel": channel.id, "text": text})
        return Message(self._sent, self.user, text, channel)

    def _write(self, event: dict[str, Any]) -> None:
        assert self._writer is not None
        self._writer.write(json.dumps(event).encode() + b"\n")


async def _handled(handler: Callable[..., Awaitable[None]], message: Message) -> None:
    """Run a handler; what it raises is logged, and that is all."""
    try:
        await handler(message)
    except Exception:
        log.exception("Ignoring exception in on_message")
