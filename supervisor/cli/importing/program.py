"""One program of another supervisor's file, as it becomes a section of `config.toml`. Pure."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from garrison.supervisor.config.values import RESERVED, VARIABLE

NAME_MOST = 64
# Names of variables whose values are kept out of the config
SECRET = re.compile(
    r"TOKEN|SECRET|PASSW(OR)?D|(^|_)PASS($|_)|API_?KEY|PRIVATE|CREDENTIAL|(^|_)KEY$|(^|_)AUTH($|_)"
    r"|(^|_)DSN$|WEBHOOK",
    re.IGNORECASE,
)
PASSWORD_IN_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s:@]*:[^/\s@]+@", re.IGNORECASE)


class ImportProblem(Exception):
    """A file cannot be imported; the text says why, and what to do."""


@dataclass
class Program:
    """One program.

    Attributes:
        name: NAME of its service.
        origin: Where it stands in the other file: "[program:web]".
        command: The program and its arguments.
        keys: The other keys of its section, in their order.
        env: Its variables, without secrets.
        secrets: Variables whose values are secret.
        granted: Secrets that are taken from the supervisor's environment: name → name there.
        notes: What has no counterpart, and why; a line each.
    """

    name: str
    origin: str
    command: list[str]
    keys: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    granted: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def set_variable(self, name: str, value: str) -> None:
        """Add a variable, as a secret if its name or its value looks like one."""
        if not VARIABLE.fullmatch(name) or "\0" in value:
            self.notes.append(f"variable {name!r}: no service can have one of this name")
        elif is_secret(name, value):
            self.secrets[name] = value
        else:
            self.env[name] = value


@dataclass
class Imported:
    """What was read of one file."""

    programs: list[Program] = field(default_factory=list)
    host_notes: list[str] = field(default_factory=list)  # about the file as a whole


def is_secret(name: str, value: str) -> bool:
    """Return True if a variable looks like a secret."""
    return bool(value) and bool(SECRET.search(name) or PASSWORD_IN_ADDRESS.search(value))


def service_name(wanted: str, taken: Collection[str]) -> str:
    """Return a NAME that garrison permits, as close to a name as possible, and not taken."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", wanted).strip("-_")[: NAME_MOST - 4] or "program"
    if name in RESERVED:
        name = f"{name}-program"
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    return found


def listed(words: Iterable[str]) -> str:
    """Return words as a sentence names them."""
    return ", ".join(words)
