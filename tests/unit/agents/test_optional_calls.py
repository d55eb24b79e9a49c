"""Calls that an answer can do without, while their service comes and goes."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from garrison.ipc.errors import CallTimeout, RemoteError
from garrison.ipc.messages import ActionInfo, Changed, EvaluatorInfo, ProviderInfo
from garrison.ipc.messages import State as ServiceState
from garrison.workers import Action, Evaluator, Memory, Provider, State, as_memory
from garrison.workers.agents import absence
from garrison.workers.agents.absence import Part
from garrison.workers.agents.optional_calls import LeftOut
from garrison.workers.agents.remote import RemoteAction, RemoteEvaluator, RemoteProvider
from garrison.workers.testing import Harness


class Weather:
    """Stands for a plugin's service."""

    service_type = "weather"


class Plugged:
    """A service `weather` with a provider, an action and an evaluator that wait for `answers`."""

    def __init__(self, first: ServiceState = ServiceState.RUNNING) -> None:
        self.harness = Harness("tested")
        self.harness.add_fakes({"weather": Weather()})
        self.client = self.harness.client
        self.answers, self.asked = asyncio.Event(), asyncio.Event()
        self.answers.set()
        self.ended = False

        async def answer(runtime: Any, memory: Memory) -> Any:
            self.asked.set()
            try:
                await self.answers.wait()
            except asyncio.CancelledError:
                self.ended = True
                raise
            if memory.content.text == "raise":
                raise ValueError("no weather")
            return "rain"

        for part in (
            Provider("W", get=answer),
            Action("A", validate=answer, handler=answer),
            Evaluator("E", validate=answer, handler=answer),
        ):
            self.harness.components.add(part)
        api = self.harness.runtime._api
        common = (self.client, api._optional, "weather")
        self.provider = RemoteProvider(*common, ProviderInfo("W"))
        self.action = RemoteAction(*common, ActionInfo("A"))
        self.evaluator = RemoteEvaluator(*common, EvaluatorInfo("E"))
        entry = self.client.directory.get("weather")
        assert entry is not None
        self.token = entry.token
        self.turn(first)  # as the supervisor's directory announces it

    def turn(self, state: ServiceState) -> None:
        """Announce the service's next state."""
        token = self.token if state is ServiceState.RUNNING else b""
        self.client.session.handle(Changed("weather", state, True, 1, token))

    async def get(self, text: str = "hi", timeout: float = 60.0) -> str:
        """Return the provider's text."""
        return (await self.provider.get(None, as_memory(text), State(), timeout=timeout)).text


@pytest.fixture
async def plugged() -> AsyncIterator[Plugged]:
    """Return a plugin's parts."""
    plugged = Plugged()
    yield plugged
    await plugged.harness.close()


async def test_what_hangs_in_its_start_is_left_out_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A provider raises, a validate is false, and the log says so once."""
    other = Plugged(ServiceState.STARTING)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            with pytest.raises(LeftOut, match="weather is starting"):
                await other.get()
        assert await other.action.validate(None, as_memory("x")) is False
        assert await other.evaluator.validate(None, as_memory("x"), State()) is False
    assert not other.asked.is_set()
    assert [line for line in caplog.messages if "parts.left_out" in line] == [
        "parts.left_out service=weather state=starting its providers and actions are left out of "
        "answers until it runs"
    ]
    await other.harness.close()


async def test_what_restarts_in_time_is_not_lost(
    plugged: Plugged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that begins while its service is away is made once it is back."""
    monkeypatch.setattr(absence, "GRACE_S", 60.0)
    plugged.turn(ServiceState.QUEUED)
    waiting = [
        asyncio.ensure_future(one)
        for one in (
            plugged.get(),
            plugged.action.validate(None, as_memory("x")),
            plugged.evaluator.validate(None, as_memory("x"), State()),
        )
    ]
    for state in (ServiceState.STARTING, ServiceState.RUNNING):
        await asyncio.sleep(0)
        assert not any(one.done() for one in waiting)
        plugged.turn(state)
    assert await asyncio.gather(*waiting) == ["rain", True, True]


@pytest.mark.parametrize("state", [ServiceState.QUEUED, ServiceState.BACKOFF])
async def test_a_call_in_flight_ends_with_its_service(
    plugged: Plugged, monkeypatch: pytest.MonkeyPatch, state: ServiceState
) -> None:
    """It would wait for the restart up to its own deadline otherwise."""
    monkeypatch.setattr(absence, "GRACE_S", 0.01)
    plugged.answers.clear()
    waiting = asyncio.ensure_future(plugged.get())
    await plugged.asked.wait()
    plugged.turn(state)
    with pytest.raises(LeftOut):
        await waiting
    plugged.turn(ServiceState.RUNNING)
    plugged.answers.set()
    assert await plugged.get() == "rain"


async def test_what_was_late_twice_is_left_out_and_shown(
    plugged: Plugged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line in `status` is gone with its next answer; the service's other parts stay."""
    plugged.answers.clear()
    for _ in range(2):
        with pytest.raises(CallTimeout):
            await plugged.get(timeout=0.01)
    plugged.answers.set()
    with pytest.raises(LeftOut, match="provider W of weather was late"):
        await plugged.get()
    assert list(plugged.harness.reports.warnings.values()) == [
        "left out of answers for 30 s, because it timed out twice: provider W of weather"
    ]
    assert await plugged.action.validate(None, as_memory("x"))

    now = plugged.client.now
    monkeypatch.setattr(plugged.client, "now", lambda: now() + absence.LEFT_OUT_S)
    assert await plugged.get() == "rain"
    assert plugged.harness.reports.warnings == {}


async def test_an_error_is_an_answer_in_time(plugged: Plugged) -> None:
    """A part that raises is not late."""
    optional = plugged.harness.runtime._api._optional
    optional._lateness.timed_out(Part("provider", "W", "weather"), plugged.client.now())
    with pytest.raises(RemoteError, match="no weather"):
        await plugged.get("raise")
    plugged.answers.clear()
    with pytest.raises(CallTimeout):
        await plugged.get(timeout=0.01)
    plugged.answers.set()
    assert await plugged.get() == "rain"


async def test_a_caller_that_leaves_early_makes_nobody_late(plugged: Plugged) -> None:
    """Its own deadline, or its cancellation, says nothing about the part."""
    plugged.answers.clear()
    for _ in range(3):
        waiting = asyncio.ensure_future(plugged.get())
        await plugged.asked.wait()
        plugged.asked.clear()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    plugged.answers.set()
    assert await plugged.get() == "rain"


async def test_a_state_is_composed_without_what_is_left_out(
    plugged: Plugged, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once, not as a failure."""
    plugged.turn(ServiceState.BACKOFF)
    state = await plugged.harness.runtime._api._context_of(
        plugged.provider, as_memory("x"), timeout=60.0
    )
    assert state is None
    assert [line.split()[0] for line in caplog.messages] == ["parts.left_out"]
