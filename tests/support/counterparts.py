"""Peers of services under test: Discord, for its stand-in, and a server like OpenAI's.

Everything is on Unix sockets and 127.0.0.1. Durations are seconds.
"""

import asyncio
import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.support.waiting import PATIENCE, eventually, until


class Sent(NamedTuple):
    """A message that a bot sent."""

    token: str
    channel: int
    text: str


class Discord:
    """The counterpart of `tests/services/standins/discord.py`.

    As with the real one, a bot receives its own messages.
    """

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self._folder = Path(tempfile.mkdtemp(prefix="d", dir="/tmp"))  # a socket's path is short
        self._bots: dict[str, asyncio.StreamWriter] = {}
        self._said = 1000

    @property
    def path(self) -> str:
        """Return the socket's path."""
        return str(self._folder / "gateway.sock")

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in list(self._bots.values()):
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        shutil.rmtree(self._folder)

    async def say(self, token: str, channel: int, text: str, name: str = "Ada") -> None:
        """Send a message to a bot, once it is connected."""

        async def connected() -> bool:
            return token in self._bots

        await eventually(connected, what=f"{token} is connected")
        self._tell(token, {"channel": channel, "text": text, "author": 7, "name": name})

    async def until_sent(self, count: int) -> list[Sent]:
        """Wait for this many messages of bots, and return them."""

        async def enough() -> bool:
            return len(self.sent) >= count

        await eventually(enough, what=f"{count} sent, {self.sent}")
        return self.sent

    async def until_left(self) -> None:
        """Wait until no bot is connected."""

        async def left() -> bool:
            return not self._bots

        await eventually(left, what="all bots have left")

    def _tell(self, token: str, data: dict[str, Any]) -> None:
        self._said += 1
        line = json.dumps({"id": self._said, "bot": False, **data})
        self._bots[token].write(line.encode() + b"\n")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        token = json.loads(await reader.readline())["token"]
        self._bots[token] = writer
        try:
            async for line in reader:
                data = json.loads(line)
                self.sent.append(Sent(token, data["channel"], data["text"]))
                self._tell(token, {**data, "author": 1, "name": "bot", "bot": True})
        except ConnectionError:
            pass  # it was killed
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            if self._bots.get(token) is writer:
                del self._bots[token]


class OpenAI:
    """A server with OpenAI's API: llmock, in a process of its own."""

    def __init__(self, url: str, process: "subprocess.Popen[bytes]") -> None:
        self._root, self._process = url, process

    @property
    def url(self) -> str:
        """Return the `base_url` for the library."""
        return f"{self._root}/v1"

    def script(self, *behaviors: dict[str, Any]) -> None:
        """Set the outcomes of the next requests: replies, failures, stalls."""
        self._ask("POST", "scenario", {"behaviors": behaviors})

    def pending(self) -> list[dict[str, Any]]:
        """Return the outcomes that no request has used yet."""
        waiting: list[dict[str, Any]] = self._ask("GET", "scenario")["pending"]
        return waiting

    def requests(self) -> list[dict[str, Any]]:
        """Return the requests so far."""
        requests: list[dict[str, Any]] = self._ask("GET", "requests")["requests"]
        return requests

    def end(self) -> None:
        """End it."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(PATIENCE)

    def _ask(self, method: str, what: str, body: object = None) -> Any:
        request = urllib.request.Request(
            f"{self._root}/_llmock/{what}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)


@contextlib.contextmanager
def openai() -> Iterator[OpenAI]:
    """Run the server on a free port of 127.0.0.1."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        with output.open("wb") as data:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "uvicorn", "llmock.main:create_app", "--factory"),
                    *("--host", "127.0.0.1", "--port", "0", "--no-access-log"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=data,
                stderr=data,
            )

        def listening() -> re.Match[str] | None:
            assert process.poll() is None, output.read_text()
            return re.search(r"running on (http://127\.0\.0\.1:\d+)", output.read_text())

        try:
            found = until(listening, what="the server listens")
            assert found is not None
            yield OpenAI(found[1], process)
        finally:
            process.kill()
            process.wait(PATIENCE)
