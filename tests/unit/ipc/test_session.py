"""A session handles every message, and leaves a worker's part to its hooks."""

import asyncio
import os
from typing import Any, get_args

import pytest
from msgspec import structs

from garrison.ipc import messages
from garrison.ipc.errors import SupervisorGone
from garrison.ipc.hooks import WorkerHooks
from garrison.ipc.messages import SUPERVISOR, CallLimits
from garrison.ipc.session import Session

LIMITS = CallLimits(timeout=1.0, window=2, window_bytes=3, max_message=4_000_000)
NO_PROCESS = 2**22 + 1  # above the largest pid


class Hooks:
    """A worker that records what its session calls."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def made(self) -> WorkerHooks:
        """Return the hooks."""
        return WorkerHooks(
            redact=lambda message: message,
            welcomed=lambda message, is_next: self.events.append((message.boot, is_next)),
            ordered=self.events.append,
            batch_read=self.events.append,
            synced=lambda: self.events.append("synced"),
            router_changed=lambda: self.events.append("router changed"),
            peer_ended=self.events.append,
        )


def welcome(boot: str, pid: int = NO_PROCESS) -> messages.Welcome:
    """Return a Welcome, of a supervisor that has ended unless another pid is given."""
    return messages.Welcome(1, boot, pid, (), timeout=9.0, window=8, window_bytes=7)


async def test_every_message_of_the_bus_has_a_handler() -> None:
    """The handlers are a table, which a type checker does not compare with the union."""
    assert set(Session(b"g").handlers) == set(get_args(messages.Data))


async def test_a_program_has_the_limits_of_the_welcome() -> None:
    """A worker has its own, from its assignment, but the size of messages: that is the router's."""
    program, worker = Session(b"g"), Session(b"g", LIMITS, worker=Hooks().made())
    for session in (program, worker):
        session.handle(welcome("one"))

    assert program.limits == welcome("one").limits
    assert (program.calls.window, program.calls.window_bytes) == (8, 7)
    assert worker.limits == structs.replace(LIMITS, max_message=welcome("one").max_message)
    assert (worker.calls.window, worker.calls.window_bytes) == (2, 3)


async def test_a_worker_is_notified_of_each_supervisor() -> None:
    """It reports to the next one, through which no former call can be answered."""
    hooks = Hooks()
    session = Session(b"g", LIMITS, worker=hooks.made())
    for boot in ("one", "one", "two"):
        session.handle(welcome(boot))

    assert hooks.events == [("one", False), ("one", False), "router changed", ("two", True)]


@pytest.mark.parametrize(
    "message", [messages.Drain(1.0), messages.ShowTasks(), messages.Rejected("unknown")]
)
async def test_a_worker_acts_on_orders_itself(message: Any) -> None:
    """A program ignores a drain; its rejection is logged."""
    hooks = Hooks()
    Session(b"g", LIMITS, worker=hooks.made()).handle(message)
    program = Session(b"g")
    program.handle(welcome("one"))
    program.handle(message)

    assert hooks.events == [message]
    assert not program.closed


async def test_only_the_supervisor_announces_an_end() -> None:
    """Another member of the bus cannot cancel calls."""
    hooks = Hooks()
    session = Session(b"g", LIMITS, worker=hooks.made())
    for source in (b"g-other", SUPERVISOR):
        session.handlers[messages.Ended](source, messages.Ended(b"g-ended", "was killed"))

    assert hooks.events == [b"g-ended"]


async def test_a_program_ends_with_a_supervisor_that_shuts_down() -> None:
    """Requests and calls fail. A worker's calls wait for the next supervisor."""
    program, worker = Session(b"g"), Session(b"g", LIMITS, worker=Hooks().made())
    for session in (program, worker):
        session.handle(welcome("one"))
        session.handle(messages.Farewell())

    assert program.supervisor_gone
    assert program.unreachable == "the supervisor has ended"
    assert not worker.unreachable


async def test_a_request_fails_with_its_supervisor() -> None:
    """The next one does not know it."""
    session = Session(b"g")
    session.handle(welcome("one", os.getpid()))
    session.watch_supervisor()
    request = session.loop.create_task(session.request("status", (), 5.0, {}))
    await asyncio.sleep(0)  # the request is sent
    session.on_supervisor_end()

    with pytest.raises(SupervisorGone, match="ended before it answered"):
        await request


async def test_a_request_to_a_supervisor_that_has_ended_is_refused() -> None:
    """It would be sent to the next one, which does not know the sender."""
    session = Session(b"g")
    session.handle(welcome("one"))
    session.watch_supervisor()
    with pytest.raises(SupervisorGone, match="it has ended"):
        await session.request("status", (), 5.0, {})


async def test_a_watcher_that_gave_up_is_removed() -> None:
    """Otherwise each wait for a service would leave one behind."""
    session = Session(b"g")
    session.waiters.next_change("a").cancel()
    await asyncio.sleep(0)

    assert not session.waiters
