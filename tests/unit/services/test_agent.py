"""The agent service in one process, with fakes: responses, their order, each sent once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from tests.support.waiting import eventually

from garrison.ipc import RemoteError
from garrison.ipc.messages import CallLimits
from garrison.workers import (
    Action,
    ActionResult,
    Content,
    Evaluator,
    EventType,
    GenerateTextParams,
    Memory,
    ModelType,
    ModelUnavailable,
    Plugin,
    Processed,
    Provider,
    ProviderResult,
    State,
    Task,
)
from garrison.workers.services.agent import AgentService, Greeting
from garrison.workers.services.agent.config import Config as AgentConfig
from garrison.workers.testing import TestRuntime, run

SORRY = AgentConfig().failure_text


class Platform:
    """A platform that records what it sends."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.fails = False
        self.delay = 0.0  # seconds
        self.gate: asyncio.Event | None = None

    async def send_message(self, channel_id: str, text: str) -> str:
        await asyncio.sleep(self.delay)
        if self.fails:
            raise ValueError("no such channel")
        self.sent.append((channel_id, text))
        if self.gate is not None:
            await self.gate.wait()
        return "1"


class Model:
    """A model that repeats the last message, and records its params."""

    def __init__(self) -> None:
        self.calls: list[GenerateTextParams] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.answers: list[str] = []
        self.error: Exception | None = None

    async def __call__(self, params: GenerateTextParams) -> str:
        self.calls.append(params)
        if self.error is not None:
            raise self.error
        text = params.as_messages()[-1]["content"]
        if "hang" in text:
            await self.gate.wait()
        return self.answers.pop(0) if self.answers else f"You said: {text}"


def message(text: str = "Hi", id: str = "m1", room: str = "r", **more: Any) -> Memory:
    """Return a message from a platform."""
    content = Content(text, source=more.pop("source", "platform"))
    return Memory(content=content, id=id, room_id=room, entity_id="ada", **more)


def texts(processed: Processed) -> list[str]:
    """Return the texts of the responses."""
    return [response.content.text for response in processed.responses]


@pytest.fixture
def platform() -> Platform:
    """Return the platform."""
    return Platform()


@pytest.fixture
def model() -> Model:
    """Return the model."""
    return Model()


Running = Callable[..., AbstractAsyncContextManager[AgentService]]


@pytest.fixture
def running(platform: Platform, model: Model) -> Running:
    """Return a context manager that runs an agent: `running(plugin, **config)`."""

    def start(plugin: Plugin | None = None, **config: Any) -> Any:
        models = {ModelType.TEXT_LARGE: model}
        fakes = {"platform": platform, **config.pop("fakes", {})}
        return run(AgentService, fakes=fakes, config=config, models=models, plugin=plugin)

    return start


