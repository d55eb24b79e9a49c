"""Which `health` methods are health checks, and what their results mean."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from garrison.ipc.messages import Health
from garrison.workers import Service
from garrison.workers.process import health
from garrison.workers.process.methods import describe


class Fit(Service):
    """Has a health check."""

    async def health(self) -> bool:
        """Return the health."""
        return True


class Inherits(Fit):
    """Inherits a health check."""


class Optional(Service):
    """Has an optional argument."""

    async def health(self, deep: bool = False) -> bool:
        """Return the health."""
        return not deep


class Plain(Service):
    """Not a coroutine function."""

    def health(self) -> bool:
        """Return the health."""
        return True


class Wants(Service):
    """Requires an argument."""

    async def health(self, patient: str) -> str:
        """Return the health."""
        return patient


class Streams(Service):
    """A stream."""

    async def health(self) -> Any:
        """Return the health."""
        yield True


class Belongs(Service):
    """A static method."""

    @staticmethod
    async def health() -> bool:
        """Return the health."""
        return True


class Wrapped(Service):
    """A plain function that wraps a coroutine function."""

    @functools.wraps(Fit.health)
    def health(self) -> Any:
        """Return the health."""
        return Fit.health(self)  # type: ignore[arg-type]


class Overrides(Fit):
    """Has another attribute of that name."""

    health = 100  # type: ignore[assignment]


class Without(Service):
    """Has no `health`."""


@pytest.mark.parametrize("cls", [Fit, Inherits, Optional])
def test_a_health_check_is_not_a_method_of_the_service(cls: type[Service]) -> None:
    """Only its worker calls it."""
    manifest, methods = describe(cls)

    assert health.check_of(cls()) is not None
    assert (methods, manifest.left_out, manifest.notes) == ({}, {}, ())


@pytest.mark.parametrize(
    ("cls", "why"),
    [
        (Plain, "it is not async def"),
        (Wants, "it cannot be called without arguments: missing a required argument: 'patient'"),
        (Streams, "it is not async def"),
        (Belongs, "it is not a method of the instance"),
        (Wrapped, "it is not async def"),
    ],
)
def test_any_other_health_is_an_ordinary_method_with_a_note(cls: type[Service], why: str) -> None:
    """The note says why it is not a health check."""
    manifest, methods = describe(cls)

    assert health.check_of(cls()) is None
    assert manifest.notes == (f"its health is an ordinary method, not a health check: {why}",)
    assert set(methods) | set(manifest.left_out) == {"health"}


@pytest.mark.parametrize("cls", [Overrides, Without])
def test_an_attribute_that_is_not_a_function_is_ignored(cls: type[Service]) -> None:
    """It is neither a check nor a method, and has no note."""
    manifest, methods = describe(cls)

    assert health.check_of(cls()) is None
    assert (methods, manifest.notes) == ({}, ())


async def results(
    check: Callable[[], Awaitable[Any]], number: int, interval: float
) -> list[Health]:
    """Return the first results of a health check."""
    found: list[Health] = []
    enough = asyncio.Event()

    def report(result: Health) -> None:
        found.append(result)
        if len(found) == number:
            enough.set()

    checks = health.HealthCheck(check, interval, report)
    await enough.wait()
    checks.end()
    return found


async def test_a_health_check_that_waits_for_a_processor_is_not_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a loaded machine, as while many services start, it has that much longer."""
    waits = iter([1.0, 1.5])  # seconds, before the call and when its time is over
    monkeypatch.setattr(health, "processor_wait", lambda: next(waits, 1.5))

    async def slow() -> bool:
        await asyncio.sleep(0.2)
        return True

    assert [one.problem for one in await results(slow, 1, 0.05)] == [""]


class Stray(BaseException):
    """Not a subclass of Exception."""


def unawaited() -> Any:
    """Return an awaitable, as a method with a missing await does."""
    return asyncio.get_running_loop().create_future()


class Odd:
    """Neither true nor false."""

    def __bool__(self) -> bool:
        raise ValueError("neither true nor false")


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (True, ""),
        (None, ""),
        ("connected", ""),
        (False, health.UNHEALTHY),
        (0, health.UNHEALTHY),
        ("", health.UNHEALTHY),
        (Odd(), "ValueError: neither true nor false"),
        (OSError(5, "no disk"), "OSError: [Errno 5] no disk"),
        (asyncio.CancelledError(), "it was cancelled"),
        (TimeoutError(), "TimeoutError"),
        (Stray("of a library"), "Stray: of a library"),
        (GeneratorExit(), "GeneratorExit"),
        (unawaited, health.UNAWAITED),
    ],
)
async def test_the_problem_of_each_result(answer: Any, problem: str) -> None:
    """None counts as healthy; other false values and exceptions do not."""

    async def check() -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return answer() if answer is unawaited else answer

    assert [one.problem for one in await results(check, 2, 0.01)] == [problem] * 2


async def test_a_late_check_is_cancelled_and_the_next_one_starts_anew() -> None:
    """Each late check is reported with its duration."""
    ended: list[str] = []

    async def check() -> bool:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")
        return True

    found = await results(check, 3, 0.05)

    assert [one.problem for one in found] == ["no answer within 0.05 s"] * 3
    assert all(one.took_s >= 0.05 for one in found)
    assert len(ended) == 3


async def test_a_check_that_resists_its_cancellation_is_not_called_again_meanwhile() -> None:
    """It is reported as late each time; after its end, the next check starts."""
    begun, let_go = 0, asyncio.Event()

    async def check() -> bool:
        nonlocal begun
        begun += 1
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue
        return True

    assert [one.problem for one in await results(check, 3, 0.03)] == ["no answer within 0.03 s"] * 3
    assert begun == 1
    let_go.set()


async def test_no_check_runs_after_the_end() -> None:
    """As in a service that drains: a running check is cancelled."""
    begun = asyncio.Event()
    found: list[Health] = []

    async def check() -> bool:
        begun.set()
        await asyncio.Event().wait()
        return True

    checks = health.HealthCheck(check, 0.02, found.append)
    await begun.wait()
    checks.end()
    await asyncio.sleep(0)
    before = len(found)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.wait(others, timeout=5) if others else None

    assert len(found) == before
    assert not {task for task in asyncio.all_tasks() if task.get_name().startswith("health")}
