"""Warms OpenAI's library: the launcher imports this module before it forks workers."""

import json
from typing import Any

from garrison.workers import load_library

from ..model_support.warming import warm

CHOICE = {"index": 0, "finish_reason": "stop"}
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
HEAD = {"data": [], "text": "Hello", "id": "c", "created": 1, "model": "m", "usage": USAGE}
MESSAGE = {"role": "assistant", "content": "Hello"}
COMPLETION = {**HEAD, "object": "chat.completion", "choices": [{**CHOICE, "message": MESSAGE}]}
CHUNK = {**HEAD, "object": "chat.completion.chunk", "choices": [{**CHOICE, "delta": MESSAGE}]}
ANSWERS = {
    "application/json": json.dumps(COMPLETION),
    "text/event-stream": f"data: {json.dumps(CHUNK)}\n\ndata: [DONE]\n\n",
}


async def _use(client: Any) -> None:
    create = client.chat.completions.create
    request = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
    await create(**request)
    async with await create(**request, stream=True) as stream:
        async for _ in stream:
            pass
    await client.embeddings.create(model="m", input=["Hello"], encoding_format="float")
    await client.images.generate(model="m", prompt="Hello")
    await client.audio.speech.create(model="m", voice="v", input="Hello")
    await client.audio.transcriptions.create(model="m", file=("a.mp3", b"Hello"))


def _warm() -> None:
    library = load_library("openai", "openai")
    warm(library, library.AsyncOpenAI, ANSWERS, _use)


_warm()
