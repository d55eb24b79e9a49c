"""Reads single values of `config.toml`, as `tomllib` gives them (pure).

A reader returns a value as the specs hold it, or raises `ConfigValueError`. No error shows a value
of `env` or `secrets`: a token is easily put in the wrong place.
"""

import json
import re
import signal
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

from .passed_variables import is_passed_to_all

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # it is also a file's name in logs/, state/
RESERVED = frozenset({"supervisor", "launcher"})  # the host's own logs and locks have these names
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}\$?")
MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
USE = re.compile(r"[\w.-]+(:[^\W\d][\w.]*)?")
SIZE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?) ?([kmgt])(i?b)?", re.IGNORECASE)
LONGEST = 1_000_000_000  # seconds; about 30 years, and no clock's arithmetic breaks on it
MOST = 2**63 - 1  # what the wire's integers hold

SHELL = frozenset("|&;<>$`*?(){}")  # what only a shell gives a meaning to
NO_STOP = frozenset({"SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGCONT", "SIGCHLD", "SIGCLD"})
STOP_SIGNALS = frozenset(one.name for one in signal.Signals) - NO_STOP

Reader = Callable[[Any], Any]


class ConfigValueError(Exception):
    """A value does not fit its key; `keys` lead from where the reading began to the value."""

    def __init__(self, problem: str, *keys: str | int) -> None:
        self.problem, self.keys = problem, keys
        super().__init__(problem)


@contextmanager
def at_path(*keys: str | int) -> Iterator[None]:
    """Put keys before those of an error that is raised inside."""
    try:
        yield
    except ConfigValueError as error:
        raise ConfigValueError(error.problem, *keys, *error.keys) from None


# --- error texts --------------------------------------------------------------------------


def nearest(word: str, known: Collection[str], cutoff: float = 0.6) -> list[str]:
    """Return the known word that is most like another, if one is like it."""
    from difflib import get_close_matches  # seldom needed, and large

    return get_close_matches(word, known, n=1, cutoff=cutoff)


def did_you_mean(word: str, known: Collection[str]) -> str:
    """Return a hint for an unknown word: the nearest known one, else all if they are few."""
    if near := nearest(word, known):
        return f"; did you mean `{near[0]}`?"
    return f"; known are {listed(known)}" if 0 < len(known) <= 8 else ""


def listed(words: Collection[str]) -> str:
    """Return words as a sentence names them."""
    return ", ".join(f"`{word}`" for word in words)


def wrong_type(expected: str, value: object) -> ConfigValueError:
    """Return the error of a value of another type."""
    types = {
        bool: "a boolean",
        int: "a whole number",
        float: "a number with a fraction",
        str: "a string",
        list: "a list",
        dict: "a table",
    }
    return ConfigValueError(
        f"expected {expected}, got {types.get(type(value), 'a date or a time')}"
    )


def abbreviate(number: float) -> str:
    """Return a number as text, short however long it is in the file."""
    text = str(number) if isinstance(number, float) or abs(number) <= MOST else ""
    return text if 0 < len(text) <= 24 else "a number far too large"


def range_text(least: int, most: int | None, zero: bool = False) -> str:
    """Return the bounds of a number as a sentence names them."""
    text = f"{least:,} or more" if most is None else f"{least:,} to {most:,}"
    return f"0, or {text}" if zero and least > 0 else text


# --- switches and numbers -----------------------------------------------------------------


def boolean(value: object) -> bool:
    """Read a switch."""
    if not isinstance(value, bool):
        raise wrong_type("true or false, without quotes", value)
    return value


def choice(words: type[Enum]) -> Reader:
    """Return the reader of one of a few words."""

    def read(value: object) -> Enum:
        known = [word.value for word in words]
        if not isinstance(value, str):
            raise wrong_type(f"one of {listed(known)}, in quotes", value)
        if value not in known:
            near = did_you_mean(value, known) if nearest(value, known) else ""
            raise ConfigValueError(f"expected one of {listed(known)}, got `{value}`{near}")
        return words(value)

    return read


def seconds(above: int | None = None) -> Reader:
    """Return the reader of a duration."""

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong_type("a number of seconds, such as 10 or 0.5", value)
        if not 0 <= value <= LONGEST:  # so written, NaN is refused too
            bounds = range_text(0, LONGEST)
            raise ConfigValueError(
                f"expected a number of seconds, {bounds}, got {abbreviate(value)}"
            )
        if above is not None and value <= above:
            raise ConfigValueError(f"expected a number of seconds above {above}, got {value:g}")
        return float(value)

    return read


def integer(unit: str, least: int, most: int | None = None, zero: bool = False) -> Reader:
    """Return the reader of a whole number.

    Args:
        unit: What it counts; empty where it is a mere number.
        least: The smallest value.
        most: The largest value; None: what fits into a message.
        zero: 0 is accepted too.
    """
    expected = f"a whole number of {unit}" if unit else "a whole number"
    bounds = range_text(least, most, zero)

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong_type(expected if unit else f"{expected}, {bounds}", value)
        if zero and value == 0:
            return value
        if not least <= value <= (MOST if most is None else most):
            range_ = f"at most {MOST:,}" if most is None and value > MOST else bounds
            raise ConfigValueError(f"expected {expected}, {range_}, got {abbreviate(value)}")
        return value

    return read


