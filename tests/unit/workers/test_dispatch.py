"""The replies to calls that a service does not run."""

import asyncio
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from garrison.ipc import messages
from garrison.ipc.errors import InvalidCall, Overloaded, RemoteError, ServiceLost, from_fault
from garrison.ipc.messages import EMPTY_MAP, Call, Token
from garrison.workers import Service
from garrison.workers.process import dispatch
from garrison.workers.process.dispatch import Dispatch
from garrison.workers.process.methods import describe
from garrison.workers.testing import Harness, run

CALLER = b"g-caller"


class Slow(Service):
    """Has one method, which returns when `go` is set."""

    service_type = "slow"

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()

    async def wait(self) -> str:
        await self.go.wait()
        return "done"

    async def resist(self) -> None:
        while not self.go.is_set():
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                continue


def call(call_id: int, method: str = "wait") -> Call:
    """Return a call as it arrives."""
    return Call(call_id, method, Raw(msgspec.msgpack.encode([])), EMPTY_MAP, 5.0)


@pytest.fixture
async def served() -> tuple[Dispatch, Slow, list[messages.Data]]:
    """Return a dispatch with its service, and what it sends."""
    sent: list[messages.Data] = []

    def send(to: Token, message: messages.Data) -> None:
        assert to == CALLER
        sent.append(message)

    made, service = Dispatch("slow", send, Harness("slow").internal, 1 << 20), Slow()
    made.serve(service, describe(Slow)[1])
    return made, service, sent


Served = tuple[Dispatch, Slow, list[messages.Data]]


async def test_the_last_call_may_end_as_the_time_of_a_drain_is_over(served: Served) -> None:
    """Both in one turn of the loop: then nothing is left to be ended."""
    made, service, sent = served
    made.call(CALLER, call(1))
    await asyncio.sleep(0)
    draining = asyncio.ensure_future(made.drain(0.0))
    service.go.set()

    assert await draining
    assert isinstance(sent[0], messages.Reply)


async def test_the_task_of_a_method_is_named_after_it(served: Served) -> None:
    """So `garrison stack` shows which method waits where."""
    made, service, _ = served
    made.call(CALLER, call(1))
    await asyncio.sleep(0)
    assert "slow.wait" in {task.get_name() for task in asyncio.all_tasks()}

    service.go.set()
    assert await made.drain(5.0)


async def test_a_draining_service_refuses_new_calls(served: Served) -> None:
    """Running calls finish; the caller of a refused one may send it elsewhere."""
    made, service, sent = served
    made.call(CALLER, call(1))
    draining = asyncio.ensure_future(made.drain(5.0))
    await asyncio.sleep(0)

    made.call(CALLER, call(2))
    assert sent == [messages.Refused(2)]

    service.go.set()
    await draining
    assert len(sent) == 2
    assert isinstance(sent[1], messages.Reply)


async def test_a_drain_ends_what_takes_too_long_as_lost(served: Served) -> None:
    """The caller reads why, not that something was cancelled; a method that resists its
    cancellation does not keep its caller waiting, and is named."""
    made, service, sent = served
    made.call(CALLER, call(1))
    made.call(CALLER, call(2, "resist"))
    await asyncio.sleep(0)
    assert [(one.name, one.cancelled) for one in made.held()] == [
        ("wait", False),
        ("resist", False),
    ]

    assert not await made.drain(0.01, "it was restarted")

    errors = [from_fault(one.fault) for one in sent if isinstance(one, messages.Failed)]
    assert {type(error) for error in errors} == {ServiceLost}
    assert {error.method for error in errors} == {"wait", "resist"}
    assert all("it was restarted" in str(error) for error in errors)
    assert not any(error.died for error in errors if isinstance(error, ServiceLost))
    assert [(one.name, one.source, one.cancelled) for one in made.held()] == [
        ("resist", CALLER, True)
    ]
    service.go.set()


async def test_a_call_above_the_limit_is_overloaded(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused would mean that it takes no more calls at all."""
    monkeypatch.setattr(dispatch, "RUNNING_MOST", 1)
    made, service, sent = served
    made.call(CALLER, call(1))

    made.call(CALLER, call(2))

    (answer,) = sent
    service.go.set()
    await made.drain(5.0)
    assert isinstance(answer, messages.Failed)
    assert type(from_fault(answer.fault)) is Overloaded


async def test_an_unknown_method_is_an_invalid_call(served: Served) -> None:
    """The error goes to the caller."""
    made, _, sent = served

    made.call(CALLER, call(1, "nothing"))

    (answer,) = sent
    assert isinstance(answer, messages.Failed)
    assert type(from_fault(answer.fault)) is InvalidCall


async def test_a_result_that_was_not_awaited_is_explained() -> None:
    """A common mistake in calls to other services."""

    class Forgetful(Service):
        service_type = "forgetful"

        async def ask(self) -> Any:
            return asyncio.get_running_loop().create_future()

    async with run(Forgetful) as service:
        proxy: Any = service.runtime.get_service("forgetful")
        with pytest.raises(RemoteError, match="write `await` before the call"):
            await proxy.ask()


async def test_a_repeated_id_is_ignored(served: Served) -> None:
    """The same call does not run twice."""
    made, service, sent = served
    made.call(CALLER, call(1))
    made.call(CALLER, call(1))
    assert made.in_flight == 1

    service.go.set()
    await made.drain(5.0)

    assert len(sent) == 1
