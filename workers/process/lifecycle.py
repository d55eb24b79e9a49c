"""Checks the methods of a service class that its worker calls: `start` and `stop`. Pure."""

import inspect
from collections.abc import Awaitable
from typing import Any, get_origin

from garrison.workers.service import Service


def check_lifecycle(cls: type[Service]) -> None:
    """Check that `start` can be called and awaited.

    Raises:
        TypeError: It has the wrong form; the text says what to write.
    """
    if not inspect.ismethod(cls.start):
        raise TypeError(f"{cls.__name__}.start is not a class method; add @classmethod")
    _check_arguments(cls, cls.start, "runtime")
    if problem := _not_awaitable(cls.start.__func__):
        raise TypeError(f"{cls.__name__}.start {problem}; it must be `async def`, in a classmethod")


def note_on(cls: type) -> str:
    """Return a note for the author of a `stop` that cannot be awaited, or ''."""
    problem = _not_awaitable(inspect.getattr_static(cls, "stop", None))
    return (
        f"its stop {problem}, so each stop reports an error: write `async def`" if problem else ""
    )


def _check_arguments(cls: type[Service], start: Any, *given: str) -> None:
    try:
        signature = inspect.signature(start)
    except (TypeError, ValueError):  # of a builtin
        return
    try:
        signature.bind(*given)
    except TypeError as error:
        raise TypeError(
            f"{cls.__name__}.start{signature} is called with ({', '.join(given)}): {error}"
        ) from error


def _not_awaitable(function: Any) -> str:
    """Return why the result of a function cannot be awaited; empty if it can, or may.

    A function that a decorator made elsewhere, and one that is annotated to return an awaitable,
    may return one: only a call can show that.
    """
    if not inspect.isfunction(function):
        return ""
    inner = inspect.unwrap(function)
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(inner):
        return ""
    if inspect.isasyncgenfunction(inner) or inspect.isgeneratorfunction(inner):
        return "has a `yield`, so it cannot be awaited"
    is_own = inner.__name__ in {"start", "stop"} and f"<locals>.{inner.__name__}" not in (
        inner.__qualname__
    )
    return "is a plain def" if is_own and not _returns_awaitable(inner) else ""


def _returns_awaitable(function: Any) -> bool:
    annotation = function.__annotations__.get("return")
    if isinstance(annotation, str):
        return any(word in annotation for word in ("Awaitable", "Coroutine", "Future", "Task"))
    kind = get_origin(annotation) or annotation
    return isinstance(kind, type) and issubclass(kind, Awaitable)
