"""Config values held against an author's `Config` class; a misfit is named by its key."""

import difflib
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from garrison.ipc.messages import ConfigProblem


class ConfigMismatch(Exception):
    """Values that do not fit; it carries the problem as it travels."""

    def __init__(self, problem: ConfigProblem) -> None:
        self.problem = problem
        super().__init__(f"{'.'.join(problem.keys)}: {problem.problem}")


def convert_config(cls: Any, values: dict[str, Any], keys: tuple[str, ...]) -> Any:
    """Return an instance of a config class, or the values as they are where there is no class.

    Args:
        cls: A `msgspec.Struct`, or None.
        values: A table of the config file.
        keys: The table's own keys, from the top of the file.

    Raises:
        Misfit: A value does not fit, or a key is unknown.
    """
    if cls is None:
        return values
    _refuse_unknown(msgspec.inspect.type_info(cls), values, keys)
    try:
        return msgspec.convert(values, cls)
    except msgspec.ValidationError as error:
        where, problem = _human(str(error))
        raise ConfigMismatch(ConfigProblem((*keys, *where), problem)) from error


def _refuse_unknown(info: Any, value: Any, keys: tuple[str, ...]) -> None:
    """Raise Misfit for a key that no class has, and for no choice of several, however deep.

    Args:
        info: What msgspec says of the type.
        value: What the file has there.
        keys: Where.
    """
    match info, value:
        case msgspec.inspect.StructType(array_like=False), dict():
            known = {field.encode_name: field.type for field in info.fields}
            for key, inner in value.items():
                if key not in known and key != info.tag_field:
                    close = difflib.get_close_matches(key, known, n=1)
                    hint = f"did you mean {close[0]!r}?" if close else _known(known)
                    raise ConfigMismatch(ConfigProblem((*keys, key), f"no such key; {hint}"))
                _refuse_unknown(known.get(key), inner, (*keys, key))
        case msgspec.inspect.UnionType(types), _:
            tables = [one for one in types if isinstance(one, msgspec.inspect.StructType)]
            if len(tables) == 1:  # among several, the tag decides, and msgspec looks at it
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
            raise ConfigMismatch(ConfigProblem(keys, f"{value!r:.80} is none of {there}"))


def _known(names: Iterable[str]) -> str:
    return f"known are {', '.join(names) or 'none'}"


def _human(text: str) -> tuple[tuple[str, ...], str]:
    """Take `Expected `int`, got `str` - at `$.a.b`` apart."""
    text = text.replace(" - at `key` in `$", ", for a key - at `$")
    problem, _, path = text.partition(" - at `$")
    where = tuple(part for part in re.split(r"[.`]|\[.*?\]", path) if part)
    missing = re.fullmatch(r"Object missing required field `(.+)`", problem)
    if missing:
        return (*where, missing[1]), "is missing, and has no default"
    problem = problem.replace("`", "")
    return where, problem[:1].lower() + problem[1:]
