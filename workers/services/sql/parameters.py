"""Parameters of a statement: `:name` in the text, in either database's own form. Pure.

Values never become text of a statement. `:name` counts outside of strings, quoted names, comments
and casts (`::`).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .results import SqlError

STATEMENT_MOST = 100_000  # characters
PARAMETERS_MOST = 1000

_TOKENS = re.compile(
    r"""
      (?P<escape>[eE]'(?:[^'\\]|\\.|'')*')           # PostgreSQL's string with backslashes
    | (?P<string>'(?:[^']|'')*')
    | (?P<quoted>"(?:[^"]|"")*"|`[^`]*`|\[[A-Za-z_][^\]\n:]*\])
    | (?P<line>--[^\n]*)
    | (?P<block>/\*)
    | (?P<dollar>\$(?P<tag>[A-Za-z_][A-Za-z0-9_]*)?\$)
    | (?P<cast>::)
    | (?P<name>(?<![:\w]):(?P<word>[A-Za-z_][A-Za-z0-9_]*))
    | (?P<word_>\w+)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)


class Bound(NamedTuple):
    """A statement in a driver's form, and its values in order."""

    sql: str
    values: list[Any]
    names: list[str]  # of the values, for errors; numbers where they are given in order


def bind(sql: str, params: Mapping[str, Any] | Sequence[Any], numbered: bool) -> Bound:
    """Return a statement with the placeholders of a driver.

    Args:
        sql: With `:name`, where `params` is a mapping. With a sequence it is left as it is, in the
            database's own form: `?` or `$1`.
        params: The values.
        numbered: `$1` for PostgreSQL; otherwise `?1` for SQLite.

    Raises:
        SqlError: The statement is empty or too long, or names and values do not match.
    """
    if not isinstance(sql, str) or not sql.strip():
        raise SqlError("the statement is empty", kind="statement")
    if len(sql) > STATEMENT_MOST:
        raise SqlError(f"a statement has {STATEMENT_MOST} characters at most", kind="statement")
    if "\0" in sql:
        raise SqlError("a statement has no NUL character", kind="statement")
    if len(params) > PARAMETERS_MOST:
        raise SqlError(f"there are {PARAMETERS_MOST} parameters at most", kind="parameters")
    if not isinstance(params, Mapping):
        return Bound(sql, list(params), [str(number + 1) for number in range(len(params))])
    if not params and ":" not in sql:
        return Bound(sql, [], [])
    return _named(sql, params, "$" if numbered else "?")


def _named(sql: str, params: Mapping[str, Any], sign: str) -> Bound:
    """Replace each `:name`; the same name is the same placeholder."""
    parts, places, at = list[str](), dict[str, int](), 0
    while at < len(sql):
        found = _TOKENS.match(sql, at)
        assert found is not None
        at, text = found.end(), found[0]
        if found["block"]:
            at = _end_of_comment(sql, found.start())
            text = sql[found.start() : at]
        elif found["dollar"] and sign == "$":
            end = sql.find(text, at)
            at = len(sql) if end < 0 else end + len(text)
            text = sql[found.start() : at]
        elif name := found["word"]:
            if name not in params:
                raise SqlError(f"there is no value for :{name}", kind="parameters")
            text = f"{sign}{places.setdefault(name, len(places) + 1)}"
        parts.append(text)
    unused = [name for name in params if name not in places]
    if unused:
        raise SqlError(f"the statement has no :{unused[0]}", kind="parameters")
    return Bound("".join(parts), [params[name] for name in places], list(places))


def _end_of_comment(sql: str, at: int) -> int:
    """Return where a comment ends; PostgreSQL nests them, and an end too late hides nothing."""
    end = sql.find("*/", at + 2)
    return len(sql) if end < 0 else end + 2
