"""An agent whose model calls actions as tools, in one process: rounds, lives, other providers."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from garrison.ipc import ModelError
from garrison.workers import (
    Action,
    ActionResult,
    Content,
    Generated,
    GenerateTextParams,
    Memory,
    RetryLater,
    ToolCall,
    idempotent,
)
from garrison.workers.agents.registry import as_model_handler
from garrison.workers.services.agent import AgentService
from garrison.workers.services.agent.record import schema
from garrison.workers.services.agent.record.rows import MessageState
from garrison.workers.testing import Harness


class Dice(msgspec.Struct):
    """What the model fills in."""

    sides: int


class Chat:
    """A platform."""

    def __init__(self) -> None:
        self.said: list[str] = []

    @idempotent
    async def send_message(self, channel: str, text: str) -> None:
        self.said.append(text)


class World:
    """What the models do next, and what was done."""

    def __init__(self) -> None:
        self.chat = Chat()
        self.turns: list[Generated | str | Exception] = []  # of the model that takes tools
        self.plain: list[Any] = []  # what the models without tools return
        self.asked: list[GenerateTextParams] = []
        self.done: list[str] = []

    def with_tools(self, params: GenerateTextParams) -> Generated:
        self.asked.append(params)
        turn = self.turns.pop(0) if self.turns else Generated("The end.")
        if isinstance(turn, Exception):
            raise turn
        return turn if isinstance(turn, Generated) else Generated(turn)

    def without(self, params: Any) -> Any:
        self.asked.append(params)
        found = self.plain.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    async def roll(
        self, runtime: Any, memory: Any, state: Any, responses: Any, options: Dice | None
    ) -> Any:
        self.done.append(f"roll {options.sides}" if options else "roll")
        return ActionResult(text="5", values={"rolled": 5})

    async def tip(self, runtime: Any, memory: Any) -> str:
        self.done.append("tip")
        return "Here is a coin."

    async def look_up(
        self, runtime: Any, memory: Any, state: Any, responses: Any, options: Dice | None
    ) -> ActionResult:
        self.done.append(f"look up {options.sides}" if options else "look up")
        return ActionResult(text="It is 5 o'clock.")

    async def fail(self) -> None:
        self.done.append("fail")
        raise ValueError("it is broken")


def call(name: str, **arguments: Any) -> ToolCall:
    """Return a call."""
    return ToolCall("x", name, arguments)


def calls(*found: ToolCall) -> Generated:
    """Return what a model generates that calls tools."""
    return Generated("", list(found), "tool_calls")


ROLL = call("ROLL", sides=6)
Living = Callable[..., AbstractAsyncContextManager[AgentService]]


@pytest.fixture
def world() -> World:
    """Return what is around the agent."""
    return World()


@pytest.fixture
def living(tmp_path: Path, world: World) -> Living:
    """Return a context manager that is one life of the agent, in a folder that lasts."""

    @asynccontextmanager
    async def live(
        tools: bool = True,
        plain: str = "",
        objects: str = "",
        looks_up: bool = False,
        **config: Any,
    ) -> AsyncIterator[AgentService]:
        harness = Harness("agent", data_folder=tmp_path)
        harness.add_fakes({"chat": world.chat})
        runtime, always = harness.runtime, lambda: True
        for name, handler, wanted in (
            ("ROLL", world.roll, Dice),
            ("TIP", world.tip, None),
            ("FAIL", lambda *_: world.fail(), None),
        ):
            made = Action(name, name, validate=always, handler=handler, parameters=wanted)
            runtime.register_action(made)
        if looks_up:
            runtime.register_action(
                Action(
                    "LOOK",
                    validate=always,
                    handler=world.look_up,
                    parameters=Dice,
                    for_model=True,
                )
            )
        without = as_model_handler(world.without)
        if tools:
            runtime.register_model(
                "TEXT_LARGE", without, "clever", 9, tools=as_model_handler(world.with_tools)
            )
        if plain:
            runtime.register_model("TEXT_LARGE", without, plain)
        if objects:
            runtime.register_model("OBJECT_LARGE", without, objects)
        agent = await harness.start(AgentService, {"decide": "model", **config})
        try:
            yield agent
            await agent.stop()
        finally:
            await harness.close()

    return live


def message(id: str = "m1") -> Memory:
    """Return a message."""
    content = Content("Roll the dice", source="chat")
    return Memory(content=content, id=id, room_id="r", entity_id="ada", created_at=1.0)


def told(world: World) -> list[str]:
    """Return the results that the model was told last."""
    return [one["content"] for one in world.asked[-1].messages if one["role"] == "tool"]


async def recorded(agent: AgentService) -> Any:
    """Return the message's record."""
    (found,) = await agent._answers.execute(lambda at: schema.find_by_id(at, "m1", 9))
    return found


