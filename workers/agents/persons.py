"""Whom a stored value is about: for `forget_person` and `export_person`. Pure.

A person is a source, NAME of the platform's service, and the id there. A value that states no
source is taken to be the person's whose id it has.
"""

from collections.abc import Callable, Mapping
from typing import Any

DEPTH = 32  # of values within values
KEYS = ("entity_id", "entityId", "person")

IsPerson = Callable[[str, str], bool]  # of a source, which may be empty, and an id


def is_person(source: str, person: str) -> IsPerson:
    """Return the function that recognizes one person."""
    return lambda of, one: one == person and of in {"", source}


def is_about(value: Any, matches: IsPerson, depth: int = DEPTH) -> bool:
    """Return whether a decoded value contains a message, or another record, of a person.

    Args:
        value: Of plain types, as msgpack and JSON have them.
        matches: Recognizes the person.
        depth: How deep to look.
    """
    if isinstance(value, Mapping):
        if any(
            isinstance(one := value.get(key), str) and matches(_source(value), one) for key in KEYS
        ):
            return True
        value = list(value.values())
    if not isinstance(value, list | tuple) or not depth:
        return False
    return any(is_about(one, matches, depth - 1) for one in value)


def _source(value: Mapping[Any, Any]) -> str:
    content = value.get("content")
    found = content.get("source") if isinstance(content, Mapping) else None
    found = found or value.get("source")
    return found if isinstance(found, str) else ""
