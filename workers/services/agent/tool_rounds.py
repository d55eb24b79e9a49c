"""The rounds of a model that calls actions as tools: what it is offered, what follows from its
calls, and how the conversation goes on from the record. Pure.

The conversation is rebuilt from the record for each round. So it is the same after a kill, and with
another provider; ids of calls are the agent's own, because providers differ in what they accept.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from garrison.workers import ChatMessage, Content, Generated, Tool, ToolCall

from .actions import IGNORE, NONE, REPLY, Named, find, tool_description, unknown_action
from .record.rows import (
    PlannedCall,
    PlannedStep,
    Record,
    Round,
    StepKind,
    StepState,
)

CALLS_MOST = 32  # of all rounds of one message
NAME_MOST = 64  # characters of a tool's name
RESULT_MOST = 8192  # characters of a result that the model is sent
SILENT = {
    IGNORE: "Say nothing, because the message is not for you",
    NONE: "Say nothing, because nothing is left to say",
}
HINT = (
    "Act by calling tools. What a tool has sent to the room is listed as `sent` in its result: the "
    "users have seen it, so do not repeat it. When nothing is left to do, answer in text."
)

_OTHERS = re.compile(r"[^a-zA-Z0-9_-]+")


class ToolAction(Named, Protocol):
    """The fields of an action that a tool needs."""

    parameters: Any  # JSON Schema


def offered(considered: dict[str, bool], actions: Sequence[ToolAction]) -> list[Any]:
    """Return the actions that apply, highest priority first; the same in each round.

    Args:
        considered: NAME of each action, and whether it applies.
        actions: Those that there are.
    """
    found = [one for one in actions if considered.get(one.name)]
    return sorted(found, key=lambda action: -action.priority)


def tool_names(actions: Sequence[ToolAction]) -> dict[str, ToolAction]:
    """Return the actions by their names as tools: each one different, of allowed characters."""
    names: dict[str, ToolAction] = {}
    for number, action in enumerate(actions):
        name = _OTHERS.sub("_", action.name)[:NAME_MOST]
        if not name.strip("_") or name in names:
            name = f"{name[: NAME_MOST - 8]}_{number}".lstrip("_")
        names[name] = action
    return names


def tools(actions: Sequence[ToolAction]) -> list[Tool]:
    """Return the tools of a request: the actions, and to say nothing."""
    silent = [Tool(name, meaning) for name, meaning in SILENT.items() if not find(name, actions)]
    return [
        *(
            Tool(name, tool_description(action), action.parameters)
            for name, action in tool_names(actions).items()
        ),
        *silent,
    ]


def goes_on(record: Record) -> bool:
    """Return whether the model is called again.

    Not after an interrupted action: what it did is not known, and nothing is improvised over it.
    """
    rounds = record.why.rounds
    interrupted = any(step.state is StepState.INTERRUPTED for step in record.steps)
    return bool(rounds) and not rounds[-1].is_last and not interrupted


def calls_left(record: Record, rounds_most: int) -> int:
    """Return how many calls the model may still make; 0: it has to answer in text."""
    rounds = record.why.rounds
    if len(rounds) >= rounds_most:
        return 0
    return max(CALLS_MOST - sum(len(one.calls) for one in rounds), 0)


def plan_round(
    generated: Generated,
    actions: Sequence[ToolAction],
    first: int,
    most: int,
    reply: Callable[[str], str],
) -> tuple[Round, list[PlannedStep]]:
    """Return a round and its steps.

    Args:
        generated: What it is.
        actions: Those that it was offered.
        first: The number of the first step.
        most: Calls that it may make.
        reply: Returns the answer in a text.
    """
    named = tool_names(actions)
    calls: list[PlannedCall] = []
    steps: list[PlannedStep] = []
    for call in generated.tool_calls[:most]:
        if call.name in SILENT and call.name not in named:
            return Round(generated.text, calls, is_last=True), steps
        number, action = first + len(steps), named.get(call.name)
        problem = call.problem
        if action is None and not problem:
            problem = unknown_action(call.name, actions)
        kind = StepKind.UNKNOWN if problem else StepKind.RUN
        steps.append(PlannedStep(number, kind, call.name if action is None else action.name))
        calls.append(PlannedCall(number, call.name, call.arguments, problem))
    if steps:
        return Round(generated.text, calls), steps
    text = reply(generated.text.strip())
    last = PlannedStep(first, StepKind.REPLY, otherwise=True)  # it had nothing to say
    if text:
        last = PlannedStep(first, StepKind.SAY, content=Content(text))
    return Round(is_last=True), [last]


def ended_early(record: Record, problem: str) -> tuple[Round, PlannedStep]:
    """Return the last round and its step, where no provider that takes tools answers any more.

    If nothing was sent yet, another provider replies, to what was done so far.
    """
    number = len(record.steps)
    if not record.parts:
        return Round(is_last=True), PlannedStep(number, StepKind.REPLY)
    failed = PlannedCall(number, REPLY, problem=problem)
    return Round("", [failed], is_last=True), PlannedStep(number, StepKind.UNKNOWN, REPLY)


def conversation(record: Record) -> list[ChatMessage]:
    """Return the calls of all rounds and their results, as they follow the message."""
    found: list[ChatMessage] = []
    for_reply = {step.number for step in record.steps if step.for_reply}
    for one in record.why.rounds:
        shown = [call for call in one.calls if not one.is_last or call.step in for_reply]
        if not shown:
            continue
        calls = [ToolCall(_id(call), call.tool, call.arguments) for call in shown]
        found.append({"role": "assistant", "content": one.text, "tool_calls": calls})
        for call in shown:
            content = result(record, call.step)
            found.append({"role": "tool", "content": content, "tool_call_id": _id(call)})
    return found


def result(record: Record, number: int) -> str:
    """Return what a step did, as JSON for the model."""
    step = next(one for one in record.steps if one.number == number)
    sent = [part.memory.content.text for part in record.parts if part.step == number]
    found: dict[str, Any] = {}
    for one in step.results:
        found |= {**one.values, **one.data}
        found |= {key: text for key, text in (("text", one.text), ("error", one.error)) if text}
    found |= {"success": all(one.success for one in step.results)}
    found |= {"sent": sent} if sent else {}
    try:
        text = msgspec.json.encode(found).decode()
    except (TypeError, ValueError, OverflowError, RecursionError):
        text = repr(found)
    return text if len(text) <= RESULT_MOST else f"{text[:RESULT_MOST]}… ({len(text):,} characters)"


def _id(call: PlannedCall) -> str:
    return f"call_{call.step}"
