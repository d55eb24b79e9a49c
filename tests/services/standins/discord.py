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

    def __init__(self, author: object, content: str) -> None:
        self.author, self.content, self.id = author, content, 7


class Channel:
    """A channel that writes what is sent to a file."""

    def __init__(self, number: int) -> None:
        self.number = number

    async def send(self, text: str) -> Message:
        """Send a text."""
        with Path(os.environ["DISCORD_STAND_IN"]).open("a") as out:  # noqa: ASYNC230 (a stand-in)
            out.write(f"{os.environ['DISCORD_TOKEN']} {self.number} {text}\n")
        return Message(None, text)


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

    async def start(self, token: str) -> None:
        """Stay connected until closed."""
        if token == "bad":
            raise RuntimeError("Improper token has been passed.")
        self._ready.set()
        await asyncio.Event().wait()

    async def wait_until_ready(self) -> None:
        """Return when connected."""
        await self._ready.wait()

    def get_channel(self, number: int) -> Channel:
        """Return a channel."""
        return Channel(number)

    async def close(self) -> None:
        """Disconnect."""
