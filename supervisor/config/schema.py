"""What each key of `config.toml` takes, and what is said of a value that does not fit (pure).

A reader takes a value as `tomllib` gives it and returns it as the specs hold it, or raises
`Misfit`. No text shows a value of `env` or `secrets`: a token is easily put in the wrong place.
"""

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .environment import is_passed_to_all
from .spec import Restart

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # it is also a file's name in logs/, state/
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}\$?")
MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
USE = re.compile(r"[\w.-]+(:[^\W\d][\w.]*)?")
SIZE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?) ?([kmgt])(i?b)?", re.IGNORECASE)
FILES_LEAST = 64
MEMORY_LEAST = 1 << 20  # bytes; less was meant as MiB, and no worker lives in it
LONGEST = 1_000_000_000  # seconds; about 30 years, and no clock's arithmetic breaks on it
MOST = 2**63 - 1  # what the wire's integers hold

Reader = Callable[[Any], Any]


class ConfigValueError(Exception):
    """A value does not fit its key; `keys` lead from where the reading began to the value."""

    def __init__(self, problem: str, *keys: str | int) -> None:
        self.problem, self.keys = problem, keys
        super().__init__(problem)


@contextmanager
def at_path(*keys: str | int) -> Iterator[None]:
    """Put keys before those of a misfit that is raised inside."""
    try:
        yield
    except ConfigValueError as misfit:
        raise ConfigValueError(misfit.problem, *keys, *misfit.keys) from None


def did_you_mean(word: str, known: Collection[str]) -> str:
    """Return what to say after an unknown word: the nearest known one, else all if they are few."""
    if near := difflib.get_close_matches(word, known, n=1):
        return f"; did you mean `{near[0]}`?"
    return f"; known are {listed(known)}" if 0 < len(known) <= 8 else ""


def listed(words: Collection[str]) -> str:
    """Return words as a sentence names them."""
    return ", ".join(f"`{word}`" for word in words)


def wrong_type(expected: str, value: object) -> ConfigValueError:
    """Return the misfit of a value of the wrong kind."""
    kinds = {
        bool: "a boolean",
        int: "a whole number",
        float: "a number with a fraction",
        str: "a string",
        list: "a list",
        dict: "a table",
    }
    return ConfigValueError(
        f"expected {expected}, got {kinds.get(type(value), 'a date or a time')}"
    )


TAKEN = frozenset({"supervisor", "launcher"})  # the host's own logs and locks have these names


def is_name(word: str) -> bool:
    """Tell whether a word can be the NAME of a service or plugin."""
    return NAME.fullmatch(word) is not None and word not in TAKEN


def boolean(value: object) -> bool:
    """Read a switch."""
    if not isinstance(value, bool):
        raise wrong_type("true or false, without quotes", value)
    return value


def seconds(value: object) -> float:
    """Read a duration."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type("a number of seconds, such as 10 or 0.5", value)
    if not 0 <= value <= LONGEST:  # so written, NaN is refused too
        raise ConfigValueError(
            f"expected a number of seconds, 0 to {LONGEST:,}, got {abbreviate(value)}"
        )
    return float(value)


def positive_seconds(value: object) -> float:
    """Read a duration that cannot be nothing."""
    if not (duration := seconds(value)):
        raise ConfigValueError("expected a number of seconds above 0, got 0")
    return duration


def integer(least: int, what: str) -> Reader:
    """Return the reader of a whole number of something."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong_type(f"a whole number of {what}", value)
        if not least <= value <= MOST:
            bound = f"{least:,} or more" if value < least else f"at most {MOST:,}"
            raise ConfigValueError(
                f"expected a whole number of {what}, {bound}, got {abbreviate(value)}"
            )
        return value

    return read


def size(least: int) -> Reader:
    """Return the reader of a number of bytes; it says what to write for a text with a unit."""
    read: Reader = integer(least, "bytes")

    def sized(value: object) -> int:
        if isinstance(value, str) and (said := SIZE.fullmatch(value.strip())):
            unit = said[2].upper()
            count = int(float(said[1]) * 1024 ** ("KMGT".index(unit) + 1))
            write = f"write {count} for {said[1]} {unit}iB"
            raise ConfigValueError(f"expected a whole number of bytes, got a string: {write}")
        return int(read(value))

    return sized


