"""A server with the APIs of SearXNG, Tavily and Brave, and with pages, whose faults a test scripts.

The answers of the engines have the fields that their documentation shows.
"""

import asyncio
import contextlib
import gzip
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.waiting import PATIENCE

TRICKLE_S = 0.02  # between two bytes
KEY = "key-of-the-tests"
HTML = "text/html; charset=utf-8"


@dataclass
class Reply:
    """What is sent for a path."""

    body: bytes = b""
    status: int = 200
    content_type: str = HTML
    headers: dict[str, str] = field(default_factory=dict)
    fault: str = ""  # "hang", "trickle", "endless", "half", "reset", "garbage"


@dataclass
class Asked:
    """One request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any = None


class WebServer:
    """The server. `pages` are by path, `turns` replace the next answers of engines."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.pages: dict[str, Reply] = {}
        self.turns: list[Reply] = []
        self.found: list[tuple[str, str, str]] = [  # title, address, snippet
            ("A page", "https://example.org/a", "About a thing."),
            ("Another", "https://example.org/b", "About another."),
        ]
        self.asked: list[Asked] = []
        self._open: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Return where it is."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> "WebServer":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            asked = await _read(reader)
            self.asked.append(asked)
            reply = self.pages.get(asked.path) or self._answer(asked)
            await _send(reply, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has left, or the server ends
        finally:
            self._open.discard(task)
            writer.close()

    def _answer(self, asked: Asked) -> Reply:
        """Return the answer of the engine whose API the request follows."""
        if self.turns:
            return self.turns.pop(0)
        if asked.path == "/search" and asked.method == "GET":
            if asked.query.get("format") != "json":
                return Reply(b"<html>a form</html>")
            results = [
                {"title": title, "url": url, "content": text, "engine": "fake", "score": 1.0}
                for title, url, text in self.found
            ]
            rest: dict[str, Any] = {"answers": [], "suggestions": [], "unresponsive_engines": []}
            return _json({"query": asked.query["q"], "results": results, **rest})
        if asked.path == "/search":
            if asked.headers.get("authorization") != f"Bearer {KEY}":
                detail = {"error": "Unauthorized: missing or invalid API key."}
                return _json({"detail": detail}, 401)
            results = [
                {"title": title, "url": url, "content": text, "score": 0.9, "raw_content": None}
                for title, url, text in self.found
            ]
            return _json({"query": asked.body["query"], "results": results, "response_time": 0.1})
        if asked.path == "/res/v1/web/search":
            if asked.headers.get("x-subscription-token") != KEY:
                error = {"code": "SUBSCRIPTION_TOKEN_INVALID", "status": 422}
                return _json({"type": "ErrorResponse", "error": error}, 422)
            results = [
                {"title": title, "url": url, "description": text, "page_age": "2026-01-02T03:04:05"}
                for title, url, text in self.found
            ]
            return _json({"type": "search", "query": {}, "web": {"results": results}})
        return Reply(b"not here", 404)


def _json(value: Any, status: int = 200) -> Reply:
    return Reply(json.dumps(value).encode(), status, "application/json")


def packed(body: bytes, content_type: str = HTML) -> Reply:
    """Return a reply that is packed by gzip."""
    data = gzip.compress(body)
    return Reply(data, content_type=content_type, headers={"Content-Encoding": "gzip"})


async def _read(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    data = await reader.readexactly(int(headers.get("content-length", 0)))
    parts = urlsplit(target)
    query = {key: values[0] for key, values in parse_qs(parts.query).items()}
    is_json = headers.get("content-type", "").startswith("application/json")
    return Asked(method, parts.path, query, headers, json.loads(data) if is_json else data)


async def _send(reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if reply.fault == "reset":
        return
    if reply.fault == "garbage":
        writer.write(b"\x00\x01 this is not HTTP\r\n\r\n")
        return
    length = len(reply.body) * (2 if reply.fault == "half" else 1)
    headers = {"Content-Type": reply.content_type, **reply.headers, "Connection": "close"}
    if reply.fault != "endless":
        headers["Content-Length"] = str(length)
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"HTTP/1.1 {reply.status} X\r\n{head}\r\n".encode())
    if reply.fault == "hang":
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                await reader.read()
        return
    if reply.fault == "trickle":
        for at in range(len(reply.body)):
            writer.write(reply.body[at : at + 1])
            await writer.drain()
            await asyncio.sleep(TRICKLE_S)
        return
    writer.write(reply.body)
    while reply.fault == "endless":
        writer.write(b"<p>and so on " * 1000)
        await writer.drain()
