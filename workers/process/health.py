"""A service's own `health`: whether a class has one that can be asked, and asking it.

Durations are seconds.
"""

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from garrison.ipc.messages import Health

from .tracebacks import one_line

log = logging.getLogger(__name__)

NAME = "health"
SAID_NO = "it said no"
UNAWAITED = "it returned what is still to be awaited: write await before that"


def health_method_problem(value: Any) -> str:
    """Return why what a class has as `health` cannot be asked how the service is; empty: it can."""
    if not inspect.isfunction(value):
        return "it belongs to no instance"
    if not inspect.iscoroutinefunction(value):
        return "it is no async def"
    try:
        inspect.signature(value).bind(None)
    except TypeError as error:
        return f"it cannot be called without arguments: {error}"
    return ""


def note_on(cls: type) -> str:
    """Return what an author should know of a method that has that name alone; empty: nothing."""
    value = inspect.getattr_static(cls, NAME, None)
    if not isinstance(value, classmethod | staticmethod) and not inspect.isfunction(value):
        return ""
    problem = health_method_problem(value)
    return f"its health is a method like others, and never asked: {problem}" if problem else ""


def asked_of(service: object) -> Callable[[], Awaitable[Any]] | None:
    """Return a service's `health`; None where it has none that can be asked."""
    value = inspect.getattr_static(type(service), NAME, None)
    return None if value is None or health_method_problem(value) else getattr(service, NAME)


@contextlib.contextmanager
def asking(service: object, interval: float, tell: Callable[[Health], None]) -> Iterator[None]:
    """Ask a service how it is, as often as `Asking` says, where it can be asked; 0 is never."""
    health = asked_of(service) if interval else None
    one = HealthCheck(health, interval, tell) if health is not None else None
    try:
        yield
    finally:
        if one is not None:
            one.end()


class HealthCheck:
    """Asks a service how it is, every so often, never twice at once.

    Args:
        health: The service's own.
        interval: Between two questions; an answer that takes longer is late.
        tell: Takes each answer.
    """

    def __init__(
        self,
        health: Callable[[], Awaitable[Any]],
        interval: float,
        tell: Callable[[Health], None],
    ) -> None:
        self._health, self._interval, self._tell = health, interval, tell
        self._loop = asyncio.get_running_loop()
        self._asked: asyncio.Future[Any] | None = None
        self._task = self._loop.create_task(self._go_on(), name=NAME)

    def end(self) -> None:
        """Ask no more, and wait for no answer."""
        for task in (self._task, self._asked):
            if task is not None:
                task.cancel()

    async def _go_on(self) -> None:
        due = self._loop.time() + self._interval
        while True:
            await asyncio.sleep(max(due - self._loop.time(), 0))
            began = self._loop.time()
            problem = await self._answer()
            if problem:
                log.warning("health.bad problem=%s", problem)
            self._tell(Health(problem, self._loop.time() - began))
            due = max(due + self._interval, self._loop.time())  # what was missed is not made up for

    async def _answer(self) -> str:
        """Return why it is not well; empty: it is."""
        if self._asked is None:
            self._asked = self._loop.create_task(_said(self._health), name=f"{NAME}()")
        asked = self._asked
        done, _ = await asyncio.wait({asked}, timeout=self._interval)
        if not done:
            asked.cancel()
            await asyncio.wait({asked}, timeout=self._interval / 10)
        if asked.done():  # else it holds on in spite of that, and is waited for the next time
            self._asked = None
        if not done:
            return f"no answer within {self._interval:g} s"
        if asked.cancelled():
            return "it was cancelled"
        problem: str = asked.result()
        return problem


async def _said(health: Callable[[], Awaitable[Any]]) -> str:
    try:
        answer = await health()
        if inspect.isawaitable(answer):  # as true as anything, whatever it would say
            return UNAWAITED
        return "" if answer is None or answer else SAID_NO
    except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 (else nobody would ask again)
        return one_line(error)
