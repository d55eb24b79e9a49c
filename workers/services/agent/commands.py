"""Commands of platforms: responses that name one action, with its options. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from garrison.workers import ActionResult, Content, Memory

from .actions import find
from .record.rows import PlannedCall, PlannedStep, Record, Round, StepKind

COMMAND = "command"  # in a message's metadata: its platform made the responses from it
KINDS: dict[str, tuple[Any, str]] = {  # of JSON Schema: its type here, and in words
    "string": (str, "a text"),
    "integer": (int, "a whole number"),
    "number": (int | float, "a number"),
    "boolean": (bool, "yes or no"),
}
OPTIONS = "options"  # in a response's data: for its action


def is_command(memory: Memory, has_responses: bool) -> bool:
    """Return whether a person chose the action that a response names."""
    return has_responses and memory.metadata.get(COMMAND) is True


def options_problem(parameters: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """Return why the options of a command do not fit its action; "" if they do.

    Only plain values are looked at: what else the schema wants, the action checks.

    Args:
        parameters: The action's JSON Schema; empty: it takes none.
        options: As the platform gave them.
    """
    known = parameters.get("properties", {})
    for name in parameters.get("required", ()):
        if name not in options:
            return f"{name} is missing"
    for name, value in options.items() if known else ():
        if name not in known:
            return f"{name} is not known"
        kind, values = known[name].get("type"), known[name].get("enum")
        if kind in KINDS and not isinstance(value, KINDS[kind][0]):
            return f"{name} is {KINDS[kind][1]}"
        if values and value not in values:
            return f"{name} is one of {', '.join(map(str, values))}"
    return ""


def given_options(
    contents: Sequence[Content], steps: Sequence[PlannedStep], actions: Sequence[Any]
) -> list[Round]:
    """Return the options that responses have for their actions, as the record keeps them.

    Args:
        contents: Of the responses.
        steps: Those of all responses.
        actions: Those that there are.
    """
    given: dict[str, dict[str, Any]] = {}
    for content in contents:
        options = content.data.get(OPTIONS)
        if isinstance(options, Mapping):
            found = (find(name, actions) for name in content.actions)
            given |= {one.name: dict(options) for one in found if one is not None}
    runs = [step for step in steps if step.kind is StepKind.RUN and step.name in given]
    calls = [PlannedCall(step.number, step.name, given[step.name]) for step in runs]
    return [Round("", calls, is_last=True)] if calls else []


def has_sent(record: Record, step: PlannedStep) -> bool:
    """Return whether a step has sent something, or was to."""
    return any(part.step == step.number for part in record.parts)


def outcome_text(result: ActionResult, done: str) -> str:
    """Return what the person who gave a command is sent where its action sends nothing.

    Args:
        result: The action's.
        done: The text without a result.
    """
    if result.success:
        return result.text or done
    return result.error or result.text or f"{result.action} failed"
