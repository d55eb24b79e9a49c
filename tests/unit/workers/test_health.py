"""Which `health` is asked, and what its answers mean, one question at a time."""

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
    """Has one."""

    async def health(self) -> bool:
        """Tell."""
        return True


class Inherits(Fit):
    """Has its base's."""


class Optional(Service):
    """Could be given something."""

    async def health(self, deep: bool = False) -> bool:
        """Tell."""
        return not deep


class Plain(Service):
    """Is no coroutine function."""

    def health(self) -> bool:
        """Tell."""
        return True


class Wants(Service):
    """Needs an argument."""

    async def health(self, patient: str) -> str:
        """Tell."""
        return patient


class Streams(Service):
    """Is a stream."""

    async def health(self) -> Any:
        """Tell."""
        yield True


class Belongs(Service):
    """Belongs to no instance."""

    @staticmethod
    async def health() -> bool:
        """Tell."""
        return True


class Wrapped(Service):
    """Is hidden by a plain function."""

    @functools.wraps(Fit.health)
    def health(self) -> Any:
        """Tell."""
        return Fit.health(self)  # type: ignore[arg-type]


class Overrides(Fit):
    """Has another thing by that name."""

    health = 100  # type: ignore[assignment]


class Without(Service):
    """Has none."""


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


async def test_a_late_one_is_cancelled_and_the_next_is_asked_anew() -> None:
    """Each that is late is told as such, with how long it was waited for."""
    ended: list[str] = []

    async def check() -> bool:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")
        return True

    heard = await results(check, 3, 0.05)

    assert [one.problem for one in heard] == ["no answer within 0.05 s"] * 3
    assert all(one.took_s >= 0.05 for one in heard)
    assert len(ended) == 3


async def test_one_that_cannot_be_cancelled_is_not_asked_twice_at_once() -> None:
    """It is late again and again; once it has ended, another is asked."""
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


async def test_nothing_is_asked_once_it_has_ended() -> None:
    """As in a service that drains: a question under way is cancelled."""
    begun = asyncio.Event()
    heard: list[Health] = []

    async def check() -> bool:
        begun.set()
        await asyncio.Event().wait()
        return True

    asking = health.HealthCheck(check, 0.02, heard.append)
    await begun.wait()
    asking.end()
    await asyncio.sleep(0)
    before = len(heard)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.wait(others, timeout=5) if others else None

    assert len(heard) == before
    assert not {task for task in asyncio.all_tasks() if task.get_name().startswith("health")}
