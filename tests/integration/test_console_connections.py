"""Clients of the console that neither ask nor read: a bounded number, for a bounded time."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from tests.support.waiting import PATIENCE, until_true

from garrison.workers.services.console import connections
from garrison.workers.services.console.config import ConsoleConfig
from garrison.workers.services.console.server import Server, listen

LARGE = 8 << 20  # bytes: more than the sockets' buffers hold
Place = tuple[str, int]
ASK = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
BODY = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf"


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with what was sent: nothing else reads it."""
    if scope["path"] == "/large":
        await PlainTextResponse(b"x" * LARGE)(scope, receive, send)
        return
    more = scope["method"] == "POST"
    while more:
        message = await receive()
        more = message["type"] == "http.request" and message.get("more_body", False)
    await PlainTextResponse("well")(scope, receive, send)


@asynccontextmanager
async def serving(tmp_path: Path) -> AsyncIterator[tuple[Server, Place]]:
    """Run the server; yield it and where it listens."""
    listening = listen(ConsoleConfig(port=0), tmp_path)
    server = Server(answer, listening)
    running = asyncio.create_task(server.run())
    try:
        yield server, listening.getsockname()
    finally:
        server.stop()
        await asyncio.wait_for(running, PATIENCE)
        listening.close()


async def ended(reader: asyncio.StreamReader) -> bytes:
    """Read until the server ends the connection."""
    found = bytearray()
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(ConnectionError):
            while block := await reader.read(1 << 16):
                found += block
    return bytes(found)


async def answered(place: Place) -> bytes:
    """Return the answer to an ordinary request."""
    reader, writer = await asyncio.open_connection(*place)
    try:
        writer.write(ASK)
        return await asyncio.wait_for(reader.readuntil(b"well"), PATIENCE)
    finally:
        writer.close()


@pytest.mark.parametrize("begun", [b"", b"GET / HT", ASK[:-2], BODY])
async def test_a_request_that_does_not_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    """Whatever of it is missing, and however slowly the rest comes, its connection is ended."""
    monkeypatch.setattr(connections, "REQUEST_S", 0.2)
    monkeypatch.setattr(connections, "CHECK_S", 0.05)
    async with serving(tmp_path) as (_server, place):
        reader, writer = await asyncio.open_connection(*place)
        writer.write(begun)
        await ended(reader)
        writer.close()


async def test_an_answer_that_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection is ended, with what was not read."""
    monkeypatch.setattr(connections, "UNREAD_S", 0.3)
    monkeypatch.setattr(connections, "CHECK_S", 0.05)
    async with serving(tmp_path) as (server, place):
        loop = asyncio.get_running_loop()
        with socket.socket() as waiting:
            waiting.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            waiting.setblocking(False)
            await loop.sock_connect(waiting, place)
            await loop.sock_sendall(waiting, ASK.replace(b"/ ", b"/large ", 1))
            assert (await loop.sock_recv(waiting, 12)) == b"HTTP/1.1 200"
            await until_true(lambda: not server.connections)


async def test_one_more_than_there_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection that was silent for the longest makes room: others hold no browser off."""
    monkeypatch.setattr(connections, "CONNECTIONS", 4)
    async with serving(tmp_path) as (_server, place):
        silent = [await asyncio.open_connection(*place) for _ in range(4)]
        assert await answered(place)
        assert await ended(silent[0][0]) == b""
        for _, writer in silent:
            writer.close()
