"""Threads of plain methods: what waits, and what is refused with what holds the threads."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support.waiting import until_true

from garrison.ipc.errors import Overloaded
from garrison.ipc.messages import ThreadUse
from garrison.workers.process.method_threads import MethodThreads, Refusal


class Pool:
    """Four threads, and methods that hold one until they are released."""

    def __init__(self) -> None:
        self.threads = MethodThreads("bot", 4)
        self.released = threading.Event()
        self.begun: list[str] = []

    def call(self, method: str, timeout: float = 60.0, hold: bool = True) -> "asyncio.Task[Any]":
        """Start a call."""

        def work() -> str:
            self.begun.append(method)
            if hold:
                assert self.released.wait(20)
            return method

        return asyncio.create_task(self.threads.run(method, timeout, work))

    async def give_up(self, calls: "list[asyncio.Task[Any]]") -> None:
        """Cancel calls whose methods run on."""
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    """Return a pool, and let its threads end."""
    made = Pool()
    yield made
    made.released.set()
    await until_true(lambda: not made.threads.use.busy)


async def refused(call: "asyncio.Task[Any]") -> str:
    """Return why a call was refused."""
    with pytest.raises(Refusal) as caught:
        await call
    assert isinstance(caught.value.error, Overloaded)
    return str(caught.value.error)


async def test_one_method_leaves_threads_for_the_others(pool: Pool) -> None:
    """It takes three quarters of them; its further calls wait, and run later."""
    held = [pool.call("slow") for _ in range(6)]
    assert await pool.call("quick", hold=False) == "quick"
    assert pool.threads.use == ThreadUse(4, 3, 0, 3)
    assert pool.threads.problem == ""
    pool.released.set()
    assert await asyncio.gather(*held) == ["slow"] * 6


async def test_a_call_is_refused_shortly_before_its_deadline(pool: Pool) -> None:
    """The text has what holds the threads; so has the problem that `status` shows."""
    held = [pool.call(method) for method in ("a", "a", "b", "c")]
    await until_true(lambda: len(pool.begun) == 4)
    text = await refused(pool.call("d", 0.1))
    assert text.startswith("bot.d was not run: no thread is free for it. 4 of 4 threads are held")
    assert "a ×2 (the oldest for 0." in text
    assert "raise `threads`" in text
    assert "b ×1" in pool.threads.problem
    assert pool.threads.use == ThreadUse(4, 4, 0, 0)
    pool.released.set()
    await asyncio.gather(*held)


async def test_a_call_is_refused_at_once_if_all_that_it_waits_for_is_stuck(pool: Pool) -> None:
    """The methods go on although their callers gave up; a call that waited is refused then."""
    held = [pool.call("stuck") for _ in range(3)]
    await until_true(lambda: len(pool.begun) == 3)
    waiting = pool.call("stuck")
    await asyncio.sleep(0)
    await pool.give_up(held)
    assert "stuck ×3" in await refused(waiting)
    assert "3 given up by the caller" in await refused(pool.call("stuck"))
    assert pool.threads.use == ThreadUse(4, 3, 3, 0)
    assert "stuck ×3" in pool.threads.problem
    assert await pool.call("other", hold=False) == "other"
    last = pool.call("other")
    await until_true(lambda: pool.begun.count("other") == 2)
    third = pool.call("third", hold=False)  # it waits: `other` may end
    pool.released.set()
    assert await third == "third"
    assert await last == "other"
    await until_true(lambda: pool.threads.use.busy == 0)
    assert await pool.call("stuck") == "stuck"


async def test_a_waiting_call_that_is_given_up_holds_nothing(pool: Pool) -> None:
    """Also one that is given up in the turn in which it got its thread."""
    held = [pool.call(method) for method in ("a", "a", "b", "b")]
    await until_true(lambda: len(pool.begun) == 4)
    gone, late = pool.call("c"), pool.call("c")
    await asyncio.sleep(0)
    await pool.give_up([gone])
    assert pool.threads.use == ThreadUse(4, 4, 0, 1)
    pool.released.set()
    await until_true(lambda: pool.threads.use.waiting == 0)
    late.cancel()
    await asyncio.gather(*held)
    await until_true(lambda: pool.threads.use == ThreadUse(4, 0, 0, 0))
    assert await pool.call("c") == "c"


@pytest.mark.parametrize(
    ("error", "raised"), [(StopIteration(), RuntimeError), (GeneratorExit(), GeneratorExit)]
)
async def test_what_a_method_raises_is_raised(
    pool: Pool, error: BaseException, raised: type[BaseException]
) -> None:
    """A future cannot hold StopIteration."""

    def fail() -> None:
        raise error

    with pytest.raises(raised):
        await pool.threads.run("fail", 1.0, fail)
