"""The forms of `start` and `stop` that a worker can call are told from those that it cannot."""

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest

from garrison.workers import Runtime, Service
from garrison.workers.process.lifecycle import check_lifecycle, note_on


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a function, and say so."""

    @functools.wraps(function)
    def inner(*args: Any) -> Any:
        return function(*args)

    return inner


def wrapped_async(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make an `async def` of a plain function."""

    @functools.wraps(function)
    async def inner(*args: Any) -> Any:
        return function(*args)

    return inner


def hidden(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a function without saying so."""

    def start(*args: Any) -> Any:
        return function(*args)

    return start


async def started(cls: Any, runtime: Runtime) -> Any:
    """Return the service."""
    return cls(runtime)


def plain(cls: Any, runtime: Runtime) -> Any:
    """Return no awaitable."""
    return cls(runtime)


def promised(cls: Any, runtime: Runtime) -> Awaitable[Any]:
    """Return an awaitable."""
    return started(cls, runtime)


def quoted(cls: Any, runtime: Runtime) -> "Coroutine[Any, Any, Service]":
    """Return an awaitable, as a text says."""
    return started(cls, runtime)


def generator(cls: Any, runtime: Runtime) -> Iterator[Any]:
    """Yield, which is a mistake."""
    yield cls(runtime)


async def stream(cls: Any, runtime: Runtime) -> AsyncIterator[Any]:
    """Yield, which is a mistake."""
    yield cls(runtime)


async def needs_more(cls: Any, runtime: Runtime, token: str) -> Any:
    """Require an argument that is never given."""


async def needs_none(cls: Any) -> Any:
    """Take no runtime."""


def class_with(start: Callable[..., Any]) -> type[Service]:
    """Return a service class with a `start`."""
    for function in (start, getattr(start, "__wrapped__", start)):
        if "start" not in function.__qualname__:
            function.__name__ = function.__qualname__ = "start"
    return type("Bot", (Service,), {"service_type": "bot", "start": classmethod(start)})


@pytest.mark.parametrize(
    "start",
    [started, promised, quoted, wrapped(started), wrapped_async(plain), hidden(started)],
)
def test_a_start_that_can_be_awaited_is_accepted(start: Callable[..., Any]) -> None:
    """Also one that a decorator made, and a plain function that returns an awaitable."""
    check_lifecycle(class_with(start))
    check_lifecycle(Service)


@pytest.mark.parametrize(
    ("start", "problem"),
    [
        (plain, r"Bot.start is a plain def; it must be `async def`"),
        (wrapped(plain), r"Bot.start is a plain def"),
        (generator, r"Bot.start has a `yield`"),
        (stream, r"Bot.start has a `yield`"),
        (needs_more, r"called with \(runtime\): missing a required argument: 'token'"),
        (needs_none, r"called with \(runtime\): too many positional arguments"),
    ],
)
def test_a_start_that_fails_at_each_start_is_found(start: Callable[..., Any], problem: str) -> None:
    """Before the service is started, as by `garrison check`."""
    with pytest.raises(TypeError, match=problem):
        check_lifecycle(class_with(start))


def test_a_plain_stop_is_noted() -> None:
    """It runs, and then reports an error, so the plugin stays usable."""

    class Bot(Service):
        def stop(self) -> None:  # type: ignore[override]
            """Return nothing to await."""

    assert "its stop is a plain def" in note_on(Bot)
    assert note_on(Service) == ""
