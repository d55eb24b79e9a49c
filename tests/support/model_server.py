"""A server with OpenAI's and Anthropic's API, whose answers and faults a test scripts.

The faults are on the wire: what a library makes of them is part of what is tested.
"""

import asyncio
import contextlib
import json
import socket
import struct
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support.waiting import PATIENCE

TRICKLE_S = 0.02  # between two bytes
JSON, EVENTS, MP3 = "application/json", "text/event-stream", "audio/mpeg"
SPEECH = "/audio/speech"
SOUND = b"ID3 sound"  # its answer


@dataclass
class Turn:
    """What the server does with one request."""

    text: str = "Hello there friend"
    body: Any = None  # sent in place of a chat answer
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = JSON
    fault: str = (
        ""  # "reset", "half", "cut" (a clean end, unfinished), "dropped", "hang", "trickle"
    )
    finish: str = ""  # in place of the usual one
    events: list[Any] | None = None  # sent in place of a stream's usual ones


@dataclass
class Asked:
    """One request."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    gone: asyncio.Event = field(default_factory=asyncio.Event)  # its client has left


def failing(status: int, message: str = "no", code: str = "", **headers: str) -> Turn:
    """Return a failure in a form that both libraries read; `_` in a header's name is a hyphen."""
    error = {"message": message, "type": code or "some_error", "code": code or None}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Turn(status=status, body={"type": "error", "error": error}, headers=named)


class ModelServer:
    """The server; each request takes the next turn, or is answered."""

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self.turns: deque[Turn] = deque()
        self.asked: list[Asked] = []
        self._open: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Return where it is."""
        return f"http://127.0.0.1:{self._port}"

    def script(self, *turns: Turn) -> None:
        """Set what is done with the next requests."""
        self.turns.clear()
        self.asked.clear()
        self.turns.extend(turns)

    @property
    def body(self) -> dict[str, Any]:
        """Return the body of the last request."""
        return self.asked[-1].body

    async def __aenter__(self) -> "ModelServer":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
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
            turn = self.turns.popleft() if self.turns else Turn()
            await self._answer(asked, turn, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has left
        finally:
            self._open.discard(task)
            writer.close()

    async def _answer(
        self, asked: Asked, turn: Turn, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if turn.fault == "reset":
            _reset(writer)
            return
        if turn.fault == "hang" and not asked.body.get("stream"):
            await _until_gone(asked, reader)
            return
        if turn.body is not None or not asked.body.get("stream"):
            data = _whole(asked, turn)
            length = len(data) * 2 if turn.fault == "half" else len(data)
            kind = MP3 if asked.path.endswith(SPEECH) and turn.body is None else turn.content_type
            writer.write(_head(turn, kind, f"content-length: {length}\r\n"))
            size = 1 if turn.fault == "trickle" else len(data)
            for at in range(0, len(data), size or 1):
                writer.write(data[at : at + size])
                await writer.drain()
                if turn.fault == "trickle":
                    await asyncio.sleep(TRICKLE_S)
            return
        writer.write(_head(turn, EVENTS, "transfer-encoding: chunked\r\n"))
        events = turn.events if turn.events is not None else _events(asked, turn)
        for event in events:
            data = _line(event)
            writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            await writer.drain()
        if turn.fault == "hang":
            await _until_gone(asked, reader)
        elif turn.fault != "dropped":
            writer.write(b"0\r\n\r\n")
            await writer.drain()


async def _read(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    pairs = (line.split(": ", 1) for line in lines)
    headers = {name.lower(): value for name, value in pairs}
    data = await reader.readexactly(int(headers.get("content-length", 0)))
    is_json = headers.get("content-type", "").startswith(JSON)
    body = json.loads(data) if is_json else {"form": data.decode("latin-1")}
    return Asked(first.split()[1], headers, body)


async def _until_gone(asked: Asked, reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(ConnectionError):
            await reader.read()
    asked.gone.set()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Have the connection end by a reset."""
    plain = writer.get_extra_info("socket")
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _head(turn: Turn, content_type: str, length: str) -> bytes:
    headers = "".join(f"{name}: {value}\r\n" for name, value in turn.headers.items())
    return (
        f"HTTP/1.1 {turn.status} X\r\ncontent-type: {content_type}\r\n{length}"
        f"connection: close\r\n{headers}\r\n"
    ).encode()


def _whole(asked: Asked, turn: Turn) -> bytes:
    body = turn.body if turn.body is not None else _usual(asked, turn)
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def _usual(asked: Asked, turn: Turn) -> Any:
    """Return the answer that the path wants."""
    if asked.path.endswith("/embeddings"):
        vectors = [
            {"object": "embedding", "index": n, "embedding": [float(len(text)), 1.0]}
            for n, text in enumerate(asked.body["input"])
        ]
        usage = {"prompt_tokens": 3, "total_tokens": 3}
        return {"object": "list", "model": "e", "data": vectors[::-1], "usage": usage}
    if asked.path.endswith(SPEECH):
        return SOUND
    if asked.path.endswith("/images/generations"):
        return {"created": 1, "data": [{"b64_json": "aGk="}]}
    if asked.path.endswith("/audio/transcriptions"):
        return {"text": turn.text}
    if asked.path.endswith("/messages"):
        return message([{"type": "text", "text": turn.text}], turn.finish or "end_turn")
    return completion({"role": "assistant", "content": turn.text}, turn.finish or "stop")


def completion(said: Mapping[str, Any], finish: str = "stop") -> dict[str, Any]:
    """Return a chat completion of OpenAI's."""
    details = {"cached_tokens": 2}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": said, "finish_reason": finish}],
        "usage": {**usage, "prompt_tokens_details": details},
    }


def message(blocks: list[Any], stop_reason: str | None = "end_turn") -> dict[str, Any]:
    """Return a message of Anthropic's."""
    return {
        "id": "m1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": blocks,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "cache_read_input_tokens": 2, "output_tokens": 3},
    }


def _events(asked: Asked, turn: Turn) -> list[Any]:
    """Return a stream's events; without its finish for a fault."""
    pieces = [f"{word} " for word in turn.text.split()]
    whole = not turn.fault
    if asked.path.endswith("/messages"):
        texts = [
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": piece},
            }
            for piece in pieces
        ]
        begin = {"type": "content_block_start", "index": 0}
        delta = {"stop_reason": turn.finish or "end_turn", "stop_sequence": None}
        return [
            {"type": "message_start", "message": message([], None)},
            {**begin, "content_block": {"type": "text", "text": ""}},
            *texts,
            *([{"type": "content_block_stop", "index": 0}] if whole else []),
            *([{"type": "message_delta", "delta": delta, "usage": {"output_tokens": 4}}] * whole),
            *([{"type": "message_stop"}] if whole else []),
        ]
    chunks = [_chunk({"content": piece}) for piece in pieces]
    usage = completion({})["usage"]
    ends = [_chunk({}, turn.finish or "stop"), {**_chunk({}), "choices": [], "usage": usage}]
    return [*chunks, *(ends if whole else []), *(["[DONE]"] if whole else [])]


def _chunk(delta: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return {**head, "choices": [choice]}


def _line(event: Any) -> bytes:
    if isinstance(event, str):
        return f"data: {event}\n\n".encode()
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {json.dumps(event)}\n\n".encode()
