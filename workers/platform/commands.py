"""Commands that people type or choose: the agent's actions, as platforms name them. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from garrison.workers.agents.content import Content, Memory

NAME_MOST = 32  # characters
DESCRIPTION_MOST = 100  # characters
PARAMETERS_MOST = 25
COMMANDS_MOST = 100  # of one platform
BUILT_IN = frozenset({"reply", "ignore", "none"})  # what the agent does without an action
SCALARS = frozenset({"string", "integer", "number", "boolean"})
TRUE, FALSE = frozenset({"yes", "true", "on", "1"}), frozenset({"no", "false", "off", "0"})

COMMAND = "command"  # key in the metadata of a message that is a command
OPTIONS = "options"  # in a content's data: the action's parameters by name

_OTHERS = re.compile(r"[^a-z0-9_]+")


class CommandAction(Protocol):
    """The fields of an action that a command needs."""

    name: str
    description: str
    parameters: Any  # JSON Schema


class Command(msgspec.Struct):
    """One action of the agent, as a command of a platform."""

    name: str  # 1 to 32 of a-z, 0-9 and _
    description: str  # 1 to 100 characters
    action: str  # the action's name
    parameters: dict[str, Any] | None = None  # JSON Schema of an object of plain values

    def options(self, text: str) -> dict[str, Any]:
        """Return the options in what was typed after the command.

        Each parameter takes a word, in order; the last one takes the rest. A word that does not fit
        its parameter stays a text, and the action refuses it.
        """
        known = (self.parameters or {}).get("properties", {})
        words = text.split(None, max(len(known) - 1, 0)) if known else []
        return {
            name: _converted(word.strip(), known[name])
            for name, word in zip(known, words, strict=False)
        }


def commands_of(actions: Iterable[CommandAction], wanted: bool | Sequence[str]) -> list[Command]:
    """Return the agent's actions as commands, each name once.

    Args:
        actions: Of the agent.
        wanted: True: all of them but those that are for a model; else the names of those that are
            wanted.
    """
    found: dict[str, Command] = {}
    for action in actions:
        name = _OTHERS.sub("_", action.name.lower()).strip("_")[:NAME_MOST].rstrip("_")
        if not name or name in found or not is_wanted(action.name, wanted):
            continue
        if wanted is True and getattr(action, "for_model", False):
            continue
        about = " ".join(action.description.split()) or f"Runs {action.name}"
        if len(about) > DESCRIPTION_MOST:
            about = about[: DESCRIPTION_MOST - 1].rstrip() + "…"
        found[name] = Command(name, about, action.name, flat_schema(action.parameters))
    return list(found.values())[:COMMANDS_MOST]


def is_wanted(action: str, wanted: bool | Sequence[str]) -> bool:
    """Return whether an action is a command, by the config's `commands`."""
    plain = _plain(action)
    if not plain or plain in BUILT_IN:
        return False
    if isinstance(wanted, bool):
        return wanted
    return plain in {_plain(one) for one in wanted}


def as_command(memory: Memory, wanted: bool | Sequence[str]) -> tuple[Memory, list[Memory]]:
    """Return a message as the agent gets it, and the response that names its action.

    Args:
        memory: As it is handed over.
        wanted: The config's `commands`.

    Returns:
        The memory, and no response where it is no command, or none that is wanted.
    """
    actions = memory.content.actions
    if len(actions) != 1 or not is_wanted(actions[0], wanted):
        return memory, []
    given = memory.content.data.get(OPTIONS)
    options = dict(given) if isinstance(given, Mapping) else {}
    response = Memory(
        content=Content(actions=list(actions), data={OPTIONS: options}),
        id=f"{memory.id}/command",  # the same whenever the command is received
        created_at=memory.created_at,
        room_id=memory.room_id,
    )
    marked = {**memory.metadata, COMMAND: True}
    return msgspec.structs.replace(memory, metadata=marked), [response]


def flat_schema(schema: Any) -> dict[str, Any] | None:
    """Return the JSON Schema of an object of plain values, required ones first.

    Returns:
        None where there are no parameters, or one is no plain value: then a command has none.
    """
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    if not isinstance(properties, Mapping) or not 0 < len(properties) <= PARAMETERS_MOST:
        return None
    defined, found = schema.get("$defs", {}), dict[str, Any]()
    for name, one in properties.items():
        plain = _plain_value(one, defined)
        if plain is None:
            return None
        found[name] = plain
    required = [name for name in schema.get("required", ()) if name in found]
    ordered = [*required, *(name for name in found if name not in required)]
    return {
        "type": "object",
        "properties": {name: found[name] for name in ordered},
        "required": required,
    }


def _plain_value(schema: Any, defined: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the schema of one plain value; None if it is another one."""
    if not isinstance(schema, Mapping):
        return None
    about = {"description": schema["description"]} if schema.get("description") else {}
    if "anyOf" in schema:
        others = [one for one in schema["anyOf"] if one != {"type": "null"}]
        plain = _plain_value(others[0], defined) if len(others) == 1 else None
        return None if plain is None else {**plain, **about}
    if reference := str(schema.get("$ref", "")):
        schema = defined.get(reference.rpartition("/")[2], {})
    kind, values = schema.get("type"), schema.get("enum")
    if kind is None and values and all(isinstance(one, str) for one in values):
        kind = "string"
    if kind is None and values and all(type(one) is int for one in values):
        kind = "integer"
    if kind not in SCALARS:
        return None
    return {"type": kind, **({"enum": list(values)} if values else {}), **about}


def _converted(word: str, schema: Mapping[str, Any]) -> Any:
    try:
        match schema["type"]:
            case "integer":
                return int(word)
            case "number":
                return float(word)
            case "boolean" if word.casefold() in TRUE | FALSE:
                return word.casefold() in TRUE
            case _:
                return word
    except ValueError:
        return word


def _plain(name: str) -> str:
    """Return a name as the agent compares it."""
    return re.sub(r"[\s_\-]+", "", name).casefold()