async def happens(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition is true."""

    async def met() -> bool:
        return condition()

    await eventually(met, what=what)


def emitted(agent: AgentService, event: str) -> list[Any]:
    """Return the payloads of an event."""
    runtime = agent.runtime
    assert isinstance(runtime, TestRuntime)
    return [payload for name, payload in runtime.emitted if name == event]


def result_of(processed: Processed, action: str) -> ActionResult:
    """Return the result of an action."""
    return next(result for result in processed.results if result.action == action)


# --- REPLY --------------------------------------------------------------------------------


async def test_a_message_is_answered_in_its_room(
    running: Running, platform: Platform, model: Model
) -> None:
    """By a model with the character and the earlier messages in its prompt."""
    async with running() as agent:
        first = await agent.process_actions(message("Hi"))
        await agent.process_actions(message("And?", "m2"))
        me = agent.runtime.agent_id

    assert platform.sent == [("r", "You said: Hi"), ("r", "You said: And?")]
    (response,) = first.responses
    assert (response.content.in_reply_to, response.entity_id, response.room_id) == ("m1", me, "r")
    assert [one["content"] for one in model.calls[1].messages] == ["Hi", "You said: Hi", "And?"]
    assert agent.runtime.character.name in (model.calls[0].system or "")


@pytest.mark.parametrize(
    ("source", "room"), [("", "r"), ("platform", ""), ("unknown", "r"), ("mute", "r")]
)
async def test_without_a_platform_the_answer_is_only_returned(
    running: Running, platform: Platform, source: str, room: str
) -> None:
    """No source, no room, an unknown source, a service without `send_message`."""

    class Mute:
        async def listen(self) -> None: ...

    async with running(fakes={"mute": Mute()}) as agent:
        processed = await agent.process_actions(message(source=source, room=room))

    assert texts(processed) == ["You said: Hi"]
    assert processed.results == []
    assert platform.sent == []


async def test_a_response_that_was_not_sent_is_a_failure(
    running: Running, platform: Platform
) -> None:
    """It does not become part of the conversation."""
    platform.fails = True
    async with running() as agent:
        processed = await agent.process_actions(message())
        kept = await agent.get_memories(room_id="r")

    assert not result_of(processed, "REPLY").success
    assert "no such channel" in processed.results[0].error
    assert [one.content.text for one in kept] == ["Hi"]


async def test_messages_without_a_room_share_no_conversation(
    running: Running, model: Model
) -> None:
    """Nor do rooms of two platforms that have the same id."""
    async with running() as agent:
        await agent.process_actions(message("secret", "1", ""))
        await agent.process_actions(message("Hi", "2", ""))
        await agent.process_actions(message("secret", "3", "r", source="other"))
        await agent.process_actions(message("Hi", "4", "r"))

    assert [len(params.messages) for params in model.calls] == [1, 1, 1, 1]


async def test_without_a_model_the_caller_gets_an_error() -> None:
    """The message does not count as answered."""
    async with run(AgentService) as agent:
        for _ in range(2):
            with pytest.raises(Exception, match="no model TEXT_LARGE"):
                await agent.process_actions(message())
        assert (await agent.health())["answered"] == 0


async def test_an_empty_message_does_not_reach_a_model(running: Running, model: Model) -> None:
    """The result says that there is nothing to answer."""
    async with running() as agent:
        await agent.process_actions(message("Hi", "m0"))
        model.calls.clear()
        processed = await agent.process_actions(message(""))

    assert processed.responses == []
    assert "empty" in processed.results[0].error
    assert model.calls == []


@pytest.mark.parametrize("answer", [None, 7, {"a": "text"}])
async def test_a_models_result_that_is_no_text_is_not_sent(platform: Platform, answer: Any) -> None:
    """The answer fails; users see no `None`."""
    models = {ModelType.TEXT_LARGE: lambda params: answer}
    async with run(AgentService, fakes={"platform": platform}, models=models) as agent:
        processed = await agent.process_actions(message())

    assert "must return a text" in result_of(processed, "REPLY").error
    assert platform.sent == [("r", SORRY)]


async def test_an_empty_text_is_not_sent(platform: Platform) -> None:
    """The result says so."""
    models = {ModelType.TEXT_LARGE: lambda params: ""}
    async with run(AgentService, fakes={"platform": platform}, models=models) as agent:
        processed = await agent.process_actions(message())

    assert processed.responses == []
    assert platform.sent == []
    assert "returned an empty text" in processed.results[0].error


async def test_the_agent_does_not_answer_itself(running: Running, model: Model) -> None:
    """Otherwise two of its services could keep it in an endless conversation."""
    async with running() as agent:
        own = message()
        own.entity_id = agent.runtime.agent_id
        assert await agent.process_actions(own) == Processed()
    assert model.calls == []


async def test_a_message_can_carry_the_messages_before_it(running: Running, model: Model) -> None:
    """A restarted agent restores those of the same room; invalid ones are ignored."""
    async with running() as agent:
        for number, carried in enumerate(
            [[message("before", "m0"), message("elsewhere", "e0", "other")], "rubbish", [{"id": 1}]]
        ):
            await agent.process_actions(message("Hi", str(number), metadata={"earlier": carried}))
        assert await agent.get_memories(room_id="other") == []

    assert [one["content"] for one in model.calls[0].messages] == ["before", "Hi"]
    assert len(model.calls) == 3


# --- once, and in order -------------------------------------------------------------------


async def test_the_same_message_is_answered_once(
    running: Running, platform: Platform, model: Model
) -> None:
    """In progress or done; all callers get the same answer."""
    async with running() as agent:
        model.gate.clear()
        both = [asyncio.create_task(agent.process_actions(message("hang"))) for _ in range(2)]
        await happens(lambda: bool(model.calls), what="the model was called")
        model.gate.set()
        one, two = await asyncio.gather(*both)
        three = await agent.process_actions(message("hang"))

    assert one == two == three
    assert len(platform.sent) == len(model.calls) == 1


async def test_two_platforms_may_use_the_same_message_ids(
    running: Running, platform: Platform
) -> None:
    """So may two rooms."""
    async with running() as agent:
        await agent.process_actions(message("a", "1", "r1"))
        await agent.process_actions(message("b", "1", "r2"))

    assert [channel for channel, _ in platform.sent] == ["r1", "r2"]


SAY_ONE = Action(
    "SAY_ONE", validate=lambda: True, handler=lambda: ["one", ActionResult(success=False)]
)


async def test_a_message_without_an_answer_is_told_so_once(
    running: Running, platform: Platform, model: Model
) -> None:
    """That is its answer, also when it is repeated; an event says why."""
    async with running(Plugin("p", actions=[SAY_ONE])) as agent:
        model.error = ValueError("busy")
        first = await agent.process_actions(message())
        model.error = None
        assert await agent.process_actions(message()) == first
        (failed,) = emitted(agent, "answer.failed")

    assert texts(first) == ["one", SORRY]
    assert "busy" in result_of(first, "REPLY").error
    assert (failed["message"], "busy" in failed["error"]) == ("m1", True)
    assert platform.sent == [("r", "one"), ("r", SORRY)]


@pytest.mark.parametrize(
    ("metadata", "said"),
    [({"failure_text": "Later."}, [("r", "Later.")]), ({"failure_text": ""}, [])],
)
async def test_a_platform_has_its_own_failure_text(
    running: Running, platform: Platform, model: Model, metadata: Any, said: Any
) -> None:
    """With an empty one the caller alone gets the error, and may repeat the message."""
    model.error = ValueError("busy")
    async with running() as agent:
        call = agent.process_actions(message(metadata=metadata))
        if said:
            assert texts(await call) == ["Later."]
        else:
            with pytest.raises(ModelUnavailable, match="busy"):
                await call
            model.error = None
            again = await agent.process_actions(message(metadata=metadata))
            assert texts(again) == ["You said: Hi"]
            said = [("r", "You said: Hi")]

    assert platform.sent == said


async def test_a_message_that_failed_in_silence_can_be_repeated(
    running: Running, platform: Platform, model: Model
) -> None:
    """A response that was sent before the failure is not sent again."""
    async with running(Plugin("p", actions=[SAY_ONE]), failure_text="") as agent:
        model.error = ValueError("busy")
        with pytest.raises(Exception, match="busy"):
            await agent.process_actions(message())
        model.error = None
        processed = await agent.process_actions(message())

    assert texts(processed) == ["one", "You said: Hi"]
    assert platform.sent == [("r", "one"), ("r", "You said: Hi")]


async def test_a_room_is_answered_in_order_and_rooms_concurrently(
    running: Running, platform: Platform, model: Model
) -> None:
    """A message that hangs delays its own room only."""
    async with running() as agent:
        model.gate.clear()
        held = [
            asyncio.create_task(agent.process_actions(message(text, text)))
            for text in ("hang 1", "2", "3")
        ]
        await agent.process_actions(message("elsewhere", "e", "other"))
        assert platform.sent == [("other", "You said: elsewhere")]
        model.gate.set()
        await asyncio.gather(*held)
        health = await agent.health()

    assert [text for _, text in platform.sent[1:]] == [
        f"You said: {t}" for t in ("hang 1", "2", "3")
    ]
    assert (health["rooms"], health["waiting"], health["answered"]) == (0, 0, 4)


async def test_beyond_a_limit_a_message_is_rejected_at_once(running: Running, model: Model) -> None:
    """Messages accepted before are answered."""
    async with running(waiting_per_room=1) as agent:
        model.gate.clear()
        held = [
            asyncio.create_task(agent.process_actions(message(text, text)))
            for text in ("hang", "2")
        ]
        await happens(lambda: bool(model.calls), what="the model was called")
        with pytest.raises(Exception, match="1 messages wait in room 'r'"):
            await agent.process_actions(message("3", "3"))
        model.gate.set()
        assert [len(one.responses) for one in await asyncio.gather(*held)] == [1, 1]
        assert texts(await agent.process_actions(message("3", "3"))) == ["You said: 3"]


async def test_the_caller_may_stop_waiting(
    running: Running, platform: Platform, model: Model
) -> None:
    """The answer is still sent, once."""
    async with running() as agent:
        model.gate.clear()
        call = asyncio.create_task(agent.process_actions(message("hang")))
        await happens(lambda: bool(model.calls), what="the model was called")
        call.cancel()
        model.gate.set()
        await happens(lambda: bool(platform.sent), what="it was sent")
        await agent.process_actions(message("hang"))

    assert len(platform.sent) == 1


async def test_a_stop_ends_the_answer_in_progress_and_begins_no_other(
    running: Running, platform: Platform, model: Model
) -> None:
    """The calls of those that wait are lost, and sent again to the next incarnation."""
    async with running() as agent:
        model.gate.clear()
        first = asyncio.create_task(agent.process_actions(message("hang", "1")))
        second = asyncio.create_task(agent.process_actions(message("2", "2")))
        await happens(lambda: bool(model.calls), "the model was called")
        stopping = asyncio.create_task(agent.stop())
        await asyncio.sleep(0)
        model.gate.set()
        assert texts(await first) == ["You said: hang"]
        await asyncio.wait([second], timeout=5)
        assert second.cancelled()
        await stopping

    assert platform.sent == [("r", "You said: hang")]


async def test_each_message_has_a_deadline(running: Running, model: Model) -> None:
    """After it that is said, and the room continues."""
    async with running(answer_timeout=0.1) as agent:
        model.gate.clear()
        late = await agent.process_actions(message("hang"))
        assert texts(late) == [SORRY]
        assert "m1 was not answered within 0.1 s" in result_of(late, "REPLY").error
        with pytest.raises(Exception, match=r"m1 was not answered within 0.1 s"):
            await agent.process_actions(message("hang", source="nobody"))
        assert texts(await agent.process_actions(message("Hi", "m2"))) == ["You said: Hi"]


async def test_messages_without_a_room_do_not_wait_for_each_other(
    running: Running, model: Model
) -> None:
    """They have no order to keep."""
    async with running() as agent:
        model.gate.clear()
        held = asyncio.create_task(agent.process_actions(message("hang", "1", "")))
        await happens(lambda: bool(model.calls), "the model was called")
        await agent.process_actions(message("Hi", "2", ""))
        model.gate.set()
        await held


async def test_a_response_that_hangs_in_its_platform_is_not_sent_again(
    running: Running, platform: Platform, model: Model
) -> None:
    """It may have arrived."""
    platform.gate = asyncio.Event()
    async with running(answer_timeout=0.3) as agent:
        processed = await agent.process_actions(message())
        platform.gate.set()
        assert await agent.process_actions(message()) == processed

    assert texts(processed) == ["You said: Hi"]
    assert "it may have been sent" in result_of(processed, "REPLY").error
    assert platform.sent == [("r", "You said: Hi")]
    assert len(model.calls) == 1


# --- with responses -----------------------------------------------------------------------


def acting(calls: list[Any]) -> Plugin:
    """Return a plugin whose actions record their arguments."""

    async def tip(runtime: Any, memory: Memory, state: State, responses: list[Memory]) -> Any:
        calls.append(("tip", dict(state.values), len(responses)))
        return ActionResult(text="tipped", values={"tipped": 5})

    async def say(runtime: Any, memory: Memory, state: State) -> AsyncIterator[Any]:
        calls.append(("say", dict(state.values)))
        yield "one"
        yield Content("two")

    def fail() -> None:
        raise ValueError("no money")

    return Plugin(
        "p",
        actions=[
            Action("SEND_TIP", handler=tip, validate=lambda: False, similes=["PAY"]),
            Action("SAY_TWO", handler=say, validate=lambda: False),
            Action("FAIL", handler=fail, validate=lambda: False),
        ],
    )


async def test_responses_name_the_actions_to_run(running: Running, platform: Platform) -> None:
    """In order; values are passed on; unknown names and failures do not stop the others."""
    calls: list[Any] = []
    wanted = Content(actions=["fail", "Pay", "SEND_TAP", "say two"])
    async with running(acting(calls)) as agent:
        processed = await agent.process_actions(message(), [Memory(content=wanted)])

    assert calls == [("tip", {}, 1), ("say", {"tipped": 5})]
    assert [(one.action, one.success) for one in processed.results] == [
        ("FAIL", False),
        ("SEND_TIP", True),
        ("SEND_TAP", False),
        ("SAY_TWO", True),
    ]
    assert "no money" in processed.results[0].error
    assert "did you mean SEND_TIP?" in processed.results[2].error
    assert platform.sent == [("r", "one"), ("r", "two")]


async def test_a_response_is_sent_unchanged(
    running: Running, platform: Platform, model: Model
) -> None:
    """Without actions, or with REPLY and a text; IGNORE sends nothing."""
    given = [Content("a"), Content("b", actions=["REPLY"]), Content("c", actions=["IGNORE"])]
    async with running() as agent:
        responses = [Memory(content=one) for one in given]
        processed = await agent.process_actions(message(), responses)
        again = await agent.process_actions(message(), [Memory(content=one) for one in given])

    assert platform.sent == [("r", "a"), ("r", "b")]
    assert processed == again
    assert model.calls == []


async def test_a_message_can_get_responses_after_it_was_answered(
    running: Running, platform: Platform
) -> None:
    """They are a different request."""
    async with running() as agent:
        await agent.process_actions(message())
        await agent.process_actions(message(), [Memory(content=Content("later"))])

    assert platform.sent == [("r", "You said: Hi"), ("r", "later")]


async def test_a_reply_without_a_text_is_generated(running: Running, platform: Platform) -> None:
    """If the model fails, the other actions still run."""
    async with running() as agent:
        await agent.process_actions(message(), [Memory(content=Content(actions=["REPLY"]))])
    assert platform.sent == [("r", "You said: Hi")]
    async with run(AgentService, fakes={"platform": platform}, plugin=acting([])) as agent:
        wanted = [Memory(content=Content(actions=["REPLY", "SAY_TWO"]))]
        processed = await agent.process_actions(message(), wanted)
    assert "no model" in result_of(processed, "REPLY").error
    assert texts(processed) == ["one", "two"]


# --- without responses --------------------------------------------------------------------


async def test_valid_actions_run_instead_of_a_reply(
    running: Running, platform: Platform, model: Model
) -> None:
    """By priority; an action whose `validate` fails is not valid."""

    def broken() -> bool:
        raise ValueError("cannot validate")

    def wants_tip(runtime: Any, memory: Memory) -> bool:
        return "tip" in memory.content.text

    plugin = Plugin(
        "p",
        actions=[
            Action("LOW", handler=lambda: "low", validate=wants_tip),
            Action("HIGH", handler=lambda: "high", validate=wants_tip, priority=1),
            Action("BROKEN", handler=lambda: "broken", validate=broken, priority=2),
        ],
    )
    async with running(plugin) as agent:
        await agent.process_actions(message("a tip"))
        await agent.process_actions(message("Hi", "m2"))

    assert [text for _, text in platform.sent] == ["high", "low", "You said: Hi"]
    assert len(model.calls) == 1


@pytest.mark.parametrize("made", [False, ActionResult(success=False), ValueError("broken")])
async def test_if_all_actions_fail_there_is_a_reply(
    running: Running, platform: Platform, made: Any
) -> None:
    """In each way of failing."""

    def handler() -> Any:
        if isinstance(made, Exception):
            raise made
        return made

    async with running(
        Plugin("p", actions=[Action("A", handler=handler, validate=lambda: True)])
    ) as agent:
        processed = await agent.process_actions(message())

    assert not result_of(processed, "A").success
    assert platform.sent == [("r", "You said: Hi")]


async def test_an_action_that_hangs_fails_alone(running: Running, platform: Platform) -> None:
    """After its own timeout; the time to send a response does not count."""

    async def hang() -> AsyncIterator[str]:
        yield "wait"
        await asyncio.Event().wait()

    async with running(
        Plugin("p", actions=[Action("A", handler=hang, validate=lambda: True)]), action_timeout=0.1
    ) as a:
        processed = await a.process_actions(message())

    assert "A" in result_of(processed, "A").error
    assert "0.1 s" in result_of(processed, "A").error
    assert [text for _, text in platform.sent] == ["wait", "You said: Hi"]


async def test_a_slow_platform_does_not_fail_the_action(
    running: Running, platform: Platform
) -> None:
    """Sending a response may take longer than the action's timeout."""

    async def speak() -> AsyncIterator[str]:
        yield "slow"

    platform.delay = 0.5
    async with running(Plugin("p", actions=[Action("A", handler=speak)]), action_timeout=0.4) as a:
        processed = await a.process_actions(message(), [Memory(content=Content(actions=["A"]))])

    assert processed.results == [ActionResult(action="A")]
    assert platform.sent == [("r", "slow")]


async def test_an_action_with_endless_responses_is_stopped(running: Running) -> None:
    """The number of responses to one message is limited."""

    async def speak() -> AsyncIterator[str]:
        while True:
            yield "blah"

    async with running(Plugin("p", actions=[Action("A", handler=speak)])) as agent:
        processed = await agent.process_actions(message(), [Memory(content=Content(actions=["A"]))])

    assert len(processed.responses) == 100
    assert "100 responses" in result_of(processed, "A").error


@pytest.mark.parametrize("made", ["x" * 200_000, ActionResult(data={"x": "x" * 200_000})])
async def test_an_action_with_too_large_results_is_stopped(running: Running, made: Any) -> None:
    """Responses and results have to fit into one reply to the caller."""

    async def endless() -> AsyncIterator[Any]:
        while True:
            yield made
            await asyncio.sleep(0)

    plugin = Plugin("p", actions=[Action("ENDLESS", handler=endless)])
    async with running(plugin) as agent:
        agent.runtime.client.session.limits = CallLimits(max_message=1 << 20)
        processed = await agent.process_actions(
            message(), [Memory(content=Content(actions=["ENDLESS"]))]
        )

    assert "262,144 bytes of responses and results" in processed.results[0].error


async def test_a_provider_with_a_too_large_text_is_left_out(running: Running, model: Model) -> None:
    """The other providers' texts still reach the model."""
    plugin = Plugin(
        "p",
        providers=[
            Provider("HUGE", get=lambda: "x" * 300_000, position=1),
            Provider("SMALL", get=lambda: "a small thing", position=2),
        ],
    )
    async with running(plugin) as agent:
        agent.runtime.client.session.limits = CallLimits(max_message=1 << 20)
        await agent.process_actions(message())

    system = model.calls[0].system or ""
    assert "a small thing" in system
    assert "xxx" not in system


async def test_the_providers_texts_reach_the_model(running: Running, model: Model) -> None:
    """One that fails or times out is left out; a dynamic one is used if the message names it."""

    async def late() -> str:
        await asyncio.Event().wait()
        return "late"

    def fails() -> str:
        raise ValueError("broken")

    plugin = Plugin(
        "p",
        providers=[
            Provider("TIME", get=lambda: ProviderResult("It is noon.")),
            Provider("LATE", get=late),
            Provider("FAILS", get=fails),
            Provider("FACTS", get=lambda: "Ada counts.", dynamic=True),
        ],
    )
    async with running(plugin, provider_timeout=0.1) as agent:
        await agent.process_actions(message())
        naming = message("Hi", "m2")
        naming.content.providers = ["FACTS"]
        await agent.process_actions(naming)

    first, second = (str(params.system) for params in model.calls)
    assert first.endswith("It is noon.")
    assert "Ada counts." in second
    assert "late" not in second


async def test_a_model_may_decide(running: Running, platform: Platform, model: Model) -> None:
    """Among the valid actions; an answer that cannot be parsed means a reply."""
    plugin = Plugin(
        "p",
        actions=[
            Action("ROLL", "Rolls a die", handler=lambda: "four", validate=lambda: True),
            Action("NEVER", "Never", handler=lambda: "never", validate=lambda: False),
        ],
    )
    async with running(plugin, decide="model") as agent:
        for number, answer in enumerate(
            ['{"actions": ["ROLL"]}', '{"actions": ["IGNORE"]}', '["NEVER"]', "Well …"]
        ):
            model.answers = [answer]
            await agent.process_actions(message("Roll", str(number)))
            model.answers = []

    assert "ROLL: Rolls a die" in model.calls[0].prompt
    assert "NEVER" not in model.calls[0].prompt
    assert [text for _, text in platform.sent] == ["four", "You said: Roll", "You said: Roll"]


# --- afterwards ---------------------------------------------------------------------------


async def test_evaluators_run_before_the_rooms_next_message(running: Running, model: Model) -> None:
    """A failing or hanging one affects nothing else; the caller does not wait for them."""
    seen: list[Any] = []
    gate = asyncio.Event()

    async def learn(runtime: Any, memory: Memory, state: State, responses: list[Memory]) -> None:
        await gate.wait()
        seen.append((memory.content.text, [one.content.text for one in responses]))

    async def hang() -> None:
        await asyncio.Event().wait()

    def fails() -> None:
        raise ValueError("broken")

    plugin = Plugin(
        "p",
        evaluators=[
            Evaluator("LEARN", handler=learn),
            Evaluator("HANG", handler=hang),
            Evaluator("FAILS", handler=fails),
            Evaluator("NO", handler=learn, validate=lambda: False),
        ],
    )
    async with running(plugin, evaluator_timeout=0.3) as agent:
        await agent.process_actions(message("1", "1"))
        following = asyncio.create_task(agent.process_actions(message("2", "2")))
        await happens(lambda: bool(emitted(agent, "EVALUATOR_STARTED")), what="they have started")
        assert (seen, len(model.calls)) == ([], 1)
        gate.set()
        await following

    assert seen[0] == ("1", ["You said: 1"])


async def test_some_evaluators_run_without_an_answer(running: Running, model: Model) -> None:
    """Those with `always_run`."""
    seen: list[str] = []
    plugin = Plugin(
        "p",
        evaluators=[
            Evaluator("A", handler=lambda: seen.append("a")),
            Evaluator("B", handler=lambda: seen.append("b"), always_run=True),
        ],
    )
    async with running(plugin) as agent:
        model.error = ValueError("busy")
        await agent.process_actions(message())
        model.error = None
        await agent.process_actions(message(id="m2"))
        await happens(lambda: len(seen) == 3, "both have run")

    assert seen[0] == "b"
    assert sorted(seen[1:]) == ["a", "b"]


async def test_events_are_emitted(running: Running) -> None:
    """In order; a slow listener delays no answer."""

    async def slow(payload: Any) -> None:
        await asyncio.Event().wait()

    plugin = Plugin(
        "p",
        actions=[Action("A", handler=lambda: "done", validate=lambda: True)],
        evaluators=[Evaluator("E", handler=lambda: None)],
        events={EventType.RUN_STARTED: slow, EventType.MESSAGE_SENT: slow},
    )
    async with running(plugin) as agent:
        await agent.process_actions(message())
        await happens(lambda: bool(emitted(agent, "EVALUATOR_COMPLETED")), what="all is done")
        runtime = agent.runtime
        assert isinstance(runtime, TestRuntime)
        names = [name for name, _ in runtime.emitted]
        sent = emitted(agent, "MESSAGE_SENT")[0]
        completed = emitted(agent, "ACTION_COMPLETED")[0]

    assert names == [
        "RUN_STARTED",
        "ACTION_STARTED",
        "MESSAGE_SENT",
        "ACTION_COMPLETED",
        "RUN_ENDED",
        "EVALUATOR_STARTED",
        "EVALUATOR_COMPLETED",
    ]
    assert sent.content.text == "done"
    assert completed == {"action": "A", "message": "m1", "room": "r", "success": True, "error": ""}


async def test_events_beyond_the_limit_are_dropped(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """Answers are not affected."""
    taken: list[Any] = []

    async def slow(payload: Any) -> None:
        taken.append(payload)
        await asyncio.Event().wait()

    emitted_events = (EventType.RUN_STARTED, EventType.MESSAGE_SENT, EventType.RUN_ENDED)
    plugin = Plugin("p", events=dict.fromkeys(emitted_events, slow))
    async with running(plugin, events=2) as agent:
        for number in range(4):
            await agent.process_actions(message("Hi", str(number)))

    assert len(taken) == 2
    assert caplog.text.count("event.dropped") == 1


@pytest.mark.parametrize("shape", ["memory", "wrapped", "mapping"])
async def test_a_message_may_come_as_an_event(
    running: Running, platform: Platform, shape: str
) -> None:
    """As a memory, or as a memory and its source."""
    payload: Any = {
        "memory": message(),
        "wrapped": {"message": message(source=""), "source": "platform"},
        "mapping": {"id": "m1", "content": {"text": "Hi", "source": "platform"}, "room_id": "r"},
    }[shape]
    async with running() as agent:
        await agent.runtime.emit_event(EventType.MESSAGE_RECEIVED, payload)

    assert platform.sent == [("r", "You said: Hi")]


# --- what it keeps ------------------------------------------------------------------------


async def test_other_services_store_memories_and_tasks_in_it(running: Running) -> None:
    """Through the methods of a database."""
    async with running() as agent:
        adapter = agent.runtime.database_adapter
        memory = Memory(content=Content("fact"), room_id="r", embedding=[1.0, 0.0])
        memory_id = await adapter.create_memory(memory, "facts", unique=True)
        assert memory_id
        (found,) = await adapter.search_memories([1.0, 0.0], table_name="facts")
        assert (found.content.text, found.similarity, found.unique) == ("fact", 1.0, True)
        assert await adapter.count_memories("r", table_name="facts") == 1
        assert [m.id for m in await adapter.get_memories_by_ids([memory_id, "x"])] == [memory_id]
        assert await adapter.get_memories_by_ids([memory_id], "messages") == []
        assert len(await adapter.get_memories_by_room_ids(["r", "r"], table_name="facts")) == 1
        found.content.text = "changed"
        assert await adapter.update_memory(found)
        await adapter.delete_many_memories([memory_id])
        assert await adapter.get_memory_by_id(memory_id) is None
        task_id = await adapter.create_task(Task(name="t", tags=["queue"]))
        await adapter.update_task(task_id, {"status": "done"})
        assert [task.status for task in await adapter.get_tasks({"tags": ["queue"]})] == ["done"]
        assert len(await adapter.get_tasks_by_name("t")) == 1
        await adapter.delete_task(task_id)
        assert await adapter.get_task(task_id) is None
        assert await adapter.set_cache("k", {"a": [1]})
        assert await adapter.get_cache("k") == {"a": [1]}
        assert await adapter.delete_cache("k")
        assert await adapter.get_cache("k") is None
        with pytest.raises(RemoteError, match="there is no task 'x'"):
            await adapter.update_task("x", {})


async def test_a_database_replaces_it(running: Running, model: Model) -> None:
    """Messages are stored there and read from there; if it fails, the agent still answers, and
    keeps what it was told in its file."""

    class Database:
        def __init__(self) -> None:
            self.kept: list[Memory] = []
            self.fails = False

        async def create_memory(
            self, memory: Memory, table_name: str = "messages", unique: bool = False
        ) -> str:
            if self.fails:
                raise OSError("disk full")
            self.kept.append(memory)
            return memory.id

        async def get_memory_by_id(self, memory_id: str) -> Memory | None:
            return None

        async def get_memories(self, *, room_id: str, count: int) -> list[Memory]:
            if self.fails:
                raise OSError("disk full")
            return self.kept[::-1][:count]

    database = Database()
    async with running(fakes={"database": database}) as agent:
        await agent.process_actions(message("Hi"))
        await agent.process_actions(message("And?", "m2"))
        database.fails = True
        processed = await agent.process_actions(message("Still?", "m3"))
        health = await agent.health()

    assert [one.content.text for one in database.kept] == [
        "Hi",
        "You said: Hi",
        "And?",
        "You said: And?",
    ]
    assert [len(params.messages) for params in model.calls] == [1, 3, 1]
    assert texts(processed) == ["You said: Still?"]
    assert health["memories"] == 2


async def test_it_greets(running: Running) -> None:
    """By the character's name."""
    async with running() as agent:
        name = agent.runtime.character.name
        assert await agent.greeting() == Greeting(name, f"Hello, I am {name}.")
