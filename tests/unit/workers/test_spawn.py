"""Background work at the end of a service."""

import asyncio
import gc
import warnings
from decimal import Decimal
from typing import Any, Self

import pytest
from tests.support.waiting import until_true

from garrison.workers import Runtime, Service, with_timeout
from garrison.workers.background import EssentialWorkEnded
from garrison.workers.reports import Reports
from garrison.workers.testing import run


class Busy(Service):
    """A service without methods."""

    service_type = "busy"


async def test_work_that_is_cancelled_before_its_first_step_leaves_no_warning() -> None:
    """It is spawned in the last turn of the loop."""

    async def work() -> None:
        raise AssertionError("it has begun")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async with run(Busy) as service:
            service.spawn(work())
        gc.collect()
    assert [str(one.message) for one in caught] == []


def warnings_of(service: Any) -> list[str]:
    """Return the warnings of a service."""
    return list(service.runtime._reports.warnings.values())


async def forever() -> None:
    """Wait for an end."""
    await asyncio.Event().wait()


async def once() -> None:
    """Return."""


class Connected(Service):
    """Its connections return, or are cancelled by others."""

    service_type = "connected"

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        """Spawn what should last."""
        service = cls(runtime)
        runtime.spawn(once(), "connection")
        runtime.spawn(once(), "warm-up", essential=False)
        return service


async def test_work_that_ends_without_an_order_is_a_warning() -> None:
    """Cancelled by others, or returned though it was begun by `start`; not at the stop."""
    async with run(Connected) as service:
        await until_true(lambda: warnings_of(service))
        assert warnings_of(service) == [
            "its background work connection returned, and runs no longer"
        ]
        service.every(60, once).cancel()
        service.spawn(forever(), "poll").cancel()
        service.spawn(forever(), "timer", essential=False).cancel()
        await asyncio.wait([service.spawn(once(), "one message")])
        assert warnings_of(service)[1:] == [
            "its background work once was cancelled, and runs no longer",
            "its background work poll was cancelled, and runs no longer",
        ]
        service.spawn(forever(), "poll")  # started again
        service.spawn(forever(), "connection")
        assert len(warnings_of(service)) == 1
    assert len(warnings_of(service)) == 1


@pytest.mark.parametrize("how", ["returned", "was cancelled"])
async def test_essential_work_that_ends_is_a_crash(how: str) -> None:
    """Whatever ended it, other than the stop."""

    async def lose() -> None:
        async with run(Busy) as service:
            service.spawn(forever(), "kept", essential=True)
            task = service.spawn(once() if how == "returned" else forever(), "poll", essential=True)
            if how == "was cancelled":
                task.cancel()
            await asyncio.wait([task])

    with pytest.raises(EssentialWorkEnded, match=f"the essential work poll {how}"):
        await lose()


def test_warnings_are_bounded() -> None:
    """Sixteen lines; a new one replaces the oldest, None removes one, and a line is one line."""
    loop = asyncio.new_event_loop()
    reports = loop.run_until_complete(_reports())
    loop.close()
    for n in range(20):
        reports.warn(f"k{n}", f"line\n {n}")
    assert list(reports.warnings.values()) == [f"line {n}" for n in range(4, 20)]
    reports.warn("k4", None)
    reports.warn("k5", "")
    reports.warn("k6", "last \ud800")
    assert list(reports.warnings.values()) == [
        *(f"line {n}" for n in range(7, 20)),
        "last \\ud800",
    ]
    with pytest.raises(TypeError, match="a text"):
        reports.warn("k", 5)  # type: ignore[arg-type]


async def _reports() -> Reports:
    return Reports()


async def test_a_period_or_a_deadline_that_is_no_number_is_named() -> None:
    """One that comes from a config may be a text."""
    async with run(Busy, fakes={"other": object()}) as service:
        given = r"a number of seconds, not str: '5'"
        with pytest.raises(TypeError, match=f"every takes {given}"):
            service.every("5", once)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=f"extend takes {given}"):
            service.runtime.extend("5")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=f"a deadline is {given}"):
            with_timeout(service.runtime.get_service("other"), "5")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=f"a timeout is {given}"):
            await service.runtime.get_service_load_promise("other", "5")  # type: ignore[call-overload]
        service.runtime.extend(Decimal(5))  # type: ignore[arg-type]
