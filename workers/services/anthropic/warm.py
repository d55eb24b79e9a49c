"""Warms Anthropic's library: the launcher imports this module before it forks workers."""

import json
from typing import Any

from garrison.workers import load_library

from ..model_support.warming import warm

MESSAGE: dict[str, Any] = {
    "id": "m",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
TEXT = {"type": "text", "text": "Hello"}
EVENTS = (
    {"type": "message_start", "message": {**MESSAGE, "stop_reason": None}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": "Hello"},
    },
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 1},
    },
    {"type": "message_stop"},
)
ANSWERS = {
    "application/json": json.dumps({**MESSAGE, "content": [TEXT]}),
    "text/event-stream": "".join(
        f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in EVENTS
    ),
}


async def _use(client: Any) -> None:
    request = {
        "model": "m",
        "max_tokens": 1,
        "messages": [{"role": "user", "content": "Hello"}],
    }
    await client.messages.create(**request)
    async with await client.messages.create(**request, stream=True) as stream:
        async for _ in stream:
            pass


def _warm() -> None:
    library = load_library("anthropic", "anthropic")
    warm(library, library.AsyncAnthropic, ANSWERS, _use)


_warm()
