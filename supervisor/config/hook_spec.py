"""Every key of `[hooks.NAME]`, once, and the readers of their values (pure)."""

import re
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import msgspec

from . import values
from .keys import Key, duration
from .values import ConfigValueError, at_path, wrong_type

METHOD = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\.([A-Za-z_][A-Za-z0-9_]*)")
PATTERN = re.compile(r"[A-Za-z0-9._*?\[\]!-]{1,80}")
ADDRESS = re.compile(r"https?://[^\s/@]+(?:[/?]\S*)?", re.IGNORECASE)
ADDRESS_MOST = 2048  # characters


class HookOn(Enum):
    """What a hook is run on."""

    FAILED = "failed"
    DEATH = "death"
    UNWELL = "unwell"
    RECOVERED = "recovered"
    DEAD_LETTER = "dead_letter"
    LIMIT = "limit"
    CONFIG_REJECTED = "config_rejected"
    BUDGET = "budget"
    DISK = "disk"
    DEAF = "deaf"
    ANSWER_FAILED = "answer_failed"
    TASK_PAUSED = "task_paused"


class HookSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One hook: on what it is run, and how it is delivered."""

    on: Annotated[
        tuple[str, ...],
        Key(
            "What the hook is run on.",
            kind="hook_on",
            unit="words",
            example='["failed", "disk"]',
        ),
    ]
    services: Annotated[
        tuple[str, ...],
        Key(
            "Only services with one of these NAMEs, or patterns.",
            kind="pattern",
            unit="NAMEs or patterns",
            unset="all",
            example='["discord*"]',
        ),
    ] = ()
    command: Annotated[
        list[str],
        Key(
            "A command, which gets JSON on its standard input. It runs without a shell.",
            kind="words",
            unset="none",
            example='["/usr/local/bin/page-me"]',
        ),
    ] = []
    webhook: Annotated[
        str,
        Key(
            'An address of http or https that the JSON is posted to; "$NAME": the secret of that '
            "name has it.",
            kind="address",
            unset="none",
            example='"https://ops.example.com/garrison"',
        ),
    ] = ""
    secret: Annotated[
        str,
        Key(
            "The secret that signs what `webhook` gets, by its name.",
            kind="secret",
            unset="not signed",
            example='"HOOK_SECRET"',
        ),
    ] = ""
    call: Annotated[
        str,
        Key(
            "A service's method, which gets the text.",
            kind="method",
            unset="none",
            example='"notification.notify"',
        ),
    ] = ""
    arguments: Annotated[
        dict[str, Any],
        Key(
            "Further arguments of the method of `call`, by name.",
            name="with",
            default="{}",
            example='{ person = "1122334455" }',
        ),
    ] = {}
    secrets: Annotated[
        dict[str, str | Path],
        Key(
            "Secrets that `command` gets as environment variables.",
            kind="secrets",
            default="[]",
            example='["PAGER_TOKEN"]',
        ),
    ] = {}
    every: Annotated[
        float,
        duration(
            "The same of the same service is delivered once in this time; what comes meanwhile "
            "is counted in the next.",
        ),
    ] = 60.0
    timeout: Annotated[float, duration("The time for one delivery.", above=0)] = 10.0


# --- readers of values --------------------------------------------------------------------


def pattern(value: object) -> str:
    """Read a NAME or a pattern of NAMEs."""
    if not isinstance(value, str):
        raise wrong_type("a NAME or a pattern in quotes", value)
    if not PATTERN.fullmatch(value):
        raise ConfigValueError(f"`{value[:80]}` is neither a NAME nor a pattern such as `bot-*`")
    return value


def words(value: object) -> list[str]:
    """Read a command: the program and its arguments."""
    if isinstance(value, str):
        raise ConfigValueError(
            "expected a list, the program and its arguments, got a string: it runs without a "
            'shell; write ["sh", "-c", "…"] for one'
        )
    if not isinstance(value, list) or not value:
        raise ConfigValueError('expected a list, the program and its arguments: ["program", "-x"]')
    for index, word in enumerate(value):
        with at_path(index):
            if not isinstance(word, str):
                raise wrong_type("a string in quotes", word)
            if "\0" in word or (index == 0 and not word):
                raise ConfigValueError("expected a word without a NUL, and a program's name first")
    return list(value)


def address(value: object) -> str:
    """Read an address of http or https, or `$NAME` of a secret that has it.

    No error shows it: it may contain a token.
    """
    if not isinstance(value, str):
        raise wrong_type("an address in quotes", value)
    if value.startswith("$"):
        return f"${values.secret_name(value[1:])}"
    if not ADDRESS.fullmatch(value) or len(value) > ADDRESS_MOST:
        raise ConfigValueError(
            "expected an address such as https://example.com/path, no user in it"
        )
    return value


def method(value: object) -> str:
    """Read a method of a service: NAME.method."""
    if not isinstance(value, str):
        raise wrong_type("a service's method in quotes", value)
    if not METHOD.fullmatch(value):
        raise ConfigValueError(
            f"expected NAME.method, such as `notification.notify`, got `{value[:80]}`"
        )
    return value


def hook_on(value: object) -> str:
    """Read a word of what a hook is run on."""
    word: HookOn = values.choice(HookOn)(value)
    return word.value


READERS: dict[str, values.Reader] = {
    "hook_on": hook_on,
    "pattern": pattern,
    "words": words,
    "address": address,
    "secret": values.secret_name,
    "method": method,
}
