"""Waits for conditions, and the bound on a test's duration. Durations are seconds."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import pytest

T = TypeVar("T")

PATIENCE = 60.0  # default timeout: long, because the machine may be loaded
LOOK_S = 0.02  # between the first two looks; each look costs the machine some milliseconds,
LOOK_MOST_S, LATER = 0.06, 1.25  # so the pauses grow by this factor, up to this,
LOOKING, COSTLY_MOST_S = 2.0, 0.5  # and are so many times as long as a look takes, up to this
SOON = 15.0  # for what is prompt: a loaded machine takes seconds, and a hang takes longer
LONGEST = 240.0  # of one test
LONGEST_SOAK = 3600.0


def until(condition: Callable[[], T], timeout: float = PATIENCE, what: str = "") -> T:
    """Wait until a condition is true and return its value; fail at the timeout."""
    deadline, pause = time.monotonic() + timeout, LOOK_S
    looked = time.monotonic()
    while not (value := condition()):
        if time.monotonic() >= deadline:
            pytest.fail(f"not within {timeout:g} s: {what or condition}; it was {value!r}")
        time.sleep(_pause(pause, looked))
        pause, looked = min(pause * LATER, LOOK_MOST_S), time.monotonic()
    return value


async def eventually(
    condition: Callable[[], Awaitable[T]], timeout: float = PATIENCE, what: str = ""
) -> T:
    """Wait until an asynchronous condition is true and return its value; fail at the timeout."""
    deadline, pause = time.monotonic() + timeout, LOOK_S
    looked = time.monotonic()
    while not (value := await condition()):
        if time.monotonic() >= deadline:
            pytest.fail(f"not within {timeout:g} s: {what or condition}; it was {value!r}")
        await asyncio.sleep(_pause(pause, looked))
        pause, looked = min(pause * LATER, LOOK_MOST_S), time.monotonic()
    return value


def _pause(pause: float, looked: float) -> float:
    """Return the pause after a look that began then."""
    return max(pause, min(LOOKING * (time.monotonic() - looked), COSTLY_MOST_S))


@contextlib.contextmanager
def ending_within(seconds: float) -> Iterator[None]:
    """Fail the test if the block takes longer."""

    def too_late(*_: object) -> None:
        pytest.fail(f"it did not end within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, too_late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


async def until_true(condition: Callable[[], T], timeout: float = PATIENCE) -> T:
    """Wait until a plain condition is true, while the loop turns; return its value."""

    async def check() -> T:
        return condition()

    return await eventually(check, timeout)
