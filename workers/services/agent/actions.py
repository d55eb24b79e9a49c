"""Which actions are run, in which order: by what responses name, or by what a model says. Pure."""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from garrison.workers import Content

REPLY, IGNORE, NONE = "REPLY", "IGNORE", "NONE"
QUIET = frozenset({"ignore", "none"})
EXAMPLES = 2  # of an action, shown to a model


class Named(Protocol):
    """What is needed of an action to choose it."""

    name: str
    description: str
    similes: Any  # names
    examples: Any
    priority: int


class Say(NamedTuple):
    """Say a response as it stands."""

    content: Content


class Reply(NamedTuple):
    """Have a model say something."""


class Run(NamedTuple):
    """Run an action."""

    action: Any


class Unknown(NamedTuple):
    """A name that is no action's."""

    name: str
    problem: str


Step = Say | Reply | Run | Unknown


def normalise(name: str) -> str:
    """Return a name without what does not count in it: case, underscores, hyphens, spaces."""
    return re.sub(r"[\s_\-]+", "", name).casefold()


def find(name: str, actions: Sequence[Named]) -> Any | None:
    """Return the action of that name, else the one that has it among its similes."""
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


def unknown(name: str, actions: Sequence[Named]) -> str:
    """Return the sentence on a name that is no action's."""
    known = {normalise(action.name): action.name for action in actions}
    close = difflib.get_close_matches(normalise(name), known, n=1)
    hint = f"; did you mean {known[close[0]]}?" if close else ""
    return f"there is no action {name!r}{hint}"


def plan_steps(content: Content, actions: Sequence[Named]) -> list[Step]:
    """Return what is to be done with one response, in order."""
    if not content.actions:
        return [Say(content)] if content.text or content.attachments else []
    made: list[Step] = []
    for name in content.actions:
        action = find(name, actions)
        if action is not None:
            made.append(Run(action))
        elif normalise(name) in QUIET:
            break
        elif normalise(name) != normalise(REPLY):
            made.append(Unknown(name, unknown(name, actions)))
        elif content.text or content.attachments:
            made.append(Say(content))
        else:
            made.append(Reply())
    return made


def in_order(actions: Iterable[Any]) -> list[Any]:
    """Return actions by their priority, the highest first; among equals, in their order."""
    return sorted(actions, key=lambda action: -action.priority)


# --- a model's choice ---------------------------------------------------------------------


def question(actions: Sequence[Named]) -> str:
    """Return what a model is asked, to have it choose among actions that apply."""
    return "\n".join(
        [
            "Decide what to do about the last message. These can be done:",
            *(_offered(action) for action in actions),
            *(
                f"- {name}: {meaning}"
                for name, meaning in (
                    (REPLY, "answer with a text of your own"),
                    (IGNORE, "say nothing, for it is not for you"),
                    (NONE, "say nothing, for nothing is left to say"),
                )
                if find(name, actions) is None
            ),
            "",
            'Answer with one line of JSON and nothing else: {"actions": ["NAME", …]}, in the '
            "order in which they are to be done.",
        ]
    )


def _offered(action: Named) -> str:
    line = f"- {action.name}: {action.description}".rstrip(": ")
    said = [_told(example) for example in list(action.examples)[:EXAMPLES]]
    return "\n".join([line, *(f"  for example: {one}" for one in said if one)])


def _told(example: Any) -> str:
    """Return an example in one line, of whichever form an author gave."""
    if isinstance(example, str):
        return " ".join(example.split())[:500]
    try:
        return msgspec.json.encode(example).decode()[:500]
    except (TypeError, ValueError, OverflowError, RecursionError):
        return ""


def chosen(text: str, actions: Sequence[Named]) -> list[str]:
    """Return the names that a model chose; REPLY where its answer cannot be read.

    It may stand among other words, in a fence, as a list or as a single name.
    """
    names = {normalise(name): name for name in reversed(_read(text))}
    known = [
        name
        for key, name in reversed(names.items())
        if find(name, actions) is not None or key in {*QUIET, normalise(REPLY)}
    ]
    return known or [REPLY]


def _read(text: str) -> list[str]:
    for found in re.finditer(r"\{[^{}]*\}|\[[^\[\]]*\]", text[:20_000]):
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