def size(least: int, zero: bool = False) -> Reader:
    """Return the reader of a number of bytes; a text with a unit is answered with that number."""
    read_number = integer("bytes", least, zero=zero)

    def read(value: object) -> int:
        if isinstance(value, str) and (found := SIZE.fullmatch(value.strip())):
            unit = found[2].upper()
            number = int(float(found[1]) * 1024 ** ("KMGT".index(unit) + 1))
            hint = f"write {number} for {found[1]} {unit}iB"
            raise ConfigValueError(f"expected a whole number of bytes, got a string: {hint}")
        return int(read_number(value))

    return read


def umask(value: object) -> int:
    """Read a umask, in quotes: a number would be taken for decimal, and 77 open a folder."""
    expected = 'a umask in quotes, such as "027"'
    if not isinstance(value, str):
        raise wrong_type(expected, value)
    if not re.fullmatch(r"(0o)?[0-7]{1,4}", value):
        raise ConfigValueError(f"expected {expected}: octal digits alone")
    mask = int(value.removeprefix("0o"), 8)
    if mask > 0o777:
        raise ConfigValueError(f"expected {expected}, at most 777")
    return mask


# --- texts --------------------------------------------------------------------------------


def is_name(word: str) -> bool:
    """Return True if a word can be the NAME of a service or plugin."""
    return NAME.fullmatch(word) is not None and word not in RESERVED


def name(value: object) -> str:
    """Read the NAME of a service or plugin."""
    if not isinstance(value, str):
        raise wrong_type("a NAME in quotes", value)
    if not is_name(value):
        raise ConfigValueError(
            f"`{value[:80]}` cannot be a NAME: it has letters, digits and . _ - alone, "
            "begins with a letter or a digit, is at most 64 characters long, and is neither "
            "supervisor nor launcher"
        )
    return value


def agent_name(value: object) -> str:
    """Read the NAME of an agent, which its services' NAMEs begin with, up to a dot."""
    word = name(value)
    if "." in word:
        raise ConfigValueError(f"an agent's NAME has no dot; call it `{word.replace('.', '-')}`")
    return word


def account(value: object) -> str:
    """Read a user or a group, by name or by number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(integer("", 0, 2**32 - 2)(value))
    if not isinstance(value, str):
        raise wrong_type("a name in quotes, or a number", value)
    if not ACCOUNT.fullmatch(value):
        raise ConfigValueError(
            "expected the name of a user or group on this machine, or its number"
        )
    return value


def path(value: object) -> Path:
    """Read a path; it may be relative."""
    if not isinstance(value, str):
        raise wrong_type("a path in quotes", value)
    if not value or "\0" in value:
        found = "a path with a NUL in it" if value else "an empty string"
        raise ConfigValueError(f"expected a path, got {found}")
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ConfigValueError(
            f"{value.split('/')[0]} has no home directory; write the path out"
        ) from None


def variable(value: object) -> str:
    """Read the name of an environment variable."""
    if not isinstance(value, str):
        raise wrong_type("the name of an environment variable, in quotes", value)
    if not VARIABLE.fullmatch(value):
        raise ConfigValueError(
            "expected the name of an environment variable (letters, digits and _), not its value"
        )
    return value


def variable_value(value: object) -> str:
    """Read the value of an environment variable."""
    if not isinstance(value, str):
        raise wrong_type("a string in quotes", value)
    if "\0" in value:
        raise ConfigValueError("an environment variable cannot hold a NUL")
    return value


def command(value: object) -> tuple[str, ...]:
    """Read a program and its arguments. A single string is refused: no shell would read it."""
    if isinstance(value, str):
        raise ConfigValueError(f"expected a list of strings, got a string: write {_as_list(value)}")
    if not isinstance(value, list):
        raise wrong_type("a list of strings: the program, then each of its arguments", value)
    for index, part in enumerate(value):
        with at_path(index):
            if not isinstance(part, str):
                raise wrong_type("a string in quotes", part)
            if "\0" in part:
                raise ConfigValueError("an argument cannot hold a NUL")
    if not value or not value[0].strip():
        raise ConfigValueError("expected a program and its arguments, got none")
    return tuple(value)


def _as_list(text: str) -> str:
    """Return the list that a command in one string was meant as, if a shell is not needed."""
    try:
        import shlex  # seldom needed

        words = shlex.split(text)
    except ValueError:  # a quote is open
        words = []
    if not words:
        return '["PROGRAM", "ARGUMENT"]'
    if set(text) & SHELL:
        words = ["sh", "-c", text]
    return json.dumps(words, ensure_ascii=False)


def ready(value: object) -> str:
    """Read how a command shows that it runs."""
    expected = 'expected "line: TEXT", "port: NUMBER" or "notify"'
    if not isinstance(value, str):
        raise wrong_type(f"{expected.removeprefix('expected ')}, in quotes", value)
    kind, colon, rest = value.partition(":")
    kind, rest = kind.strip(), rest.strip()
    if kind == "notify" and not colon:
        return kind
    if kind == "line" and rest and rest.isprintable():
        return f"line: {rest}"
    if kind == "port" and rest.isdecimal() and rest.isascii() and 0 < int(rest) < 65536:
        return f"port: {int(rest)}"
    raise ConfigValueError(f"{expected}, got `{value[:80]}`")


def stop_signal(value: object) -> str:
    """Read the name of a signal that asks a program to end."""
    if not isinstance(value, str):
        raise wrong_type('the name of a signal in quotes, such as "SIGINT"', value)
    word = value.upper()
    word = word if word.startswith("SIG") else f"SIG{word}"
    if word not in STOP_SIGNALS:
        raise ConfigValueError(
            f'expected the name of a signal, such as "SIGINT", got `{value[:20]}`'
            f"{did_you_mean(word, STOP_SIGNALS)}"
        )
    return word


def module(value: object) -> str:
    """Read the name of a module."""
    if not isinstance(value, str):
        raise wrong_type("the name of a module, in quotes", value)
    if not MODULE.fullmatch(value):
        raise ConfigValueError(f"expected the name of a module, such as `discord`, got `{value}`")
    return value


def use(value: object) -> str:
    """Read where a plugin's code is."""
    expected = "a module such as `my_bot.discord:plugin`, or the bare name of a bundled plugin or "
    expected += "of a file beside this one"
    if not isinstance(value, str):
        raise wrong_type(expected, value)
    if value.endswith(".py") and "/" not in value:
        raise ConfigValueError(
            f"expected {expected}; write `{value.removesuffix('.py')}`, without .py"
        )
    if not USE.fullmatch(value):
        raise ConfigValueError(f"expected {expected}, got `{value}`")
    return value


