"""The calls of tools that a provider's answer has: their arguments are checked here. Pure.

What is wrong with a call is the model's mistake: it is noted in the call, so that the caller can
report it to the model, which may correct it.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from garrison.workers import GenerateTextParams, Tool, ToolCall

from .schemas import mismatch

CALLS_MOST = 64  # of one answer; further ones are left out
SHOWN = 80  # characters of arguments that are no JSON


class Decided(NamedTuple):
    """One call as the provider returned it."""

    id: str
    name: str
    arguments: Any  # an object, or its JSON


def checked_calls(found: Iterable[Decided], tools: Sequence[Tool]) -> list[ToolCall]:
    """Return calls with their arguments, or with what is wrong with them.

    Args:
        found: In the provider's order.
        tools: Those that were offered.
    """
    offered = {tool.name: tool for tool in tools}
    decided = list(found)[:CALLS_MOST]
    return [_checked(one, number, offered) for number, one in enumerate(decided)]


def _checked(one: Decided, number: int, offered: dict[str, Tool]) -> ToolCall:
    id = one.id or f"call_{number}"  # some servers give none
    tool = offered.get(one.name)
    if tool is None:
        names = ", ".join(offered)
        return ToolCall(id, one.name, problem=f"there is no tool {one.name!r}; there is {names}")
    arguments: Any = one.arguments
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments) if arguments.strip() else {}
        except (ValueError, RecursionError):
            problem = f"its arguments are no JSON: {one.arguments[:SHOWN]!r}"
            return ToolCall(id, one.name, problem=problem)
    arguments = {} if arguments is None else arguments
    if not isinstance(arguments, dict):
        problem = f"its arguments are no object: {arguments!r:.{SHOWN}}"
        return ToolCall(id, one.name, problem=problem)
    wrong = mismatch(arguments, tool.parameters, tool.parameters)
    problem = f"its arguments do not fit: {wrong}" if wrong else ""
    return ToolCall(id, one.name, arguments, problem)


def parameters_of(tool: Tool) -> dict[str, Any]:
    """Return a tool's JSON Schema; one without parameters has that of an empty object."""
    return dict(tool.parameters) or {"type": "object", "properties": {}}


def finish_of(calls: Sequence[ToolCall], is_cut: bool) -> Literal["stop", "tool_calls", "length"]:
    """Return why an answer ended. Some servers say that it stopped, although it has calls."""
    if is_cut:
        return "length"
    return "tool_calls" if calls else "stop"


def tool_characters(params: GenerateTextParams) -> int:
    """Return how many characters a request's tools and their calls send."""
    offered = sum(len(repr(tool)) for tool in params.tools)
    calls = (call for one in params.messages for call in one.get("tool_calls", []))
    return offered + sum(len(repr(call.arguments)) for call in calls)
