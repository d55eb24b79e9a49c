"""The calls of tools that a provider's answer has: their arguments are checked here. Pure.

What is wrong with a call is the model's mistake: it is noted in the call, so that the caller can
report it to the model, which may correct it.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from garrison.workers import Generated, GenerateTextParams, Tool, ToolCall

from .schemas import mismatch
from .usage import CUT

CALLS_MOST = 64  # of one answer; further ones are left out
SHOWN = 80  # characters of arguments that are no JSON


ARGUMENTS_MOST = 1_000_000  # characters of one call's arguments, as pieces of a stream


class Decided(NamedTuple):
    """One call as the provider returned it."""

    id: str
    name: str
    arguments: Any  # an object, or its JSON


class StreamedCalls:
    """The calls of a stream, put together from its pieces.

    Attributes:
        finish: The provider's word for why the stream ended.
    """

    def __init__(self) -> None:
        self.finish = ""
        self._calls: dict[Any, tuple[str, str, list[str]]] = {}  # by the provider's index

    def add(self, index: Any, id: str | None, name: str | None, arguments: str | None) -> None:
        """Add a piece of a call; what a piece lacks came before, or comes later."""
        if index not in self._calls and len(self._calls) >= CALLS_MOST:
            return
        known_id, known_name, pieces = self._calls.get(index, ("", "", []))
        self._calls[index] = (known_id or id or "", known_name or name or "", pieces)
        if sum(map(len, pieces)) < ARGUMENTS_MOST:
            pieces.append(arguments or "")

    def generated(self, text: str, tools: Sequence[Tool]) -> Generated:
        """Return the whole, as without a stream."""
        decided = [Decided(id, name, "".join(parts)) for id, name, parts in self._calls.values()]
        calls = checked_calls(decided, tools)
        return Generated(text, calls, finish_of(calls, self.finish in CUT))


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
