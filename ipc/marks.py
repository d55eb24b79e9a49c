"""Marks of string fields: free text, which may hold a secret, or an identifier. Pure.

Every string that a worker sends carries one of the two marks in its annotation. `redact_marked`
follows them, so a new field or message is redacted without code of its own.
"""

import functools
import types
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec


class Mark(Enum):
    """What a string field holds."""

    TEXT = "text"  # written by an author or an exception: redacted before it is sent
    IDENTIFIER = "identifier"  # a name, a verb, an id: sent as it is
    VALUES = "values"  # any values of an author's: each string in them is redacted


Text = Annotated[str, Mark.TEXT]
Identifier = Annotated[str, Mark.IDENTIFIER]
Values = Annotated[dict[str, Any], Mark.VALUES]

Redact: TypeAlias = Callable[[str], str]
Rewrite: TypeAlias = Callable[[Any, Redact], Any]
S = TypeVar("S", bound=msgspec.Struct)


def redact_marked(message: S, redact: Redact) -> S:
    """Return a message whose text fields went through `redact`, at any depth."""
    rewrite = _struct_rewrite(type(message))
    if rewrite is None:
        return message
    redacted: S = rewrite(message, redact)
    return redacted


def carries_text(cls: type) -> bool:
    """Return True if a message of this class has a text field, at any depth."""
    return _struct_rewrite(cls) is not None


def redact_values(value: Any, redact: Redact) -> Any:
    """Return a value of plain data whose strings, keys too, went through `redact`."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, list):
        return [redact_values(one, redact) for one in value]
    if isinstance(value, dict):
        return {
            redact_values(key, redact): redact_values(one, redact) for key, one in value.items()
        }
    return value


@functools.cache
def _struct_rewrite(cls: type) -> Rewrite | None:
    """Return what rewrites the text fields of a Struct; None if it has none."""
    hints = get_type_hints(cls, include_extras=True)
    fields: dict[str, Rewrite] = {}
    for name in cls.__struct_fields__:  # type: ignore[attr-defined]
        if (rewrite := _rewrite(hints[name])) is not None:
            fields[name] = rewrite
    if not fields:
        return None

    def rewrite_fields(message: Any, redact: Redact) -> Any:
        changes = {name: of(getattr(message, name), redact) for name, of in fields.items()}
        return msgspec.structs.replace(message, **changes)

    return rewrite_fields


def _rewrite(annotation: Any) -> Rewrite | None:
    """Return what rewrites the text in a value of this type; None if there can be none."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return _struct_rewrite(annotation)
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        if Mark.TEXT in args[1:]:
            return lambda value, redact: redact(value)
        if Mark.VALUES in args[1:]:
            return redact_values
        return _rewrite(args[0])
    if origin is tuple or origin is list:
        return _sequence_rewrite(origin, _rewrite(args[0]))
    if origin is dict:
        return _map_rewrite(_rewrite(args[1]))
    if origin in {Union, types.UnionType}:
        return _union_rewrite(args)
    return None


def _sequence_rewrite(of: type, rewrite: Rewrite | None) -> Rewrite | None:
    if rewrite is None:
        return None
    return lambda values, redact: of(rewrite(one, redact) for one in values)


def _map_rewrite(rewrite: Rewrite | None) -> Rewrite | None:
    if rewrite is None:
        return None
    return lambda values, redact: {key: rewrite(one, redact) for key, one in values.items()}


def _union_rewrite(members: tuple[Any, ...]) -> Rewrite | None:
    """Return what rewrites an optional value; other unions of text are a mistake."""
    rewrites = [found for one in members if (found := _rewrite(one)) is not None]
    if not rewrites:
        return None
    if len(rewrites) > 1 or len(members) != 2 or type(None) not in members:
        raise TypeError(f"text in {members} cannot be found: only `T | None` is supported")
    (rewrite,) = rewrites
    return lambda value, redact: None if value is None else rewrite(value, redact)
