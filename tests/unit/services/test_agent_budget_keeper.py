"""An agent with budgets: what its answers, and its actions, may use of models."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from garrison.workers import (
    Action,
    Attribution,
    BudgetSpent,
    Content,
    GenerateTextParams,
    Memory,
    ModelError,
    ModelType,
    idempotent,
    set_attribution,
)
from garrison.workers.services.agent import AgentService
from garrison.workers.services.agent.limits import budget_keeper
from garrison.workers.services.agent.record import schema
from garrison.workers.services.agent.record.rows import MessageState
from garrison.workers.testing import Harness

TEXT = "Enough for today."


class Chat:
    """A platform that records what it is to send."""

    def __init__(self) -> None:
        self.said: list[str] = []

    @idempotent
    async def send_message(self, channel: str, text: str) -> Any:
        self.said.append(text)


class Models:
    """A provider that records what it is asked, and counts what the test says."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int | None]] = []
        self.tokens, self.cost, self.error = 100, 0.25, ""

    def handler(self, model_type: str) -> Callable[..., Any]:
        """Return the handler of a model type."""

        async def handle(runtime: Any, params: GenerateTextParams) -> str:
            self.asked.append((model_type, params.max_tokens))
            if self.error:
                raise ModelError(self.error)
            runtime.count_tokens(input=self.tokens - 10, output=10)
            runtime.count_cost(self.cost)
            return "Hello"

        return handle


Living = Callable[..., AbstractAsyncContextManager[AgentService]]


@pytest.fixture
def chat() -> Chat:
    """Return the platform."""
    return Chat()


@pytest.fixture
def models() -> Models:
    """Return the provider."""
    return Models()


@pytest.fixture
def living(tmp_path: Path, chat: Chat, models: Models) -> Living:
    """Return a context manager that is one life of the agent in a folder that lasts."""

    @asynccontextmanager
    async def live(action: Action | None = None, **budget: Any) -> AsyncIterator[AgentService]:
        harness = Harness("agent", data_folder=tmp_path)
        harness.add_fakes({"chat": chat})
        for model_type in (ModelType.TEXT_LARGE, ModelType.TEXT_SMALL):
            harness.runtime.register_model(model_type, models.handler(model_type))
        if action is not None:
            harness.runtime.register_action(action)
        config = {"budget": budget, "budget_text": TEXT} if budget else {}
        agent = await harness.start(AgentService, config)
        try:
            yield agent
            await agent.stop()
        finally:
            await harness.close()
        harness.raise_failure()

    return live


def applies(runtime: Any, memory: Memory) -> bool:
    """Apply to every message."""
    return True


def message(id: str, person: str = "ada", room: str = "r") -> Memory:
    """Return a message."""
    return Memory(content=Content("Hi", source="chat"), id=id, room_id=room, entity_id=person)


async def test_at_the_limit_it_says_so(living: Living, chat: Chat, models: Models) -> None:
    """Without a provider being called; the record says why, and `status` what is left."""
    async with living(tokens_per_day=2000) as agent:
        models.tokens = 1900
        await agent.process_actions(message("m1"))
        for name in ("m2", "m3"):
            done = await agent.process_actions(message(name))
            assert [one.content.text for one in done.responses] == [TEXT]
        (record,) = await agent._answers.execute(lambda at: schema.find_by_id(at, "m2", 9))
        reports: Any = agent.runtime._reports
    assert chat.said == ["Hello", TEXT, TEXT]
    assert len(models.asked) == 1
    assert (record.state, record.why.how) == (MessageState.DROPPED, "budget")
    assert "no model TEXT_LARGE: budget is used up" in record.why.problem
    assert (reports.facts["budget_left"], reports.facts["over_budget"]) == (100, 2)
    assert "the agent's budget is used up" in reports.warnings["budget"]


