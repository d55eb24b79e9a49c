"""Whether an author's functions can be run with what they are given, asked before they are."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from .components import Action, Evaluator, Provider

UNWRITTEN = (Action.handler, Provider.get, Evaluator.handler)
RUNTIME, MEMORY, STATE, RESPONSES = "runtime", "memory", "state", "responses"


def check_component(part: Action | Provider | Evaluator) -> None:
    """Look at the functions of a part.

    Raises:
        TypeError: One is missing, is no function, or wants more than it is given.
    """
    what = f"{type(part).__name__} {part.name}"
    if isinstance(part, Provider):
        _check_written(part.get, f"{what}: its get")
        check_takes(part.get, f"{what}: its get", RUNTIME, MEMORY, STATE)
        return
    _check_written(part.handler, f"{what}: its handler")
    check_takes(part.handler, f"{what}: its handler", RUNTIME, MEMORY, STATE, RESPONSES)
    given = (RUNTIME, MEMORY) if isinstance(part, Action) else (RUNTIME, MEMORY, STATE)
    check_takes(part.validate, f"{what}: its validate", *given)


def check_names(kind: str, parts: Iterable[Action | Provider | Evaluator]) -> None:
    """Look at what one plugin lists of a kind.

    Raises:
        ValueError: Two have the same name, so that one would hide the other.
    """
    known: set[str] = set()
    for part in parts:
        if part.name in known:
            raise ValueError(f"there are two {kind} {part.name}: give one of them another name")
        known.add(part.name)


def check_takes(function: Callable[..., Any], what: str, *given: str) -> None:
    """Look whether a function can be called with the first of some arguments.

    Args:
        function: An author's.
        what: It, for the error.
        given: What the arguments are.

    Raises:
        TypeError: It is no function, or wants others, or more.
    """
    if not callable(function):
        raise TypeError(f"{what} is no function, but {function!r:.80}")
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # it says nothing of them
        return
    wanted = [
        one
        for one in found
        if one.default is one.empty and one.kind not in {one.VAR_POSITIONAL, one.VAR_KEYWORD}
    ]
    if len(wanted) > len(given) or any(one.kind is one.KEYWORD_ONLY for one in wanted):
        names = ", ".join(one.name for one in wanted)
        raise TypeError(
            f"{what} wants ({names}), but is given ({', '.join(given)}), "
            "or the first of these where it takes fewer"
        )


def _check_written(function: Callable[..., Any], what: str) -> None:
    if getattr(function, "__func__", None) in UNWRITTEN:
        raise TypeError(f"{what} is missing")
