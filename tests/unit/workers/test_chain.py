"""A call carries the calls that led to it, and a chain of them has a bound."""

import re
from typing import Any

import msgspec
import pytest

from garrison.ipc import InvalidCall, RemoteError
from garrison.ipc.call_context import ATTRIBUTION, CHAIN
from garrison.ipc.call_state import OpenCall
from garrison.ipc.calls import Calls
from garrison.ipc.errors import CallTimeout
from garrison.ipc.messages import CHAIN_MOST, EMPTY_MAP, Attribution, Entry, Manifest, State
from garrison.workers import Service
from garrison.workers.testing import run

ADA = Attribution("ada", "ada.agent", "chat", "r", "p")


class There(Service):
    """Calls a service that calls back."""

    service_type = "there"

    async def go(self, left: int) -> tuple[str, ...]:
        """Return the chain once enough calls were made."""
        if left <= 1:
            return CHAIN.get()
        return tuple(await self.proxy("back").go(left - 1))

    async def spawned(self, left: int) -> tuple[str, ...]:
        """Go on in a task of its own."""
        chains: list[Any] = []

        async def work() -> None:
            chains.append(await self.proxy("back").go(left))

        task = self.spawn(work())
        await task
        return tuple(chains[0])

    def proxy(self, name: str) -> Any:
        """Return a service."""
        return self.runtime.get_service(name)


class Back:
    """Calls back."""

    there: Any = None

    async def go(self, left: int) -> tuple[str, ...]:
        """Return the chain once enough calls were made."""
        return CHAIN.get() if left <= 1 else tuple(await self.there.go(left - 1))


async def test_calls_may_call_back_and_the_seventeenth_is_refused() -> None:
    """Re-entry is legitimate; an endless one names its chain. A spawned task begins a new chain."""
    back = Back()
    async with run(There, fakes={"back": back}) as service:
        back.there = service.proxy("there")
        whole = ["there.go", "back.go"] * (CHAIN_MOST // 2)
        assert await back.there.go(3) == whole[:3]
        assert await back.there.go(CHAIN_MOST) == whole
        with pytest.raises(RemoteError) as caught:
            await back.there.go(CHAIN_MOST + 1)
        assert "call 17 of a chain" in caught.value.detail
        assert " → ".join(whole) in caught.value.detail
        assert InvalidCall.__name__ in caught.value.detail
        assert str(caught.value).count("raised") <= 3  # not one for each of the calls
        assert await back.there.spawned(2) == ["back.go", "there.go"]


class Attributed(Service):
    """Calls a service that returns the answer which its call is a part of."""

    service_type = "attributed"

    async def told(self) -> Any:
        """Return that answer's attribution, as the other service and a task of spawn see it."""
        ATTRIBUTION.set(ADA)
        alone: list[Any] = []

        async def work() -> None:
            alone.append(ATTRIBUTION.get())

        await self.spawn(work())
        other: Any = self.runtime.get_service("other")
        return await other.seen(), alone


async def test_a_call_carries_the_answer_that_it_is_a_part_of() -> None:
    """A spawned task outlives the call, and belongs to no answer."""

    class Other:
        async def seen(self) -> tuple[str, ...]:
            return msgspec.structs.astuple(ATTRIBUTION.get() or Attribution())

    async with run(Attributed, fakes={"other": Other()}) as service:
        seen, alone = await service.told()
    assert (Attribution(*seen), alone) == (ADA, [None])


def test_a_timeout_shows_the_chain() -> None:
    """Without one its text is as ever."""
    outcomes: list[Any] = []
    calls = Calls(lambda token, message: None, 8, 1 << 20)
    entry = Entry("b", "p", 0, Manifest("b"), State.RUNNING, True, 1, b"token")
    calls.changed("b", entry, 0.0)
    for number, chain in enumerate([(), ("a.ask", "b.look")]):
        call = OpenCall(
            number, "b", "m", EMPTY_MAP, EMPTY_MAP, 2, 1.0, 1.0, outcomes.append, chain=chain
        )
        calls.start(call, 0.0)
    calls.due(2.0)
    plain, chained = outcomes
    assert str(plain) == "b.m gave no answer within 1 s"
    assert isinstance(chained, CallTimeout)
    assert re.search("within 1 s; it was called by a.ask → b.look", str(chained))
    assert chained.timeout == 1.0
