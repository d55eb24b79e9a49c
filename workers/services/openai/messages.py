"""Requests to OpenAI's API from a service's params, and what its answers contain. Pure."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from garrison.workers import Generated, GenerateObjectParams, GenerateTextParams, ModelError, Tool

from ..model_support.images import images_of
from ..model_support.media_requests import short
from ..model_support.schemas import sent_schema
from ..model_support.tools import (
    Decided,
    StreamedCalls,
    checked_calls,
    finish_of,
    parameters_of,
    tool_characters,
)
from ..model_support.usage import CUT, Used, reported

CHOICES = ("auto", "none", "required")  # of tools; another text is the name of one


def chat_request(params: GenerateTextParams, model: str, max_tokens_key: str) -> dict[str, Any]:
    """Return the arguments of a chat completion.

    Args:
        params: The service's.
        model: The model to call.
        max_tokens_key: The API's name of the most tokens to write.
    """
    request = {
        "model": model,
        "messages": [_message(one) for one in params.as_messages()],
        "temperature": params.temperature,
        max_tokens_key: params.max_tokens,
        "stop": params.stop or None,
        "top_p": params.top_p,
        "frequency_penalty": params.frequency_penalty,
        "presence_penalty": params.presence_penalty,
    }
    return {key: value for key, value in request.items() if value is not None}


def object_request(params: GenerateObjectParams, model: str, max_tokens_key: str) -> dict[str, Any]:
    """Return the arguments of a chat completion that writes an object by its schema."""
    schema = {"name": "answer", "schema": sent_schema(params.schema)}
    wanted = {"type": "json_schema", "json_schema": schema}
    return {**chat_request(params, model, max_tokens_key), "response_format": wanted}


def tools_request(params: GenerateTextParams, model: str, max_tokens_key: str) -> dict[str, Any]:
    """Return the arguments of a chat completion that may call tools."""
    choice: Any = params.tool_choice
    if choice not in CHOICES:
        choice = {"type": "function", "function": {"name": choice}}
    offered = {"tools": [_tool(one) for one in params.tools], "tool_choice": choice}
    return {**chat_request(params, model, max_tokens_key), **offered}


def _tool(tool: Tool) -> dict[str, Any]:
    described = {"description": tool.description} if tool.description else {}
    function = {"name": tool.name, **described, "parameters": parameters_of(tool)}
    return {"type": "function", "function": function}


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    converted: dict[str, Any] = {"role": message["role"], "content": message["content"]}
    if message["role"] == "tool":
        return {**converted, "tool_call_id": message.get("tool_call_id", "")}
    if calls := message.get("tool_calls"):
        converted["content"] = message["content"] or None
        converted["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
            }
            for call in calls
        ]
    images = images_of(message.get("attachments", []))
    if images:
        shown = [{"type": "image_url", "image_url": {"url": one.url}} for one in images]
        text = [{"type": "text", "text": converted["content"]}] if converted["content"] else []
        converted["content"] = [*text, *shown]
    return converted


def characters(params: GenerateTextParams) -> int:
    """Return how many characters a request sends."""
    texts = sum(len(message["content"]) for message in params.as_messages())
    return texts + tool_characters(params)


def note_usage(answer: Any, used: Used) -> None:
    """Note the tokens that an answer, or a piece of a stream, reports."""
    usage = getattr(answer, "usage", None)
    if usage is None:
        return
    used.read = reported(usage, "prompt_tokens")
    used.written = reported(usage, "completion_tokens")
    details = getattr(usage, "prompt_tokens_details", None)
    used.cached = reported(details, "cached_tokens")


def text_of(answer: Any, used: Used) -> str:
    """Return the text of a chat completion.

    Raises:
        ModelError: It has none, or its model refused.
    """
    return _said(answer, used).content or ""


def generated_of(answer: Any, params: GenerateTextParams, used: Used) -> Generated:
    """Return the text and the calls of a chat completion. Raises as `text_of` does."""
    said = _said(answer, used)
    found = [
        Decided(one.id or "", one.function.name or "", one.function.arguments)
        for one in getattr(said, "tool_calls", None) or ()
        if getattr(one, "function", None) is not None
    ]
    calls = checked_calls(found, params.tools)
    return Generated(said.content or "", calls, finish_of(calls, used.finish in CUT))


def add_calls(delta: Any, calls: StreamedCalls) -> None:
    """Add the pieces of calls in a piece of a stream. Some servers send each call whole."""
    for number, one in enumerate(getattr(delta, "tool_calls", None) or ()):
        function = getattr(one, "function", None)
        index = number if getattr(one, "index", None) is None else one.index
        name, arguments = getattr(function, "name", None), getattr(function, "arguments", None)
        calls.add(index, getattr(one, "id", None), name, arguments)


def _said(answer: Any, used: Used) -> Any:
    note_usage(answer, used)
    choice = first_choice(answer)
    if choice is None:
        raise ModelError("invalid", text=f"no chat completion came back: {short(answer)}")
    used.finish = choice.finish_reason or ""
    check_finish(used.finish, getattr(choice.message, "refusal", None))
    if not isinstance(choice.message.content or "", str):
        raise ModelError("invalid", text=f"its text is none: {short(choice.message.content)}")
    return choice.message


def first_choice(answer: Any) -> Any | None:
    """Return the first choice of an answer or of a piece; None if it has none."""
    choices = getattr(answer, "choices", None)
    return choices[0] if isinstance(choices, list) and choices else None


def check_finish(finish: str, refusal: Any = None) -> None:
    """Raise what the end of a text means.

    Raises:
        ModelError: The text is not whole, or refused. A stream that is cut ends without a finish.
    """
    if not finish:
        raise ModelError("busy", text="the answer ended before its text did")
    if finish == "content_filter" or refusal:
        reason = refusal if isinstance(refusal, str) and refusal else "by its content filter"
        raise ModelError("refused", text=reason)


def vectors_of(answer: Any, count: int, used: Used) -> list[list[float]]:
    """Return the vectors of an answer, in the order of their texts.

    Raises:
        ModelError: There are not as many as there were texts.
    """
    note_usage(answer, used)
    data = getattr(answer, "data", None)
    if not isinstance(data, list) or len(data) != count:
        raise ModelError("invalid", text=f"no {count} vectors came back: {short(answer)}")
    ordered = sorted(data, key=lambda one: one.index)
    return [list(one.embedding) for one in ordered]


def batches(texts: Iterable[str], most: int) -> list[list[str]]:
    """Return texts in lists of at most so many."""
    every = list(texts)
    return [every[at : at + most] for at in range(0, len(every), most)]
