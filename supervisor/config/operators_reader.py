"""Reads `[host] operators` (pure)."""

import re
from typing import Any

from . import values
from .operators import OperatorTeam, Permission
from .values import ConfigValueError, any_table, at_path, did_you_mean, each

PATTERN = re.compile(r"[A-Za-z0-9._*?\[\]!-]{1,64}")
MEMBERS = frozenset({"group", "users"})


def _pattern(value: object) -> str:
    if not isinstance(value, str):
        raise values.wrong_type("a NAME or a pattern in quotes", value)
    if not PATTERN.fullmatch(value):
        raise ConfigValueError(f'expected a NAME or a pattern such as "a-*", got `{value[:80]}`')
    return value


_READERS = {
    "group": values.account,
    "users": values.list_of(values.account, "users"),
    "services": values.list_of(_pattern, "NAMEs or patterns"),
    "may": values.list_of(values.choice(Permission), "words"),
}


def _team(value: object) -> OperatorTeam:
    fields = dict[str, Any]()
    for key, part in any_table(value).items():
        with at_path(key):
            if key not in _READERS:
                raise ConfigValueError(f"no such key of operators{did_you_mean(key, _READERS)}")
            fields[key] = _READERS[key](part)
    if not fields.keys() & MEMBERS:
        raise ConfigValueError('expected `group = "…"` or `users = ["…"]`: these are the operators')
    if not fields.get("services"):
        raise ConfigValueError('expected `services = ["…"]`: what these operators are for')
    return OperatorTeam(**fields)


def operators(value: object) -> dict[str, OperatorTeam]:
    """Read the table of all teams."""
    read: dict[str, OperatorTeam] = each(values.name, _team)(value)
    return read
