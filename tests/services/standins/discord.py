"""Stands in for discord.py: a client that connects to nobody, and channels that remember."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any


class Intents:
    """What a client wants to hear of."""

    @classmethod
    def default(cls) -> "Intents":
        """Return the usual ones."""
        return cls()


class Message:
    """A message somebody sent."""

    def __init__(self, author: object, content: str, channel: "Channel") -> None:
        self.author, self.content, self.channel, self.id = author, content, channel, 7


class Channel:
    """A channel that writes what is sent to a file."""

    def __init__(self, number: int) -> None:
        self.id = number

    async def send(self, text: str) -> Message:
        """Send a text."""
        with Path(os.environ["DISCORD_STAND_IN"]).open("a") as out:  # noqa: ASYNC230 (a stand-in)
            out.write(f"{os.environ['DISCORD_TOKEN']} {self.id} {text}\n")
        return Message(None, text, self)


class Client:
    """A bot's connection."""

    def __init__(self, *, intents: Intents) -> None:
        self.user: Any = object()
        self._ready = asyncio.Event()
        self._handlers: dict[str, Callable[..., Awaitable[None]]] = {}

    def event(self, handler: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        """Register a handler."""
        self._handlers[handler.__name__] = handler
        return handler

    async def login(self, token: str) -> None:
        """Take a token, or refuse it."""
        if token == "bad":
            raise RuntimeError("Improper token has been passed.")

    async def connect(self) -> None:
        """Stay connected until closed."""
        self._ready.set()
        await asyncio.Event().wait()

    async def start(self, token: str) -> None:
        """Log in and stay connected until closed."""
        await self.login(token)
        await self.connect()

    async def wait_until_ready(self) -> None:
        """Return when connected."""
        await self._ready.wait()

    def get_channel(self, number: int) -> Channel:
        """Return a channel."""
        return Channel(number)

    async def close(self) -> None:
        """Disconnect."""