def memory(value: object) -> int:
    """Read how much memory a service may have."""
    count: int = size(0)(value)
    if 0 < count < MEMORY_LEAST:
        raise ConfigValueError(f"expected 0, or {MEMORY_LEAST:,} or more bytes, got {count}")
    return count


def files(value: object) -> int:
    """Read how many descriptors a process may have: a worker itself has some twenty."""
    count: int = integer(0, "descriptors")(value)
    if 0 < count < FILES_LEAST:
        raise ConfigValueError(f"expected 0, or {FILES_LEAST} or more descriptors, got {count}")
    return count


def abbreviate(number: float) -> str:
    """Return a number as text, short however long it is in the file."""
    text = str(number) if isinstance(number, float) or abs(number) <= MOST else ""
    return text if 0 < len(text) <= 24 else "a number far too large"


def restart(value: object) -> Restart:
    """Read a restart policy."""
    words = [policy.value for policy in Restart]
    if not isinstance(value, str):
        raise wrong_type(f"one of {listed(words)}, in quotes", value)
    if value not in words:
        near = did_you_mean(value, words) if difflib.get_close_matches(value, words) else ""
        raise ConfigValueError(f"expected one of {listed(words)}, got `{value}`{near}")
    return Restart(value)


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


def agent(value: object) -> str:
    """Read the NAME of an agent, which its services' NAMEs begin with, up to a dot."""
    word = name(value)
    if "." in word:
        raise ConfigValueError(f"an agent's NAME has no dot; call it `{word.replace('.', '-')}`")
    return word


def priority(value: object) -> int:
    """Read which of several models comes first."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type("a whole number, such as 10 or -1", value)
    if abs(value) > LONGEST:
        raise ConfigValueError(
            f"expected a whole number, {-LONGEST:,} to {LONGEST:,}, got {abbreviate(value)}"
        )
    return value


def between(least: int, most: int) -> Reader:
    """Return the reader of a whole number within bounds."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong_type(f"a whole number, {least:,} to {most:,}", value)
        if not least <= value <= most:
            raise ConfigValueError(
                f"expected a whole number, {least:,} to {most:,}, got {abbreviate(value)}"
            )
        return value

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


def account(value: object) -> str:
    """Read a user or a group, by name or by number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(between(0, 2**32 - 2)(value))
    if not isinstance(value, str):
        raise wrong_type("a name in quotes, or a number", value)
    if not ACCOUNT.fullmatch(value):
        raise ConfigValueError(
            "expected the name of a user or group on this machine, or its number"
        )
    return value


def path(value: object) -> Path:
    """Read a path; where it begins, unless it is absolute, is the caller's to say."""
    if not isinstance(value, str):
        raise wrong_type("a path in quotes", value)
    if not value or "\0" in value:
        raise ConfigValueError(
            f"expected a path, got {'an empty string' if not value else 'a NUL in one'}"
        )
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


def content(value: object) -> str:
    """Read the content of an environment variable."""
    if not isinstance(value, str):
        raise wrong_type("a string in quotes", value)
    if "\0" in value:
        raise ConfigValueError("an environment variable cannot hold a NUL")
    return value


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


def list_of(item: Reader, what: str) -> Reader:
    """Return the reader of a list; what is there twice counts once."""

    def read(value: object) -> tuple[str, ...]:
        if isinstance(value, str):
            # Not a secret's name, which may be the secret itself.
            example = (
                f'["{value}"]'
                if NAME.fullmatch(value) and item not in {variable, secret_name}
                else '["…"]'
            )
            raise ConfigValueError(f"expected a list of {what}, got a string: write {example}")
        if not isinstance(value, list):
            raise wrong_type(f"a list of {what}", value)
        items = dict[str, None]()
        for place, part in enumerate(value):
            with at_path(place):
                items[item(part)] = None
        return tuple(items)

    return read


def table(readers: Mapping[str, Reader], title: str) -> Reader:
    """Return the reader of a table whose keys are known."""

    def read(value: object) -> dict[str, Any]:
        read_table = dict[str, Any]()
        for key, part in any_table(value).items():
            with at_path(key):
                if key not in readers:
                    raise ConfigValueError(f"no such key in {title}{suggest_table(key, readers)}")
                read_table[key] = readers[key](part)
        return read_table

    return read


