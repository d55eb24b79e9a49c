"""The trace of running work: its form on the wire, and how calls carry it on without a library."""

import asyncio
from typing import Any

import pytest

from garrison.ipc import TraceContext
from garrison.ipc.messages import TRACE_MOST
from garrison.ipc.tracing import PARENT, STATE, TRACE, header_values, packed, trace_id, unpacked
from garrison.workers import Service
from garrison.workers.testing import run

ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{ID}-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("headers", "trace"),
    [
        ({}, ""),
        ({PARENT: TRACEPARENT}, TRACEPARENT),
        ({PARENT: TRACEPARENT, STATE: "a=1, b=2"}, f"{TRACEPARENT} a=1, b=2"),
        ({STATE: "a=1"}, ""),
        ({PARENT: TRACEPARENT, STATE: "a=" + "x" * TRACE_MOST}, TRACEPARENT),
        ({PARENT: "x" * (TRACE_MOST + 1)}, ""),
    ],
)
def test_headers_of_a_trace_are_one_bounded_text(headers: dict[str, str], trace: str) -> None:
    """A state that is too long is left out: the trace goes on without it."""
    assert packed(headers) == trace
    if trace:
        assert packed(unpacked(trace)) == trace


@pytest.mark.parametrize(
    ("trace", "found"),
    [
        (TRACEPARENT, ID),
        (f"{TRACEPARENT} a=1", ID),
        ("", ""),
        ("nonsense", ""),
        (TRACEPARENT.upper(), ""),
        (f"{TRACEPARENT}x", ""),
    ],
)
def test_a_trace_has_its_id(trace: str, found: str) -> None:
    """What a peer sends may be anything."""
    assert trace_id(trace) == found


class There(Service):
    """Returns the trace that a call of it is a part of."""

    service_type = "there"

    async def seen(self) -> str:
        """Return it, as the method sees it."""
        return TRACE.get()

    def seen_in_thread(self) -> str:
        """Return it, as a plain method sees it."""
        return TRACE.get()

    async def passed_on(self) -> list[str]:
        """Return it, as another service, a task and a spawned task see it."""
        found: list[str] = []

        async def work() -> None:
            found.append(TRACE.get())

        other: Any = self.runtime.get_service("other")
        found.append(await other.seen())
        await asyncio.create_task(work())
        await self.spawn(work())
        return found


class Other:
    """Returns the trace that a call of it is a part of."""

    async def seen(self) -> str:
        """Return it."""
        return TRACE.get()


async def test_a_call_carries_the_trace_that_it_is_a_part_of() -> None:
    """Through threads, tasks and further services; a call outside of one has none."""
    async with run(There, fakes={"other": Other()}) as service:
        there: Any = service.runtime.get_service("there")
        assert await there.seen() == ""
        TRACE.set(TRACEPARENT)
        assert await there.seen() == TRACEPARENT
        assert await there.seen_in_thread() == TRACEPARENT
        assert await there.passed_on() == [TRACEPARENT] * 3
        TRACE.set("")
        assert await there.passed_on() == [""] * 3


class Queueing(Service):
    """Does its work in one task, which begins in the first call."""

    service_type = "queueing"
    queue: "asyncio.Queue[tuple[TraceContext, asyncio.Future[str]]] | None" = None

    async def work(self) -> str:
        """Return the trace that a piece of work is done in."""
        if self.queue is None:
            self.queue = asyncio.Queue()
            self.spawn(self.serve(self.queue), essential=False)
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        await self.queue.put((TraceContext(), done))
        return await done

    async def serve(self, queue: "asyncio.Queue[tuple[TraceContext, asyncio.Future[str]]]") -> None:
        """Do the work."""
        while True:
            kept, done = await queue.get()
            with kept, kept:  # it may be entered again
                done.set_result(TRACE.get() and f"{TRACE.get()} {kept.id}")


async def test_work_of_a_queue_goes_on_in_its_own_trace() -> None:
    """Not in that of the call which began the task."""
    async with run(Queueing) as service:
        queueing: Any = service.runtime.get_service("queueing")
        for trace in (TRACEPARENT, f"00-{'a' * 32}-{'b' * 16}-01", ""):
            TRACE.set(trace)
            assert await queueing.work() == (trace and f"{trace} {trace_id(trace)}")


@pytest.mark.parametrize(
    ("headers", "values"),
    [
        ("", set()),
        ("authorization=Bearer%20abc", {"authorization=Bearer%20abc", "Bearer abc", "abc"}),
        ("a=1, b = 2", {"a=1, b = 2", "1", "2"}),
        ("nonsense", {"nonsense"}),
    ],
)
def test_each_value_of_a_header_is_a_secret(headers: str, values: set[str]) -> None:
    """As a whole and decoded, without its scheme too."""
    assert set(header_values(headers).values()) == values
