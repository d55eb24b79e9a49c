"""Tools that a request offers to a model, its calls of them, and what it generates with them. Pure.

Providers have different limits for ids and names. Within 1 to 64 letters, digits, `_` and `-` a
name is accepted by all of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec


class Tool(msgspec.Struct, omit_defaults=True):
    """One tool that a model may call."""

    name: str
    description: str = ""
    parameters: Any = {}  # JSON Schema of an object; where the request is made, also a Struct


class ToolCall(msgspec.Struct, omit_defaults=True):
    """One call of a tool, as the model decided it. The caller runs it, or not."""

    id: str  # a result refers to it
    name: str
    arguments: dict[str, Any] = {}
    problem: str = ""  # why it cannot be run: no such tool, or arguments that do not fit


class Generated(msgspec.Struct, omit_defaults=True):
    """What a model generates where tools are offered to it."""

    text: str = ""
    tool_calls: list[ToolCall] = []
    finish: Literal["stop", "tool_calls", "length"] = "stop"


def has_tools(params: Any) -> bool:
    """Return whether parameters, a Struct or a mapping, offer tools."""
    found = params.get("tools") if isinstance(params, Mapping) else getattr(params, "tools", None)
    return bool(found)


def as_lines(messages: Sequence[Any]) -> list[Any]:
    """Return a conversation without tool calls: for a model that takes no tools.

    Calls and results become lines of text, results as messages of the user.
    """
    lines = list[Any]()
    for message in messages:
        calls = message.get("tool_calls", ())
        if message["role"] == "tool":
            result = {"role": "user", "content": f"[result: {message['content']}]"}
            lines.append(result)
        elif calls:
            named = [f"[called {_field(call, 'name')}]" for call in calls]
            text = "\n".join(filter(None, (message["content"], *named)))
            lines.append({"role": message["role"], "content": text})
        else:
            lines.append(message)
    return lines


def _field(call: Any, name: str) -> Any:
    return call.get(name) if isinstance(call, Mapping) else getattr(call, name)