async def test_results_go_back_to_the_model(living: Living, world: World) -> None:
    """Several calls in a round, several rounds; then it answers in text."""
    world.turns = [calls(ROLL, call("TIP")), calls(call("FAIL")), "You have 5."]
    async with living() as agent:
        answer = await agent.process_actions(message())
        record = await recorded(agent)

    assert world.done == ["roll 6", "tip", "fail"]
    assert world.chat.said == ["Here is a coin.", "You have 5."]
    assert [one.success for one in answer.results] == [True, True, False]
    first, second, third = world.asked
    assert [one.name for one in first.tools] == ["ROLL", "TIP", "FAIL", "IGNORE", "NONE"]
    assert first.tools[0].parameters["properties"] == {"sides": {"type": "integer"}}
    assert len(first.messages) == 1
    assert [one["role"] for one in third.messages] == [
        *("user", "assistant", "tool", "tool"),
        *("assistant", "tool"),
    ]
    assert third.messages[:4] == second.messages
    results = told(world)
    assert results[0] == '{"rolled":5,"text":"5","success":true}'
    assert results[1] == '{"success":true,"sent":["Here is a coin."]}'
    assert "it is broken" in results[2]
    assert (record.state, record.why.how) == (MessageState.DONE, "model")
    assert len(record.why.models) == len(record.why.rounds) == 3


@pytest.mark.parametrize("silent", ["IGNORE", "NONE"])
async def test_the_model_may_say_nothing(living: Living, world: World, silent: str) -> None:
    """At once, or after what it did."""
    world.turns = [calls(call(silent)), calls(ROLL), calls(call(silent))]
    async with living() as agent:
        assert (await agent.process_actions(message())).responses == []
        await agent.process_actions(message("m2"))

    assert (world.chat.said, world.done) == ([], ["roll 6"])


async def test_what_is_wrong_with_a_call_is_told(living: Living, world: World) -> None:
    """The model may correct it; an action that is not there does not run."""
    broken = ToolCall("x", "ROLL", {}, "its arguments are no JSON: '{'")
    world.turns = [calls(broken, call("FLY"), call("ROLL", sides="many")), calls(ROLL), "5."]
    async with living() as agent:
        await agent.process_actions(message())

    assert world.done == ["roll 6"]
    assert world.chat.said == ["5."]
    json, unknown, unfit, fine = told(world)
    assert "its arguments are no JSON" in json
    assert "there is no action 'FLY'" in unknown
    assert "Expected `int`, got `str`" in unfit
    assert '"success":true' in fine


async def test_the_loop_is_bounded(living: Living, world: World) -> None:
    """After `tool_rounds` the model must answer in text."""
    world.turns = [calls(ROLL)] * 9
    async with living(tool_rounds=2) as agent:
        await agent.process_actions(message())

    assert world.done == ["roll 6"] * 2
    assert [one.tool_choice for one in world.asked] == ["auto", "auto", "none"]
    assert world.chat.said == []  # it still wrote no text, and an action succeeded


