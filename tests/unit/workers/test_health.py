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
def test_a_health_that_can_be_asked_is_nobody_elses(cls: type[Service]) -> None:
    """Its worker asks it, so it is no method of the service."""
    manifest, methods = describe(cls)

    assert health.asked_of(cls()) is not None
    assert (methods, manifest.left_out, manifest.notes) == ({}, {}, ())


@pytest.mark.parametrize(
    ("cls", "why"),
    [
        (Plain, "it is no async def"),
        (Wants, "it cannot be called without arguments: missing a required argument: 'patient'"),
        (Streams, "it is no async def"),
        (Belongs, "it belongs to no instance"),
        (Wrapped, "it is no async def"),
    ],
)
def test_any_other_is_a_method_as_ever_and_its_author_is_told(cls: type[Service], why: str) -> None:
    """It is never asked."""
    manifest, methods = describe(cls)

    assert health.asked_of(cls()) is None
    assert manifest.notes == (f"its health is a method like others, and never asked: {why}",)
    assert set(methods) | set(manifest.left_out) == {"health"}


@pytest.mark.parametrize("cls", [Overrides, Without])
def test_what_is_no_method_is_nothing(cls: type[Service]) -> None:
    """Neither asked, nor called, nor spoken of."""
    manifest, methods = describe(cls)

    assert health.asked_of(cls()) is None
    assert (methods, manifest.notes) == ({}, ())


async def told(answer: Callable[[], Awaitable[Any]], number: int, interval: float) -> list[Health]:
    """Return what is told of so many questions."""
    heard: list[Health] = []
    enough = asyncio.Event()

    def tell(said: Health) -> None:
        heard.append(said)
        if len(heard) == number:
            enough.set()

    asking = health.HealthCheck(answer, interval, tell)
    await enough.wait()
    asking.end()
    return heard


class Stray(BaseException):
    """Is no Exception."""


def unawaited() -> Any:
    """Return what is to be awaited, as a method that lacks an await would."""
    return asyncio.get_running_loop().create_future()


class Odd:
    """Cannot be judged."""

    def __bool__(self) -> bool:
        raise ValueError("neither true nor false")


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (True, ""),
        (None, ""),
        ("connected", ""),
        (False, "it said no"),
        (0, "it said no"),
        ("", "it said no"),
        (Odd(), "ValueError: neither true nor false"),
        (OSError(5, "no disk"), "OSError: [Errno 5] no disk"),
        (asyncio.CancelledError(), "it was cancelled"),
        (TimeoutError(), "TimeoutError"),
        (Stray("of a library"), "Stray: of a library"),
        (GeneratorExit(), "GeneratorExit"),
        (unawaited, health.UNAWAITED),
    ],
)
async def test_what_an_answer_means(answer: Any, problem: str) -> None:
    """None is as good as True; what is false is not, nor is what raises."""

    async def said() -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return answer() if answer is unawaited else answer

    assert [one.problem for one in await told(said, 2, 0.01)] == [problem] * 2


async def test_a_late_one_is_cancelled_and_the_next_is_asked_anew() -> None:
    """Each that is late is told as such, with how long it was waited for."""
    ended: list[str] = []

    async def said() -> bool:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")
        return True

    heard = await told(said, 3, 0.05)

    assert [one.problem for one in heard] == ["no answer within 0.05 s"] * 3
    assert all(one.took_s >= 0.05 for one in heard)
    assert len(ended) == 3


async def test_one_that_cannot_be_cancelled_is_not_asked_twice_at_once() -> None:
    """It is late again and again; once it has ended, another is asked."""
    begun, let_go = 0, asyncio.Event()

    async def said() -> bool:
        nonlocal begun
        begun += 1
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue
        return True

    assert [one.problem for one in await told(said, 3, 0.03)] == ["no answer within 0.03 s"] * 3
    assert begun == 1
    let_go.set()


async def test_nothing_is_asked_once_it_has_ended() -> None:
    """As in a service that drains: a question under way is cancelled."""
    begun = asyncio.Event()
    heard: list[Health] = []

    async def said() -> bool:
        begun.set()
        await asyncio.Event().wait()
        return True

    asking = health.HealthCheck(said, 0.02, heard.append)
    await begun.wait()
    asking.end()
    await asyncio.sleep(0)
    before = len(heard)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.wait(others, timeout=5) if others else None

    assert len(heard) == before
    assert not {task for task in asyncio.all_tasks() if task.get_name().startswith("health")}
