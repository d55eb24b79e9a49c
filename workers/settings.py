"""Config values held against an author's `Config` class; a misfit is named by its key."""

import difflib
import re
from typing import Any

import msgspec

from garrison.ipc.messages import ConfigProblem


class Misfit(Exception):
    """Values that do not fit; it carries the problem as it travels."""

    def __init__(self, problem: ConfigProblem) -> None:
        self.problem = problem
        super().__init__(f"{'.'.join(problem.keys)}: {problem.problem}")


def fit(cls: Any, values: dict[str, Any], keys: tuple[str, ...]) -> Any:
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
    _refuse_unknown(cls, values, keys)
    try:
        return msgspec.convert(values, cls)
    except msgspec.ValidationError as error:
        where, problem = _human(str(error))
        raise Misfit(ConfigProblem((*keys, *where), problem)) from error


def _refuse_unknown(cls: Any, values: dict[str, Any], keys: tuple[str, ...]) -> None:
    known = {field.encode_name: field.type for field in msgspec.structs.fields(cls)}
    for key, value in values.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise Misfit(ConfigProblem((*keys, key), f"no such key; {hint}"))
        inner = known[key]
        if (
            isinstance(value, dict)
            and isinstance(inner, type)
            and issubclass(inner, msgspec.Struct)
        ):
            _refuse_unknown(inner, value, (*keys, key))


def _human(text: str) -> tuple[tuple[str, ...], str]:
    """Take `Expected `int`, got `str` - at `$.a.b`` apart."""
    problem, _, path = text.partition(" - at `$")
    where = tuple(part for part in re.split(r"[.`]|\[.*?\]", path) if part)
    missing = re.fullmatch(r"Object missing required field `(.+)`", problem)
    if missing:
        return (*where, missing[1]), "is missing, and has no default"
    problem = problem.replace("`", "")
    return where, problem[:1].lower() + problem[1:]