async def test_another_life_goes_on_from_the_record(living: Living, world: World) -> None:
    """What was decided is not decided again, what ended is not run again."""
    world.turns = [calls(ROLL, call("TIP"))]
    async with living() as agent:
        agent._pipeline._chooser.next_steps = stop  # type: ignore[method-assign]
        with pytest.raises(RetryLater):
            await agent.process_actions(message())
    before = world.asked[0].messages
    world.turns = ["You have 5."]
    async with living() as agent:
        await agent.process_actions(message())

    assert world.done == ["roll 6", "tip"]
    assert world.chat.said == ["Here is a coin.", "You have 5."]
    assert len(world.asked) == 2
    assert world.asked[1].messages[: len(before)] == before
    assert told(world)[0] == '{"rolled":5,"text":"5","success":true}'


async def stop(answer: Any) -> Any:
    """End the attempt, as a kill would: the record keeps what was written."""
    raise RetryLater(1.0, "killed")


UNAVAILABLE = ModelError("refused", text="not me")


async def test_where_tools_end_another_provider_replies(living: Living, world: World) -> None:
    """To what was done, as text; nothing is added to what was sent already."""
    world.turns = [calls(ROLL), UNAVAILABLE]
    world.plain = ["Five."]
    async with living(plain="simple") as agent:
        await agent.process_actions(message())
    assert world.chat.said == ["Five."]
    assert world.asked[-1].messages[-1]["content"].startswith('[result: {"rolled":5')
    assert world.asked[-1].tools == []

    world.turns = [calls(call("TIP")), UNAVAILABLE]
    async with living(plain="simple") as agent:
        answer = await agent.process_actions(message("m2"))
    assert world.chat.said == ["Five.", "Here is a coin."]
    assert "not me" in answer.results[-1].error


async def test_without_tools_it_chooses_by_schema(living: Living, world: World) -> None:
    """Also where the provider with tools fails at once; parameters are filled in likewise."""
    choice = {"actions": ["ROLL", "TIP"]}
    world.plain = [choice, {"sides": 8}]
    async with living(tools=False, plain="simple", objects="simple") as agent:
        await agent.process_actions(message())
    assert world.done == ["roll 8", "tip"]
    assert world.asked[0].schema["properties"]["actions"]["items"]["enum"][0] == "ROLL"  # type: ignore[attr-defined]

    world.turns, world.plain = [UNAVAILABLE], [choice, ModelError("refused")]
    world.done.clear()
    async with living(plain="simple", objects="simple") as agent:
        answer = await agent.process_actions(message("m2"))
    assert world.done == ["tip"]
    assert "its parameters were not filled in" in answer.results[0].error


async def test_without_objects_it_chooses_by_text(living: Living, world: World) -> None:
    """As ever."""
    world.plain = ['{"actions": ["TIP"]}']
    async with living(tools=False, plain="simple") as agent:
        await agent.process_actions(message())
    assert world.done == ["tip"]


@pytest.mark.parametrize("objects", ["", "simple"])
async def test_what_is_found_for_a_model_is_in_its_reply(
    living: Living, world: World, objects: str
) -> None:
    """Without tools too: the result alone is no answer, so the model replies after it."""
    choice = {"actions": ["LOOK"]}
    first = [choice, {"sides": 6}] if objects else [msgspec.json.encode(choice).decode()]
    world.plain = [*first, "It is five."]
    async with living(tools=False, plain="simple", objects=objects, looks_up=True) as agent:
        await agent.process_actions(message())
    assert world.done == ["look up 6" if objects else "look up"]
    assert world.chat.said == ["It is five."]
    assert "It is 5 o'clock." in world.asked[-1].messages[-1]["content"]


async def test_what_is_for_a_model_is_not_run_unchosen(living: Living, world: World) -> None:
    """With `decide = "validate"`: it would find something out, and nothing would be said."""
    async with living(plain="simple", looks_up=True, decide="validate") as agent:
        answer = await agent.process_actions(message())
    assert world.done == ["roll", "tip", "fail"]
    assert [one.action for one in answer.results] == ["ROLL", "TIP", "FAIL"]
