"""Requests to Anthropic's API from a service's params, and what its answers contain. Pure."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from garrison.workers import (
    Generated,
    GenerateObjectParams,
    GenerateTextParams,
    ModelError,
    Tool,
)

from ..model_support.images import Image, images_of
from ..model_support.schemas import checked, sent_schema
from ..model_support.schemas import object_of as object_of_text
from ..model_support.tools import (
    Decided,
    StreamedCalls,
    checked_calls,
    finish_of,
    parameters_of,
)
from ..model_support.usage import CUT, Used, reported

TOOL = "answer"  # the tool whose input is the object
BEFORE = "…"  # a conversation begins with the user
CACHED = {"type": "ephemeral"}
CHOICES = {"auto": "auto", "none": "none", "required": "any"}  # of tools; else the name of one


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
    # The API refuses calls without tools.
    messages = (params if params.tools else params.without_tools()).as_messages()
    system = [
        _text(one["content"]) for one in messages if one["role"] == "system" and one["content"]
    ]
    turns = _turns(one for one in messages if one["role"] != "system")
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


def tools_request(
    params: GenerateTextParams, model: str, max_tokens: int, prompt_cache: bool
) -> dict[str, Any]:
    """Return the arguments of a message that may call tools."""
    kind = CHOICES.get(params.tool_choice)
    choice = {"type": kind} if kind else {"type": "tool", "name": params.tool_choice}
    request = message_request(params, model, max_tokens, prompt_cache)
    return {**request, "tools": [_tool(one) for one in params.tools], "tool_choice": choice}


def _tool(tool: Tool) -> dict[str, Any]:
    described = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **described, "input_schema": parameters_of(tool)}


def _turns(messages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return messages as the API has them: the results of all calls are in one turn."""
    turns: list[dict[str, Any]] = []
    role = ""
    for message in messages:
        if message["role"] == role == "tool":
            turns[-1]["content"].append(_result(message))
            continue
        turn = _turn(message)
        if turn["content"]:  # the API refuses empty ones
            turns.append(turn)
            role = message["role"]
    return turns


def _turn(message: Mapping[str, Any]) -> dict[str, Any]:
    if message["role"] == "tool":
        return {"role": "user", "content": [_result(message)]}
    shown = [_shown(one) for one in images_of(message.get("attachments", []))]
    text = [_text(message["content"])] if message["content"].strip() else []
    calls = [
        {"type": "tool_use", "id": _id(call.id), "name": call.name, "input": call.arguments}
        for call in message.get("tool_calls", ())
    ]
    role = "assistant" if message["role"] == "assistant" else "user"
    return {"role": role, "content": [*shown, *text, *calls]}


def _result(message: Mapping[str, Any]) -> dict[str, Any]:
    called = _id(message.get("tool_call_id", ""))
    return {"type": "tool_result", "tool_use_id": called, "content": message["content"]}


def _id(id: str) -> str:
    """Return the id of a call, as the API accepts it: another provider may have made it."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", id)


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
    cached = reported(usage, "cache_read_input_tokens")
    stored = reported(usage, "cache_creation_input_tokens")
    fresh = reported(usage, "input_tokens")
    used.cached, used.stored = max(used.cached, cached), max(used.stored, stored)
    used.read = max(used.read, fresh + cached + stored)
    used.written = max(used.written, reported(usage, "output_tokens"))


def text_of(answer: Any, used: Used) -> str:
    """Return the text of a message.

    Raises:
        ModelError: It has none, or its model refused.
    """
    blocks = _blocks(answer, used)
    text = "".join(one.text for one in blocks if one.type == "text")
    check_stop(used.finish, has_content=bool(text))
    return text


def is_continued(params: GenerateTextParams) -> bool:
    """Return whether a request ends with results: then the model may have nothing to add."""
    messages = params.as_messages()
    return bool(params.tools and messages) and messages[-1]["role"] == "tool"


def add_call(event: Any, calls: StreamedCalls) -> bool:
    """Add the piece of a call that an event of a stream has; return whether it has one."""
    if event.type == "content_block_start" and event.content_block.type == "tool_use":
        calls.add(event.index, event.content_block.id, event.content_block.name, None)
        return True
    if event.type == "content_block_delta" and event.delta.type == "input_json_delta":
        calls.add(event.index, None, None, event.delta.partial_json)
        return True
    return False


def generated_of(answer: Any, params: GenerateTextParams, used: Used) -> Generated:
    """Return the text and the calls of a message.

    After the results of its calls, a model may have nothing to add.

    Raises:
        ModelError: It has neither, or its model refused.
    """
    blocks = _blocks(answer, used)
    text = "".join(one.text for one in blocks if one.type == "text")
    found = [Decided(one.id, one.name, one.input) for one in blocks if one.type == "tool_use"]
    check_stop(used.finish, has_content=bool(text or found or is_continued(params)))
    calls = checked_calls(found, params.tools)
    return Generated(text, calls, finish_of(calls, used.finish in CUT))


def object_of(answer: Any, schema: Any, used: Used) -> Any:
    """Return the object of a message, as the caller's schema has it.

    Raises:
        ModelError: It has none, or one that does not fit.
    """
    blocks = _blocks(answer, used)
    inputs = [one.input for one in blocks if one.type == "tool_use"]
    text = "".join(one.text for one in blocks if one.type == "text")
    check_stop(used.finish, has_content=bool(inputs or text))
    if not inputs:  # a server that is only like Anthropic's may not force a tool
        return object_of_text(text, schema)
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