# --- lists and tables ---------------------------------------------------------------------


def list_of(item: Reader, unit: str) -> Reader:
    """Return the reader of a list; an item that is there twice counts once."""
    is_public = item not in {variable, secret_name}  # else it may be the secret itself

    def read(value: object) -> tuple[str, ...]:
        if isinstance(value, str):
            example = f'["{value}"]' if is_public and NAME.fullmatch(value) else '["…"]'
            raise ConfigValueError(f"expected a list of {unit}, got a string: write {example}")
        if not isinstance(value, list):
            raise wrong_type(f"a list of {unit}", value)
        items = dict[str, None]()
        for index, part in enumerate(value):
            with at_path(index):
                items[item(part)] = None
        return tuple(items)

    return read


def any_table(value: object) -> dict[str, Any]:
    """Read a table with any keys."""
    if not isinstance(value, dict):
        raise wrong_type("a table", value)
    return value


def table_of(tables: Any, key: str) -> dict[str, Any]:
    """Return a table of a file that was not checked yet; an empty one where there is none."""
    value = tables.get(key) if isinstance(tables, dict) else None
    return value if isinstance(value, dict) else {}


def file_pattern(value: object) -> str:
    """Read a pattern of paths."""
    if not isinstance(value, str):
        raise wrong_type("a pattern in quotes", value)
    if not value or "\0" in value or "**" in value:
        raise ConfigValueError('expected a pattern of one folder, such as "conf.d/*.toml"')
    return value


def each(key_reader: Reader, item: Reader) -> Reader:
    """Return the reader of a table whose keys are the user's names."""

    def read(value: object) -> dict[str, Any]:
        items = dict[str, Any]()
        for key, part in any_table(value).items():
            with at_path(key):
                items[key_reader(key)] = item(part)
        return items

    return read


def secret_name(value: object) -> str:
    """Read the name of a variable that holds a secret."""
    word = variable(value)
    if is_passed_to_all(word):
        raise ConfigValueError(
            f"every service is given {word}, so it is no secret; use another name"
        )
    return word


def secret_source(value: object) -> str | Path:
    """Read where a secret comes from: the name of a variable, or a file of its own."""
    if not isinstance(value, dict):
        return secret_name(value)
    for key in (key for key in value if key != "file"):
        with at_path(key):
            raise ConfigValueError(f"no such key in a secret{did_you_mean(key, ['file'])}")
    if "file" not in value:
        raise ConfigValueError('expected the name of a variable, or { file = "…" }')
    with at_path("file"):
        return path(value["file"])


def secrets(value: object) -> dict[str, str | Path]:
    """Read secrets: the name in the worker → the name of where it comes from, or its file."""
    if isinstance(value, dict):
        named: dict[str, str | Path] = each(variable, secret_source)(value)
        return named
    return {word: word for word in list_of(secret_name, "names")(value)}


KINDS: dict[str, Reader] = {  # by `Key.kind`
    "name": name,
    "file_pattern": file_pattern,
    "account": account,
    "umask": umask,
    "variable": variable,
    "env": each(variable, variable_value),
    "secrets": secrets,
    "module": module,
    "use": use,
    "command": command,
    "ready": ready,
    "signal": stop_signal,
}