async def test_in_a_pause_each_room_is_told_once(living: Living, chat: Chat) -> None:
    """Also over a restart; a pause ends with the day."""
    async with living(tokens_per_day=100, at_limit="pause") as agent:
        await agent.process_actions(message("m1"))
        await agent.process_actions(message("m2"))
        await agent.process_actions(message("m3", room="other"))
    async with living(tokens_per_day=100, at_limit="pause") as agent:
        done = await agent.process_actions(message("m4"))
        assert done.responses == []
    assert chat.said == [TEXT, TEXT]


async def test_it_degrades_to_the_small_model(living: Living, chat: Chat, models: Models) -> None:
    """And says so when that has used up the rest."""
    models.tokens = 1500
    async with living(tokens_per_day=4000, at_limit="degrade", degrade_at=0.5) as agent:
        for number in range(4):
            await agent.process_actions(message(f"m{number}"))
    assert models.asked[:2] == [("TEXT_LARGE", 1024), ("TEXT_SMALL", 1024)]
    assert models.asked[2][0] == "TEXT_SMALL"
    assert 800 < (models.asked[2][1] or 0) < 1000  # what is left
    assert chat.said == ["Hello", "Hello", "Hello", TEXT]


async def test_a_restart_renews_no_budget(
    living: Living, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new day does."""
    models.tokens = 10_000  # so that one of them costs little
    limit = {"per_person": {"cost_per_day": 0.5}}
    async with living(**limit) as agent:
        for number in range(2):
            await agent.process_actions(message(f"m{number}"))
    async with living(**limit) as agent:
        await agent.process_actions(message("m3"))
        assert len(models.asked) == 2
        await agent.process_actions(message("m4", person="bob"))
        assert len(models.asked) == 3
        day, left = budget_keeper.today()
        monkeypatch.setattr(budget_keeper, "today", lambda: (day + 1, left))
        await agent.process_actions(message("m5"))
        assert len(models.asked) == 4


async def test_what_fails_uses_nothing(living: Living, models: Models) -> None:
    """Its reservation is released: no other provider was left either."""
    models.error = "busy"
    async with living(tokens_per_day=1200) as agent:
        for number in range(5):
            await agent.process_actions(message(f"m{number}"))
        assert agent._budget._budgets.left() == (1200, None)
        assert agent._budget._budgets.open == {}


async def test_an_action_uses_the_budget_of_its_answer(living: Living, models: Models) -> None:
    """By a call to the agent that reserves before, and one that settles after."""
    errors: list[Any] = []

    async def act(runtime: Any, memory: Memory, state: Any, responses: Any) -> str:
        try:
            found: str = await runtime.use_model("TEXT_LARGE", "Sing", "agent")
            pieces = [one async for one in runtime.use_model_stream("TEXT_LARGE", "Sing")]
            assert pieces == ["Hello"]
        except BudgetSpent as error:
            errors.append((error.limit, error.seconds > 0))
            return "no"
        return found

    action = Action("SING", "Sings", validate=applies, handler=act)
    async with living(action, per_person={"tokens_per_day": 1300}) as agent:
        models.tokens = 200
        for number in range(3):
            await agent.process_actions(message(f"m{number}"))
        left = agent._budget._budgets
        assert left.open == {}
        (row,) = left.rows.values()
        assert 400 < row.tokens <= 1300
    assert errors == []
    assert [asked for asked, _ in models.asked] == ["TEXT_LARGE"] * 6
    assert (models.asked[-1][1] or 0) < 1024


async def test_without_a_budget_nothing_is_reserved(living: Living, models: Models) -> None:
    """The answer is attributed all the same, for the provider's usage."""
    seen: list[Any] = []

    async def act(runtime: Any, memory: Memory, state: Any, responses: Any) -> str:
        seen.append(runtime.attribution)
        return "done"

    async with living(Action("ACT", "Acts", validate=applies, handler=act)) as agent:
        set_attribution(Attribution(task="t7"))
        await agent.process_actions(message("m1"))
        set_attribution(None)
        assert agent._budget._budgets.rows == {}
    assert seen == [Attribution("", "", "chat", "r", "ada", "t7")]
