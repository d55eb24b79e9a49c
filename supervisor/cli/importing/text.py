"""Writes imported programs as the text of a `config.toml`. Pure."""

import json
import textwrap
from collections.abc import Mapping
from typing import Any

from .program import Imported, Program

WIDTH = 96


def env_file(program: Program) -> str:
    """Return the name of the file that has a program's secrets."""
    return f".env.{program.name}"


def config_text(found: Imported, origin: str, files: bool) -> str:
    """Return the config.

    Args:
        found: What was read.
        origin: The path of the file that it was read from.
        files: Whether the secrets are written into files beside it.
    """
    lines = [f"# From {origin}, by garrison import.", *_notes(found.host_notes)]
    before: list[str] = []
    for program in found.programs:
        notes = program.notes if program.notes != before else []  # of instances: once
        lines += ["", *_section(program, files), *_notes(notes)]
        before = program.notes
    return "\n".join(lines) + "\n"


def env_text(program: Program) -> str:
    """Return the text of the file of a program's secrets."""
    return "".join(f"{name}={_quoted(value)}\n" for name, value in program.secrets.items())


def _section(program: Program, files: bool) -> list[str]:
    lines = [f"# {program.origin}", f"[services.{key(program.name)}]"]
    lines.append(f"command = {value(program.command)}")
    lines += [f"{name} = {value(one)}" for name, one in program.keys.items()]
    if program.env:
        lines.append(f"env = {value(program.env)}")
    granted = dict(program.granted)
    if program.secrets and files:
        lines.append(f"env_file = {value(env_file(program))}")
    elif program.secrets:
        granted |= {name: name for name in program.secrets}
        lines.append(f"# {', '.join(program.secrets)}: with -o FILE, its value is kept in a file")
    if granted:
        plain = all(name == source for name, source in granted.items())
        lines.append(f"secrets = {value(list(granted) if plain else granted)}")
    return lines


def _notes(notes: list[str]) -> list[str]:
    lines: list[str] = []
    for note in dict.fromkeys(notes):
        shown = "".join(one if one.isprintable() else " " for one in note)
        lines += textwrap.wrap(
            shown, WIDTH, initial_indent="# left out: ", subsequent_indent="#   "
        )
    return lines


def key(word: str) -> str:
    """Return a key as TOML has it."""
    bare = word.isascii() and word.replace("-", "").replace("_", "").isalnum()
    return word if bare else _string(word)


def value(one: Any) -> str:
    """Return a value as TOML has it."""
    if isinstance(one, bool):
        return "true" if one else "false"
    if isinstance(one, float):
        return f"{one:g}" if abs(one) < 1e6 else repr(one)
    if isinstance(one, int):
        return str(one)
    if isinstance(one, Mapping):
        return "{ " + ", ".join(f"{key(name)} = {value(part)}" for name, part in one.items()) + " }"
    if isinstance(one, list):
        return "[" + ", ".join(map(value, one)) + "]"
    return _string(str(one))


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _quoted(text: str) -> str:
    """Return a value as a file of variables has it."""
    if "'" not in text and "\n" not in text:
        return f"'{text}'"
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