def suggest_table(key: str, readers: Mapping[str, Reader]) -> str:
    """Return what to say after an unknown key: where it belongs, or what was meant."""
    places = {
        "[host]": HOST,
        "[services.NAME]": SERVICE,
        "[plugins.NAME]": PLUGIN,
        "[agents.NAME]": AGENT,
    }
    if difflib.get_close_matches(key, readers, n=1, cutoff=0.8):
        return did_you_mean(key, readers)
    homes = [place for place, keys in places.items() if key in keys and keys is not readers]
    if homes:
        return f"; it belongs in {homes[0]}"
    return did_you_mean(key, readers)


def any_table(value: object) -> dict[str, Any]:
    """Read a table whose keys are anyone's."""
    if not isinstance(value, dict):
        raise wrong_type("a table", value)
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


def secrets(value: object) -> dict[str, str | Path]:
    """Read secrets: the name in the worker → the name of where it comes from, or its file."""
    if isinstance(value, dict):
        named: dict[str, str | Path] = each(variable, secret_source)(value)
        return named
    return {name: name for name in list_of(secret_name, "names")(value)}


def secret_name(value: object) -> str:
    """Read the name of a variable that holds a secret."""
    name = variable(value)
    if is_passed_to_all(name):
        raise ConfigValueError(
            f"every service is given {name}, so it is no secret; call it otherwise"
        )
    return name


def secret_source(value: object) -> str | Path:
    """Read where a secret comes from: the name of a variable, or a file of its own."""
    if not isinstance(value, dict):
        return secret_name(value)
    said = table({"file": path}, "a secret")(value)
    if "file" not in said:
        raise ConfigValueError('expected the name of a variable, or { file = "…" }')
    file: Path = said["file"]
    return file


def plugin(value: object) -> dict[str, Any]:
    """Read one plugin."""
    if isinstance(value, str):
        raise ConfigValueError(f'expected a table, got a string: write {{ use = "{value}" }}')
    read: dict[str, Any] = table(PLUGIN, "a plugin")(value)
    return read


HOST: dict[str, Reader] = {
    "home": path,
    "run": path,
    "state": path,
    "logs": path,
    "preload": list_of(module, "modules"),
    "orphan_grace": seconds,
    "cgroups": boolean,
    "starts_at_once": integer(1, "workers"),
    "max_message": size(1 << 20),
    "log_bytes": size(1 << 16),
    "log_files": integer(2, "files"),
    "chaos": boolean,
}
TUNING: dict[str, Reader] = {
    "restart": restart,
    "autostart": boolean,
    "exclusive": boolean,
    "start_timeout": positive_seconds,
    "grace": seconds,
    "watchdog": seconds,
    "intensity": integer(0, "restarts"),
    "period": positive_seconds,
    "timeout": positive_seconds,
    "window": integer(1, "calls"),
    "window_bytes": size(1),
    "record_values": boolean,
    "health_interval": seconds,
    "memory_max": memory,
    "processes": integer(0, "processes"),
    "open_files": files,
    "cpu_weight": between(0, 10_000),
    "nice": between(-20, 19),
    "oom_score_adj": between(-1000, 1000),
    "umask": umask,
    "working_directory": path,
    "user": account,
    "group": account,
    "no_new_privs": boolean,
    "env": each(variable, content),
    "pass_env": list_of(variable, "names of environment variables"),
}
SERVICE: dict[str, Reader] = {
    "plugin": name,
    "type": name,
    "depends_on": list_of(name, "NAMEs"),
    "bind_to": list_of(name, "NAMEs"),
    "priority": priority,
    **TUNING,
    "env_file": path,
    "secrets": secrets,
    "config": any_table,
}
PLUGIN: dict[str, Reader] = {"use": use, "config": any_table}
AGENT: dict[str, Reader] = {
    "character": path,
    "plugins": list_of(name, "NAMEs of plugins"),
    "services": each(name, table(SERVICE, "a service")),
}
DOCUMENT: dict[str, Reader] = {
    "host": table(HOST, "[host]"),
    "defaults": table(TUNING, "[defaults]"),
    "plugins": each(name, plugin),
    "services": each(name, table(SERVICE, "a service")),
    "agent": table({"character": path}, "[agent]"),
    "agents": each(agent, table(AGENT, "an agent")),
}
document = table(DOCUMENT, "the file's top level")
