"""Slash commands: the agent's actions as Discord registers them, and its options back. Pure.

Discord's names of options are lower-case, an action's parameters need not be: the names of a
command's options are made from its parameters, and are translated back when it arrives.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from garrison.workers import Command

CHAT_INPUT = 1  # Discord's type of a command that is written
TEXT = "text"  # the option of a command whose action has no parameters
TEXT_ABOUT = "What to say with it"
ABOUT_MOST = 100  # characters of a description, and of a choice's name
CHOICES_MOST = 25  # of one option
NAME_MOST = 32  # characters
KINDS = {"string": 3, "integer": 4, "boolean": 5, "number": 10}

_OTHERS = re.compile(r"[^a-z0-9_-]+")


def payload_of(commands: Iterable[Command]) -> list[dict[str, Any]]:
    """Return what Discord registers for commands, in the order of their names."""
    return [
        {
            "name": command.name,
            "description": command.description[:ABOUT_MOST],
            "type": CHAT_INPUT,
            "options": _options(command),
        }
        for command in sorted(commands, key=lambda one: one.name)
    ]


def digest(payload: list[dict[str, Any]]) -> str:
    """Return a hash of what is registered."""
    return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()


def options_of(command: Command, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a command's options by the names of the action's parameters.

    Args:
        command: The command.
        given: By Discord's names.
    """
    names = option_names(command)
    return {names[name]: value for name, value in given.items() if name in names}


def text_of(command: Command, given: Mapping[str, Any]) -> str:
    """Return what was written after a command."""
    if not option_names(command):
        return str(given.get(TEXT, ""))
    return ", ".join(f"{name}: {value}" for name, value in given.items())


def option_names(command: Command) -> dict[str, str]:
    """Return the parameters of a command by Discord's names of them."""
    found: dict[str, str] = {}
    for number, parameter in enumerate(_properties(command), 1):
        name = _OTHERS.sub("_", parameter.lower()).strip("_")[:NAME_MOST]
        found[name if name and name not in found else f"option_{number}"] = parameter
    return found


def _options(command: Command) -> list[dict[str, Any]]:
    properties = _properties(command)
    required = (command.parameters or {}).get("required", [])
    if not properties:
        kind = KINDS["string"]
        return [{"name": TEXT, "description": TEXT_ABOUT, "type": kind, "required": False}]
    made = [
        _option(name, parameter, properties[parameter], parameter in required)
        for name, parameter in option_names(command).items()
    ]
    return sorted(made, key=lambda one: not one["required"])  # Discord wants required ones first


def _option(
    name: str, parameter: str, schema: Mapping[str, Any], is_required: bool
) -> dict[str, Any]:
    about = " ".join(str(schema.get("description") or parameter).split())[:ABOUT_MOST]
    option: dict[str, Any] = {
        "name": name,
        "description": about,
        "type": KINDS[schema["type"]],
        "required": is_required,
    }
    values = schema.get("enum")
    if values and len(values) <= CHOICES_MOST and schema["type"] != "boolean":
        option["choices"] = [{"name": str(one)[:ABOUT_MOST], "value": one} for one in values]
    return option


def _properties(command: Command) -> dict[str, Any]:
    return dict((command.parameters or {}).get("properties") or {})
