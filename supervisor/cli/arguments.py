"""The arguments of `garrison call`, read from the words of a command line. Pure."""

import shlex
from collections.abc import Sequence
from typing import Any

import msgspec
from click import UsageError

BEGINS_JSON = ("{", "[", '"')  # a word that begins so was meant as JSON


def parse_arguments(words: Sequence[str], command: str) -> tuple[list[Any], dict[str, Any]]:
    """Return positional and named arguments.

    A JSON array or object that is the only word holds all arguments: `[1, 2]`, `{"first": 1}`.
    Otherwise each word is one argument, `name=VALUE` a named one. A value is JSON (`3`, `true`,
    `null`, `"3"`, `[1]`) or else text: `Ada`.

    Args:
        words: As the shell passed them.
        command: The command line up to its arguments, for the errors' examples.

    Raises:
        UsageError: A word looks like JSON and is not, or a name stands twice.
    """
    if len(words) == 1:
        whole = _value(words[0], command)
        if isinstance(whole, list):
            return whole, {}
        if isinstance(whole, dict):
            return [], whole
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name.isidentifier():
            args.append(_value(word, command))
        elif name in kwargs:
            raise UsageError(f"the argument {name} is given twice")
        else:
            kwargs[name] = _value(text, command)
    return args, kwargs


def _value(word: str, command: str) -> Any:
    try:
        return msgspec.json.decode(word)
    except msgspec.DecodeError as error:
        if not word.startswith(BEGINS_JSON):
            return word
        as_text = shlex.quote(msgspec.json.encode([word]).decode())
        raise UsageError(
            f"{word} is not JSON: {error}. Put JSON in single quotes, which keep its double quotes "
            f'from the shell: {command} \'{{"name": "Ada"}}\'. To pass the word as text: '
            f"{command} {as_text}"
        ) from error
