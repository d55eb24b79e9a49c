"""Calls an author's function with the arguments that it takes, converted to its annotations."""

import functools
import inspect
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

from garrison.ipc import values


async def await_with_prefix(function: Callable[..., Any], *args: Any) -> Any:
    """Run a function, `async def` or plain, with as many of the arguments as it takes."""
    result = call_with_prefix(function, *args)
    return await result if inspect.isawaitable(result) else result


def call_with_prefix(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function with the first arguments, as many as it takes."""
    return function(*args[: _positional(function)])


def _positional(function: Callable[..., Any]) -> int | None:
    """Return how many positional parameters a function has; None: it takes any number of them.

    Most have their number in their code. To read a whole signature takes longer, and each worker
    would have copies of the pages with what reads it.
    """
    bound = isinstance(function, MethodType)
    plain = function.__func__ if isinstance(function, MethodType) else function
    if isinstance(plain, FunctionType) and not plain.__dict__:  # no decorator has left its mark
        code = plain.__code__
        if not code.co_flags & inspect.CO_VARARGS and code.co_argcount >= bound:
            return code.co_argcount - bound
    known = parameters(function)
    return None if known is None else len(known)


def convert_argument(
    function: Callable[..., Any], value: Any, position: int = 0, default: Any = None
) -> Any:
    """Convert a value to the annotation of one of a function's parameters.

    Args:
        function: The function that is going to take the value.
        value: Builtins, as decoded from the wire.
        position: Index of the parameter.
        default: The type to convert to where the parameter has no usable annotation; None keeps
            the value as it is.

    Raises:
        msgspec.ValidationError: The value does not match.
    """
    known = parameters(function) or []
    annotation = known[position].annotation if position < len(known) else inspect.Parameter.empty
    if isinstance(annotation, str):
        annotation = _evaluated(annotation, function)
    if annotation is inspect.Parameter.empty:
        annotation = Any if default is None else default
    return value if annotation is Any else values.convert(value, annotation)


def parameters(function: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """Return the positional parameters of a function.

    Returns None where it takes any number of them, or where its signature is not available.
    """
    try:
        return _parameters(function)  # cached: reading a signature may take longer than the call
    except TypeError:  # the function is not hashable
        return _parameters.__wrapped__(function)


@functools.lru_cache(maxsize=256)
def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter] | None:
    try:
        found = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None
    if any(one.kind is one.VAR_POSITIONAL for one in found):
        return None
    return [one for one in found if one.kind in {one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD}]


def _evaluated(annotation: str, function: Callable[..., Any]) -> Any:
    """Evaluate an annotation; one that exists only for type checkers counts as missing."""
    try:
        return eval(annotation, getattr(inspect.unwrap(function), "__globals__", {}))
    except Exception:  # noqa: BLE001 (an annotation may be any expression)
        return inspect.Parameter.empty
