"""The fake platform's bots: one that can look up what it has sent, and one that cannot.

The other side is `tests/support/fake_platform.py`. A bot that loses its connection makes it again,
and reads what it has missed, as the libraries of real platforms do.
"""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any, Self

from garrison.workers import (
    Content,
    Heard,
    Memory,
    NotSent,
    Outgoing,
    Platform,
    Plugin,
    Runtime,
)

LINE = 64 * 1024 * 1024  # bytes
RECONNECT_S = 0.02
PAGE = 100  # messages of the history


class FakePlatform(Platform):
    """A bot that does not know what it has sent."""

    service_type = "fakeplatform"

    class Config(Platform.Config):
        """Where the platform is."""

        socket: str = ""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._seen: dict[str, int] = {}  # channel → position of the last message heard
        self._behind: list[dict[str, Any]] | None = None
        self._connected = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        """Log in."""
        platform = cls(runtime)
        platform.spawn(platform._stay_connected())
        await platform._connected.wait()
        return platform

    async def deliver(self, m: Outgoing) -> str:
        """Send it."""
        sent = await self._ask(
            "send",
            channel=m.channel,
            text=m.text,
            nonce=m.nonce,
            reply_to=m.reply_to or "",
            attachments=[one.url for one in m.attachments],
        )
        return str(sent["id"])

    async def typing(self, channel: str) -> None:
        """Show it."""
        await self._ask("typing", channel=channel)

    async def catch_up(self, since: dict[str, str]) -> AsyncIterator[Heard]:
        """Read each channel's history."""
        for channel in await self._ask("channels"):
            async for message in self._missed(channel, int(since.get(channel, 0))):
                yield Heard(_memory(message), channel, str(message["position"]))

    async def probe(self) -> None:
        """Have it answer something."""
        await self._ask("channels")

    async def direct_channel(self, person: str) -> str:
        """Return a channel that is the person's own."""
        if person == "closed":
            raise NotSent("it takes no direct messages")
        return f"dm-{person}"

    async def lose(self, why: str) -> None:
        """Say that the connection has ended for good, or with an empty text that there is one."""
        if why:
            self.disconnected(why)
        else:
            self.connected()

    # --- the connection ---------------------------------------------------------------------

    async def _stay_connected(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, self._writer = await asyncio.open_unix_connection(
                    self.config.socket, limit=LINE
                )
                self.spawn(self._log_in())
                while line := await reader.readline():
                    self._read(json.loads(line))
            self._connected.clear()
            if self._writer is not None:
                self._writer.close()  # a request that is made from here on fails at once
            for answer in self._asked.values():
                if not answer.done():
                    answer.set_exception(ConnectionError("the connection has ended"))
            await asyncio.sleep(RECONNECT_S)

    async def _log_in(self) -> None:
        with contextlib.suppress(ConnectionError):
            behind = self._behind = list[dict[str, Any]]()  # what comes live follows the history
            await self._ask("login")
            self._connected.set()
            for channel, position in dict(self._seen).items():
                async for message in self._missed(channel, position):
                    self._hear(message)
            if self._behind is behind:  # no other connection has begun
                self._behind = None
                for message in behind:
                    self._hear(message)

    async def _missed(self, channel: str, after: int) -> AsyncIterator[dict[str, Any]]:
        while True:
            page = await self._ask("history", channel=channel, after=after, limit=PAGE)
            for message in page:
                after = message["position"]
                yield message
            if len(page) < PAGE:
                return

    async def _ask(self, do: str, **what: Any) -> Any:
        number = next(self._numbers)
        if self._writer is None or self._writer.is_closing():
            raise ConnectionError("there is no connection")
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        line = json.dumps({"n": number, "do": do, **what}).encode() + b"\n"
        self._writer.write(line)
        try:
            found = await answer
        finally:
            del self._asked[number]
        if "error" not in found:
            return found["value"]
        if found["error"] == "refused":
            raise NotSent(found["text"])
        raise ConnectionError(found["text"])

    def _read(self, line: dict[str, Any]) -> None:
        if "heard" in line and self._behind is not None:
            self._behind.append(line["heard"])
        elif "heard" in line:
            self._hear(line["heard"])
        elif (answer := self._asked.get(line["n"])) is not None and not answer.done():
            answer.set_result(line)

    def _hear(self, message: dict[str, Any]) -> None:
        channel, position = message["channel"], message["position"]
        if position <= self._seen.get(channel, 0):
            return
        self._seen[channel] = position
        self.spawn(self.receive(_memory(message), channel, str(position)))


class LookupPlatform(FakePlatform):
    """A bot that can look up its messages by their nonce."""

    service_type = "fakeplatform"

    async def was_delivered(self, m: Outgoing) -> str | None:
        """Ask the platform."""
        found = await self._ask("lookup", channel=m.channel, nonce=m.nonce)
        return None if found is None else str(found)


def _memory(message: dict[str, Any]) -> Memory:
    return Memory(
        content=Content(message["text"], in_reply_to=message["reply_to"]),
        id=message["id"],
        entity_id=message["author"],
        room_id=message["channel"],
        metadata={"own": message["bot"], "bot": message["bot"]},
    )


plugin = Plugin("fakeplatform", services=[FakePlatform])
lookup = Plugin("fakeplatform", services=[LookupPlatform])
