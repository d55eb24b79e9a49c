"""Choose the actions to run and their order: by responses, or by a model's choice. Pure."""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import msgspec

from garrison.workers import Content

REPLY, IGNORE, NONE = "REPLY", "IGNORE", "NONE"
SILENT = frozenset({"ignore", "none"})
MAX_EXAMPLES = 2  # of an action, in a prompt
MAX_EXAMPLE = 500  # characters
MAX_CHOICE = 20_000  # characters of a model's answer that are searched


class Named(Protocol):
    """The fields of an action that a choice needs."""

    name: str
    description: str
    similes: Any  # names
    examples: Any
    priority: int


class Say(msgspec.Struct, frozen=True):
    """Send a response unchanged."""

    content: Content


class Reply(msgspec.Struct, frozen=True):
    """Generate a response with a model."""


class Run(msgspec.Struct, frozen=True):
    """Run an action."""

    action: Any


class Unknown(msgspec.Struct, frozen=True):
    """A name that no action has."""

    name: str
    problem: str


Step = Say | Reply | Run | Unknown


def normalise(name: str) -> str:
    """Return a name in lower case without underscores, hyphens and spaces."""
    return re.sub(r"[\s_\-]+", "", name).casefold()


def find(name: str, actions: Sequence[Named]) -> Any | None:
    """Return the action with a name, or else the one with that simile; None if there is none."""
    wanted = normalise(name)
    if not wanted:
        return None
    for action in actions:
        if normalise(action.name) == wanted:
            return action
    for action in actions:
        if wanted in {normalise(simile) for simile in action.similes}:
            return action
    return None


def unknown_action(name: str, actions: Sequence[Named]) -> str:
    """Return the error text for a name that no action has."""
    known = {normalise(action.name): action.name for action in actions}
    close = difflib.get_close_matches(normalise(name), known, n=1)
    hint = f"; did you mean {known[close[0]]}?" if close else ""
    return f"there is no action {name!r}{hint}"


def plan_steps(content: Content, actions: Sequence[Named]) -> list[Step]:
    """Return the steps of one response, in order."""
    if not content.actions:
        return [Say(content)] if content.text or content.attachments else []
    steps: list[Step] = []
    for name in content.actions:
        action = find(name, actions)
        if action is not None:
            steps.append(Run(action))
        elif normalise(name) in SILENT:
            break
        elif normalise(name) != normalise(REPLY):
            steps.append(Unknown(name, unknown_action(name, actions)))
        elif content.text or content.attachments:
            steps.append(Say(content))
        else:
            steps.append(Reply())
    return steps


def in_order(actions: Iterable[Any]) -> list[Any]:
    """Sort actions by priority, highest first; equal ones keep their order."""
    return sorted(actions, key=lambda action: -action.priority)


# --- a model's choice ---------------------------------------------------------------------


def question(actions: Sequence[Named]) -> str:
    """Return the prompt for a model that chooses among the valid actions."""
    return "\n".join(
        [
            "Decide what to do about the last message. The possible actions:",
            *(_describe(action) for action in actions),
            *(
                f"- {name}: {meaning}"
                for name, meaning in (
                    (REPLY, "answer with a text of your own"),
                    (IGNORE, "say nothing, because it is not for you"),
                    (NONE, "say nothing, because nothing is left to say"),
                )
                if find(name, actions) is None
            ),
            "",
            'Answer with one line of JSON and nothing else: {"actions": ["NAME", …]}, in the '
            "order in which to run them.",
        ]
    )


def _describe(action: Named) -> str:
    line = f"- {action.name}: {action.description}".rstrip(": ")
    return "\n".join([line, *(f"  for example: {example}" for example in _examples(action))])


def tool_description(action: Named) -> str:
    """Return an action's description and examples, for a model that calls it as a tool."""
    lines = [f"For example: {example}" for example in _examples(action)]
    return "\n".join(filter(None, [action.description, *lines]))


def _examples(action: Named) -> list[str]:
    found = (_example_line(example) for example in list(action.examples)[:MAX_EXAMPLES])
    return [line for line in found if line]


def choice_schema(actions: Sequence[Named]) -> dict[str, Any]:
    """Return the JSON Schema of an answer to `question`."""
    names = [action.name for action in actions]
    names += [name for name in (REPLY, IGNORE, NONE) if find(name, actions) is None]
    chosen = {"type": "array", "items": {"enum": names}, "minItems": 1, "maxItems": len(names)}
    return {
        "type": "object",
        "properties": {"actions": chosen},
        "required": ["actions"],
        "additionalProperties": False,
    }


def names_of(chosen: Any, actions: Sequence[Named]) -> list[str]:
    """Return the names in an answer by `choice_schema`, each once; REPLY if it has none."""
    found = chosen.get("actions") if isinstance(chosen, dict) else None
    named = found if isinstance(found, list) else []
    return _known([name for name in named if isinstance(name, str)], actions)


def parameters_question(action: Named) -> str:
    """Return the prompt for a model that fills in an action's parameters."""
    about = action.description or "it has no description"
    return (
        f"You run the action {action.name} for the last message: {about}.\n"
        "Answer with its parameters as JSON and nothing else."
    )


def _example_line(example: Any) -> str:
    """Return an example in one line; authors use strings or any JSON."""
    if isinstance(example, str):
        return " ".join(example.split())[:MAX_EXAMPLE]
    try:
        return msgspec.json.encode(example).decode()[:MAX_EXAMPLE]
    except (TypeError, ValueError, OverflowError, RecursionError):
        return ""


def parse_choice(text: str, actions: Sequence[Named]) -> list[str]:
    """Return the names that a model chose; REPLY if its answer has none.

    The JSON may be surrounded by text or a code fence; a list or a single name is accepted too.
    """
    return _known(_parse_names(text), actions)


def _known(found: Sequence[str], actions: Sequence[Named]) -> list[str]:
    """Return the names that mean something, each once; REPLY if none does."""
    names = dict[str, str]()
    for name in found:
        names.setdefault(normalise(name), name)
    known = [
        name
        for key, name in names.items()
        if find(name, actions) is not None or key in {*SILENT, normalise(REPLY)}
    ]
    return known or [REPLY]


def _parse_names(text: str) -> list[str]:
    for found in re.finditer(r"\{[^{}]*\}|\[[^\[\]]*\]", text[:MAX_CHOICE]):
        try:
            value = msgspec.json.decode(found[0])
        except (msgspec.DecodeError, UnicodeError):
            continue
        if isinstance(value, dict):
            value = value.get("actions", value.get("action"))
        if isinstance(value, str):
            value = re.split(r"[,;]", value)
        if isinstance(value, list):
            return [name.strip() for name in value if isinstance(name, str) and name.strip()]
    lines = text.strip().splitlines()
    if len(lines) == 1 and len(lines[0]) < 200:
        return [name.strip(" .\"'`*") for name in re.split(r"[,;]", lines[0])]
    return []
