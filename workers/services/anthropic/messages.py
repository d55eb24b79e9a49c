"""Requests to Anthropic's API from a service's params, and what its answers contain. Pure."""

from collections.abc import Mapping
from typing import Any

from garrison.workers import GenerateObjectParams, GenerateTextParams, ModelError

from ..model_support.images import Image, images_of
from ..model_support.schemas import checked, sent_schema
from ..model_support.usage import Used

TOOL = "answer"  # the tool whose input is the object
BEFORE = "…"  # a conversation begins with the user
CACHED = {"type": "ephemeral"}


def message_request(
    params: GenerateTextParams, model: str, max_tokens: int, prompt_cache: bool
) -> dict[str, Any]:
    """Return the arguments of a message.

    Args:
        params: The service's.
        model: The model to call.
        max_tokens: Tokens to write, where the params set no number; the API requires one.
        prompt_cache: Whether the server keeps what the next request begins with.
    """
    messages = params.as_messages()
    system = [
        _text(one["content"]) for one in messages if one["role"] == "system" and one["content"]
    ]
    turns = [_turn(one) for one in messages if one["role"] != "system"]
    turns = [one for one in turns if one["content"]]  # the API refuses empty ones
    if not turns or turns[0]["role"] != "user":
        turns.insert(0, {"role": "user", "content": [_text(BEFORE)]})
    if prompt_cache:
        for blocks in (system, turns[-1]["content"]):
            if blocks:
                blocks[-1] = {**blocks[-1], "cache_control": CACHED}
    # The library's method takes no temperature.
    sampling = {"temperature": params.temperature, "top_p": params.top_p}
    extra = {key: value for key, value in sampling.items() if value is not None}
    request = {
        "model": model,
        "max_tokens": params.max_tokens or max_tokens,
        "messages": turns,
        "system": system,
        "stop_sequences": [one for one in params.stop if one.strip()],  # blank ones are refused
        "extra_body": extra,
    }
    return {key: value for key, value in request.items() if value}


def object_request(
    params: GenerateObjectParams, model: str, max_tokens: int, prompt_cache: bool
) -> dict[str, Any]:
    """Return the arguments of a message whose one tool must be used: its input is the object."""
    tool = {
        "name": TOOL,
        "description": "Gives the answer.",
        "input_schema": sent_schema(params.schema),
    }
    request = message_request(params, model, max_tokens, prompt_cache)
    return {**request, "tools": [tool], "tool_choice": {"type": "tool", "name": TOOL}}


def _turn(message: Mapping[str, Any]) -> dict[str, Any]:
    shown = [_shown(one) for one in images_of(message.get("attachments", []))]
    text = [_text(message["content"])] if message["content"].strip() else []
    role = "assistant" if message["role"] == "assistant" else "user"
    return {"role": role, "content": [*shown, *text]}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _shown(image: Image) -> dict[str, Any]:
    if image.data:
        source = {"type": "base64", "media_type": image.content_type, "data": image.data}
    else:
        source = {"type": "url", "url": image.url}
    return {"type": "image", "source": source}


def note_usage(usage: Any, used: Used) -> None:
    """Note the tokens that an answer, or an event of a stream, reports."""
    cached = getattr(usage, "cache_read_input_tokens", None) or 0
    stored = getattr(usage, "cache_creation_input_tokens", None) or 0
    fresh = getattr(usage, "input_tokens", None) or 0
    used.cached, used.stored = max(used.cached, cached), max(used.stored, stored)
    used.read = max(used.read, fresh + cached + stored)
    used.written = max(used.written, getattr(usage, "output_tokens", None) or 0)


def text_of(answer: Any, used: Used) -> str:
    """Return the text of a message.

    Raises:
        ModelError: It has none, or its model refused.
    """
    blocks = _blocks(answer, used)
    text = "".join(one.text for one in blocks if one.type == "text")
    check_stop(used.finish, has_content=bool(text))
    return text


def object_of(answer: Any, schema: Any, used: Used) -> Any:
    """Return the object of a message, as the caller's schema has it.

    Raises:
        ModelError: It has none, or one that does not fit.
    """
    inputs = [one.input for one in _blocks(answer, used) if one.type == "tool_use"]
    check_stop(used.finish, has_content=bool(inputs))
    return checked(inputs[0], schema)


def _blocks(answer: Any, used: Used) -> list[Any]:
    blocks = getattr(answer, "content", None)
    if not isinstance(blocks, list):
        text = " ".join(str(answer).split())[:120]
        raise ModelError("invalid", text=f"no message came back: {text}")
    note_usage(getattr(answer, "usage", None), used)
    used.finish = getattr(answer, "stop_reason", None) or ""
    return blocks


def check_stop(reason: str, has_content: bool) -> None:
    """Raise what the end of a message means.

    Raises:
        ModelError: It is not whole, refused, or too long. A stream that is cut has no reason.
    """
    if not reason:
        raise ModelError("busy", text="the answer ended before its text did")
    if reason == "model_context_window_exceeded":
        raise ModelError("context", text="the model's context is full")
    if reason == "refusal" or not has_content:
        raise ModelError("refused", text=f"it answered nothing: stop reason {reason}")
