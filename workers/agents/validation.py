"""Checks that an author's functions accept the arguments that they will be called with."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from .components import Action, Evaluator, Provider

UNWRITTEN = (Action.handler, Provider.get, Evaluator.handler)
RUNTIME, MEMORY, STATE, RESPONSES = "runtime", "memory", "state", "responses"
OPTIONS = "options"


def check_component(component: Action | Provider | Evaluator) -> None:
    """Check the functions of a component.

    Raises:
        TypeError: A function is missing, is not callable, or requires other arguments.
    """
    what = f"{type(component).__name__} {component.name}"
    if isinstance(component, Provider):
        _check_written(component.get, f"{what}: its get")
        check_takes(component.get, f"{what}: its get", RUNTIME, MEMORY, STATE)
        return
    _check_written(component.handler, f"{what}: its handler")
    takes_options = isinstance(component, Action) and component.parameters is not None
    also = (OPTIONS,) if takes_options else ()
    check_takes(component.handler, f"{what}: its handler", RUNTIME, MEMORY, STATE, RESPONSES, *also)
    given = (RUNTIME, MEMORY) if isinstance(component, Action) else (RUNTIME, MEMORY, STATE)
    check_takes(component.validate, f"{what}: its validate", *given)


def check_gate(gate: Callable[..., Any]) -> None:
    """Check the arguments of a plugin's gate. Raises TypeError if it requires others."""
    check_takes(gate, "the gate", RUNTIME, MEMORY)


def check_names(kind: str, components: Iterable[Action | Provider | Evaluator]) -> None:
    """Check that the components of one kind in one plugin have different names.

    Raises:
        ValueError: Two have the same name, so one would replace the other.
    """
    known: set[str] = set()
    for component in components:
        if component.name in known:
            raise ValueError(
                f"two {kind} have the name {component.name}; give one of them another name"
            )
        known.add(component.name)


def check_takes(function: Callable[..., Any], what: str, *given: str) -> None:
    """Check that a function can be called with the first of some positional arguments.

    Args:
        function: An author's function.
        what: A description of the function, for the error.
        given: Names of the arguments that it will be called with.

    Raises:
        TypeError: It is not callable, or it requires more arguments or keyword arguments.
    """
    if not callable(function):
        raise TypeError(f"{what} is not a function but {function!r:.80}")
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature
        return
    required = [
        one
        for one in found
        if one.default is one.empty and one.kind not in {one.VAR_POSITIONAL, one.VAR_KEYWORD}
    ]
    if len(required) > len(given) or any(one.kind is one.KEYWORD_ONLY for one in required):
        names = ", ".join(one.name for one in required)
        raise TypeError(
            f"{what} requires ({names}), but is called with ({', '.join(given)}); "
            "it may also take only the first of these"
        )


def _check_written(function: Callable[..., Any], what: str) -> None:
    if getattr(function, "__func__", None) in UNWRITTEN:
        raise TypeError(f"{what} is missing")
