"""Runs a service's `start`, also one that blocks as long as its connection lives."""

import asyncio
import inspect
from typing import Any, TypeVar

from garrison.ipc.declared_errors import RetryLater
from garrison.ipc.messages import LONGEST_TIMEOUT
from garrison.workers.background import Background
from garrison.workers.platform.platform import Platform, parts_of
from garrison.workers.platform.startup import begin, prepare
from garrison.workers.reports import Reports
from garrison.workers.runtime import Runtime
from garrison.workers.service import Service

S = TypeVar("S", bound=Service)

STARTS = frozenset({"init", "start"})  # phases of a worker


async def start_service(
    cls: type[S],
    runtime: Runtime,
    background: Background,
    reports: Reports,
    lock_credential: bool = True,
) -> S:
    """Start a service and return it. A `start` that calls `runtime.ready` continues in background.

    Args:
        cls: The service's class.
        runtime: Passed to `start`.
        background: The background work of that runtime; its failure ends the start.
        reports: Where `runtime.ready` reports the service.
        lock_credential: A platform's credential is used by one service at a time; False in a test.

    Raises:
        TypeError: `start` is not `async def`, or did not return the service.
        BackgroundFailure: Background work failed before the service was running.
        Exception: What `start` raised.
    """
    if issubclass(cls, Platform):
        await prepare(cls, runtime, lock_credential)
    starting = asyncio.create_task(_start(cls, runtime), name="start")
    waiting = {starting, reports.ready, background.failed}
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        starting.cancel()
        await asyncio.wait({starting})  # its `finally` clauses run, as long as the caller waits
        raise
    service: Any = None
    if starting.done():
        service = starting.result()
    elif reports.ready.done():
        service = reports.ready.result()
        background.spawn(_keep_alive(starting), "start")
    else:
        starting.cancel()
        background.failed.result()
    if not isinstance(service, cls):
        raise TypeError(f"{cls.__name__}.start returned {service!r}; it must return the service")
    service.__dict__.setdefault("_runtime", runtime)
    service.__dict__.setdefault("config", runtime.config)
    if isinstance(service, Platform):
        begin(service)
        engine = parts_of(service)
        reports.counts, reports.link = engine.counts, engine.link.report
    return service


def postponed_s(phase: str, error: BaseException) -> float | None:
    """Return when a start that raised this is to be tried again; None: as after any error."""
    if phase not in STARTS or not issubclass(
        type(error), RetryLater
    ):  # an author's class may hide its `__class__`
        return None
    seconds: float = error.seconds  # type: ignore[attr-defined]
    return min(seconds, LONGEST_TIMEOUT)


async def _start(cls: type[Service], runtime: Runtime) -> Any:
    starting = cls.start(runtime)
    if not inspect.isawaitable(starting):
        raise TypeError(f"{cls.__name__}.start must be `async def`, under @classmethod")
    return await starting


async def _keep_alive(starting: asyncio.Task[Any]) -> None:
    try:
        await starting
    finally:
        starting.cancel()
    raise RuntimeError("start returned after runtime.ready(): its connection has ended")
