"""The annotation of a key of `config.toml`, and reading it from a spec's fields (pure)."""

from collections.abc import Iterator
from types import NoneType
from typing import Any, get_args, get_type_hints

import msgspec


class Key(msgspec.Struct, frozen=True):
    """One key of `config.toml`: what its type does not say."""

    doc: str  # sentences; `reference` wraps them
    kind: str = ""  # for a text, and the items of a list: its reader's name in `values.KINDS`
    unit: str = ""  # of a number, or what the items of a list are
    least: int | None = None
    most: int | None = None
    above: int | None = None  # the value is larger than this
    zero: str = ""  # what 0 means, which is then accepted below `least`
    name: str = ""  # in the file, where the field is called otherwise
    own: bool = False  # not in [defaults]: it belongs to one service
    default: str = ""  # as TOML, where the field itself has none
    unset: str = ""  # what holds without the key, where that is no value
    example: str = ""  # as TOML


def duration(doc: str, *, above: int | None = None, zero: str = "") -> Key:
    """Return the key of a number of seconds."""
    return Key(doc, unit="seconds", least=0, above=above, zero=zero)


def count(doc: str, unit: str, least: int = 1, *, zero: str = "") -> Key:
    """Return the key of a whole number of something."""
    return Key(doc, unit=unit, least=least, zero=zero)


def inherited(doc: str, example: str, **rest: Any) -> Key:
    """Return the key of a property that a worker has from the supervisor by default."""
    return Key(doc, unset="as the supervisor", example=example, **rest)


def services(doc: str, example: str) -> Key:
    """Return the key of a list of services, in the section of one service."""
    return Key(doc, kind="name", unit="NAMEs", own=True, example=example)


class KeyGroup(msgspec.Struct, frozen=True, kw_only=True):
    """A group of keys: a part of a spec, whose keys stand in the spec's own table."""


class KeyField(msgspec.Struct, frozen=True):
    """A key, and what its field in `spec` says of it."""

    name: str  # in the file
    key: Key
    type: Any  # without `None`
    default: Any  # msgspec.NODEFAULT where the field has none


def key_fields(struct: type[msgspec.Struct]) -> Iterator[KeyField]:
    """Yield the keys of a spec, those of its groups among them."""
    hints = get_type_hints(struct, include_extras=True)
    for field in msgspec.structs.fields(struct):
        hint = hints[field.name]
        if isinstance(hint, type) and issubclass(hint, KeyGroup):
            yield from key_fields(hint)
        for key in getattr(hint, "__metadata__", ()):
            if isinstance(key, Key):
                yield KeyField(key.name or field.name, key, _without_none(hint), _default(field))


def _without_none(hint: Any) -> Any:
    """Return the type of an annotated field, `None` aside."""
    type_ = get_args(hint)[0]
    if NoneType not in get_args(type_):
        return type_
    (one,) = (part for part in get_args(type_) if part is not NoneType)
    return one


def _default(field: Any) -> Any:
    factory = field.default_factory
    return field.default if factory is msgspec.NODEFAULT else factory()
