"""Converts config values to an author's `Config` class; an error names the key."""

import contextlib
import difflib
import functools
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from garrison.ipc.messages import ConfigProblem


class ConfigMismatch(Exception):
    """A config value does not match its class; `problem` is its form on the wire."""

    def __init__(self, problem: ConfigProblem) -> None:
        self.problem = problem
        super().__init__(f"{'.'.join(problem.keys)}: {problem.problem}")


def convert_config(cls: Any, values: dict[str, Any], keys: tuple[str, ...]) -> Any:
    """Return an instance of a config class, or the values themselves where there is no class.

    Args:
        cls: A `msgspec.Struct`, or None.
        values: A table of the config file.
        keys: The table's path: ("services", "discord", "config").

    Raises:
        ConfigMismatch: A value does not match, or a key is unknown.
    """
    if cls is None:
        return values
    if values:
        _refuse_unknown(_type_info(cls), values, keys)
    try:
        return msgspec.convert(values, cls)
    except msgspec.ValidationError as error:
        where, problem = _human(str(error))
        raise ConfigMismatch(ConfigProblem((*keys, *where), problem)) from error


def prepare(cls: Any) -> None:
    """Read a config class, in the launcher, so that its workers need not."""
    with contextlib.suppress(Exception):  # a worker reports what is wrong with it
        _type_info(cls)
        msgspec.convert({}, cls)


@functools.lru_cache(maxsize=64)
def _type_info(cls: Any) -> Any:
    return msgspec.inspect.type_info(cls)


def _refuse_unknown(info: Any, value: Any, keys: tuple[str, ...]) -> None:
    """Raise ConfigMismatch for an unknown key or an invalid choice, at any depth.

    Args:
        info: The type, as msgspec describes it.
        value: The value in the file.
        keys: Its path.
    """
    match info, value:
        case msgspec.inspect.UnionType(), None:  # a test's config may have it
            return
        case msgspec.inspect.UnionType(types), _ if (only := _besides_none(types)) is not None:
            _refuse_unknown(only, value, keys)
        case msgspec.inspect.StructType(array_like=False), dict():
            known = {field.encode_name: field.type for field in info.fields}
            for key, inner in value.items():
                if key not in known and key != info.tag_field:
                    close = difflib.get_close_matches(key, known, n=1)
                    hint = f"did you mean {close[0]!r}?" if close else _known(known)
                    raise ConfigMismatch(ConfigProblem((*keys, key), f"no such key; {hint}"))
                _refuse_unknown(known.get(key), inner, (*keys, key))
        case msgspec.inspect.StructType(array_like=False, fields=fields), (
            str() | int() | float() | list()
        ):
            there = ", ".join(field.encode_name for field in fields) or "no keys"
            problem = f"expected a table with {there}, got {type(value).__name__}"
            raise ConfigMismatch(ConfigProblem(keys, problem))
        case msgspec.inspect.UnionType(types), _:
            tables = [one for one in types if isinstance(one, msgspec.inspect.StructType)]
            if len(tables) == 1:  # with several, msgspec chooses by the tag
                _refuse_unknown(tables[0], value, keys)
        case msgspec.inspect.ListType(item_type=item) | msgspec.inspect.VarTupleType(
            item_type=item
        ), list():
            for inner in value:
                _refuse_unknown(item, inner, keys)
        case msgspec.inspect.DictType(value_type=item), dict():
            for key, inner in value.items():
                _refuse_unknown(item, inner, (*keys, key))
        case msgspec.inspect.LiteralType(values=choices), _ if value not in choices:
            there = ", ".join(sorted(map(repr, choices)))
            raise ConfigMismatch(ConfigProblem(keys, f"{value!r:.80} is not one of {there}"))


def _besides_none(types: tuple[Any, ...]) -> Any:
    """Return the one type of a union that is not None; None if there are several."""
    others = [one for one in types if not isinstance(one, msgspec.inspect.NoneType)]
    return others[0] if len(others) == 1 else None


def _known(names: Iterable[str]) -> str:
    return f"known are {', '.join(names) or 'none'}"


def _human(text: str) -> tuple[tuple[str, ...], str]:
    """Split an error of msgspec, `Expected `int`, got `str` - at `$.a.b``, into path and text."""
    text = text.replace(" - at `key` in `$", ", for a key - at `$")
    problem, _, path = text.partition(" - at `$")
    where = tuple(part for part in re.split(r"[.`]|\[.*?\]", path) if part)
    missing = re.fullmatch(r"Object missing required field `(.+)`", problem)
    if missing:
        return (*where, missing[1]), "is missing, and has no default"
    problem = problem.replace("`", "").replace(" | null", "")  # a file has no null
    return where, problem[:1].lower() + problem[1:]
