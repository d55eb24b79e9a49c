"""Health checks: calls the `health` method of a service, if it has a usable one, periodically.

Durations are seconds.
"""

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from garrison.ipc.messages import Health
from garrison.ipc.system.process_tree import processor_wait
from garrison.workers.background import Ticks

from .tracebacks import one_line

log = logging.getLogger(__name__)

PUT_OFF_LEAST_S = 0.05  # a wait for a processor that is added to the deadline of a call

NAME = "health"
UNHEALTHY = "it returned a false value"
UNAWAITED = "it returned an awaitable: write `await` before the value that it returns"


def health_method_problem(value: Any) -> str:
    """Return why a class's attribute `health` is not a health check; empty if it is one."""
    if not inspect.isfunction(value):
        return "it is not a method of the instance"
    if not inspect.iscoroutinefunction(value):
        return "it is not async def"
    try:
        inspect.signature(value).bind(None)
    except TypeError as error:
        return f"it cannot be called without arguments: {error}"
    return ""


def note_on(cls: type) -> str:
    """Return a note for the author of a method that is only named like a health check, or ''."""
    value = inspect.getattr_static(cls, NAME, None)
    if not isinstance(value, classmethod | staticmethod) and not inspect.isfunction(value):
        return ""
    problem = health_method_problem(value)
    return f"its health is an ordinary method, not a health check: {problem}" if problem else ""


def check_of(service: object) -> Callable[[], Awaitable[Any]] | None:
    """Return a service's health check; None if it has none."""
    value = inspect.getattr_static(type(service), NAME, None)
    return None if value is None or health_method_problem(value) else getattr(service, NAME)


@contextlib.contextmanager
def checking(service: object, interval: float, report: Callable[[Health], None]) -> Iterator[None]:
    """Check a service's health within a `with` block; an interval of 0 is never."""
    health = check_of(service) if interval else None
    check = HealthCheck(health, interval, report) if health is not None else None
    try:
        yield
    finally:
        if check is not None:
            check.end()


class HealthCheck:
    """Calls a health check periodically; calls never overlap.

    Args:
        health: The service's method.
        interval: The period, which is also the deadline of each call.
        report: Called with each result.
    """

    def __init__(
        self,
        health: Callable[[], Awaitable[Any]],
        interval: float,
        report: Callable[[Health], None],
    ) -> None:
        self._health, self._interval, self._report = health, interval, report
        self._loop = asyncio.get_running_loop()
        self._call: asyncio.Future[Any] | None = None
        self._task = self._loop.create_task(self._run(), name=NAME)

    def end(self) -> None:
        """Cancel the checks, and a call that is running."""
        for task in (self._task, self._call):
            if task is not None:
                task.cancel()

    async def _run(self) -> None:
        ticks = Ticks(self._interval, self._loop.time())
        while True:
            await asyncio.sleep(max(ticks.due - self._loop.time(), 0))
            began = self._loop.time()
            ticks.begin(began)
            problem = await self._check()
            if problem:
                log.warning("health.bad problem=%s", problem)
            self._report(Health(problem, self._loop.time() - began))

    async def _check(self) -> str:
        """Call the health check once; return the problem, or ''."""
        if self._call is None:
            self._call = self._loop.create_task(_problem(self._health), name=f"{NAME}()")
        call, waited = self._call, processor_wait()
        done, _ = await asyncio.wait({call}, timeout=self._interval)
        while not done and (late := processor_wait() - waited) > PUT_OFF_LEAST_S:
            waited += late  # no processor was free for so long: that is not the service's fault
            done, _ = await asyncio.wait({call}, timeout=late)
        if not done:
            call.cancel()
            await asyncio.wait({call}, timeout=self._interval / 10)
        if call.done():  # one that resists its cancellation is awaited again the next time
            self._call = None
        if not done:
            return f"no answer within {self._interval:g} s"
        if call.cancelled():
            return "it was cancelled"
        problem: str = call.result()
        return problem


async def _problem(health: Callable[[], Awaitable[Any]]) -> str:
    try:
        result = await health()
        if inspect.isawaitable(result):  # it would count as true, whatever its value
            return UNAWAITED
        return "" if result is None or result else UNHEALTHY
    except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 (the checks must continue)
        return one_line(error)
