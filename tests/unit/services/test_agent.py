"""The agent service in one process, with fakes: what is said, to whom, once, in order."""

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
    Plugin,
    Processed,
    Provider,
    ProviderResult,
    State,
    Task,
)
from garrison.workers.services.agent import AgentService, Greeting
from garrison.workers.testing import TestRuntime, run


class Platform:
    """A platform that hears nothing by itself."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.fails = False
        self.takes = 0.0  # seconds
        self.ends: asyncio.Event | None = None

    async def send_message(self, channel_id: str, text: str) -> str:
        await asyncio.sleep(self.takes)
        if self.fails:
            raise ValueError("no such channel")
        self.sent.append((channel_id, text))
        if self.ends is not None:
            await self.ends.wait()
        return "1"


class Model:
    """A model that says what it was asked last, and remembers what it was asked."""

    def __init__(self) -> None:
        self.requests: list[GenerateTextParams] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.answers: list[str] = []
        self.error: Exception | None = None

    async def __call__(self, params: GenerateTextParams) -> str:
        self.requests.append(params)
        if self.error is not None:
            raise self.error
        text = params.as_messages()[-1]["content"]
        if "hang" in text:
            await self.gate.wait()
        return self.answers.pop(0) if self.answers else f"You said: {text}"


def heard(text: str = "Hi", id: str = "m1", room: str = "r", **more: Any) -> Memory:
    """Return a message that a platform has heard."""
    content = Content(text, source=more.pop("source", "platform"))
    return Memory(content=content, id=id, room_id=room, entity_id="ada", **more)


def texts(processed: Processed) -> list[str]:
    """Return what was said."""
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
    """Return what runs an agent: `running(plugin, **config)`."""

    def begin(plugin: Plugin | None = None, **config: Any) -> Any:
        models = {ModelType.TEXT_LARGE: model}
        fakes = {"platform": platform, **config.pop("fakes", {})}
        return run(AgentService, fakes=fakes, config=config, models=models, plugin=plugin)

    return begin


async def happens(condition: Callable[[], bool], what: str) -> None:
    """Return once something has happened."""

    async def met() -> bool:
        return condition()

    await eventually(met, what=what)


def emitted(agent: AgentService, event: str) -> list[Any]:
    """Return the payloads of an event."""
    runtime = agent.runtime
    assert isinstance(runtime, TestRuntime)
    return [payload for name, payload in runtime.emitted if name == event]


def result_of(processed: Processed, action: str) -> ActionResult:
    """Return what one action came to."""
    return next(result for result in processed.results if result.action == action)


# --- REPLY --------------------------------------------------------------------------------


async def test_a_message_is_answered_where_it_was_heard(
    running: Running, platform: Platform, model: Model
) -> None:
    """By a model in the character's voice, which is told what was said before."""
    async with running() as agent:
        first = await agent.process_actions(heard("Hi"))
        await agent.process_actions(heard("And?", "m2"))
        me = agent.runtime.agent_id

    assert platform.sent == [("r", "You said: Hi"), ("r", "You said: And?")]
    (response,) = first.responses
    assert (response.content.in_reply_to, response.entity_id, response.room_id) == ("m1", me, "r")
    assert [one["content"] for one in model.requests[1].messages] == ["Hi", "You said: Hi", "And?"]
    assert agent.runtime.character.name in (model.requests[0].system or "")


@pytest.mark.parametrize(
    ("source", "room"), [("", "r"), ("platform", ""), ("nobody", "r"), ("mute", "r")]
)
async def test_where_nobody_can_say_it_the_answer_is_returned(
    running: Running, platform: Platform, source: str, room: str
) -> None:
    """No source, no room, a program, a service without `send_message`."""

    class Mute:
        async def listen(self) -> None: ...

    async with running(fakes={"mute": Mute()}) as agent:
        processed = await agent.process_actions(heard(source=source, room=room))

    assert texts(processed) == ["You said: Hi"]
    assert processed.results == []
    assert platform.sent == []


async def test_what_could_not_be_said_is_told(running: Running, platform: Platform) -> None:
    """It is no part of the conversation; asked again, it is not tried again."""
    platform.fails = True
    async with running() as agent:
        processed = await agent.process_actions(heard())
        kept = await agent.get_memories(room_id="r")

    assert not result_of(processed, "REPLY").success
    assert "no such channel" in processed.results[0].error
    assert [one.content.text for one in kept] == ["Hi"]


async def test_rooms_without_a_name_share_no_conversation(running: Running, model: Model) -> None:
    """What two people said elsewhere is not told to a third; nor what another platform heard."""
    async with running() as agent:
        await agent.process_actions(heard("secret", "1", ""))
        await agent.process_actions(heard("Hi", "2", ""))
        await agent.process_actions(heard("secret", "3", "r", source="other"))
        await agent.process_actions(heard("Hi", "4", "r"))

    assert [len(request.messages) for request in model.requests] == [1, 1, 1, 1]


async def test_without_a_model_the_caller_is_told_which_plugin_to_add() -> None:
    """As an exception; the message may be answered later."""
    async with run(AgentService) as agent:
        for _ in range(2):
            with pytest.raises(Exception, match="no model TEXT_LARGE"):
                await agent.process_actions(heard())
        assert (await agent.health())["answered"] == 0


async def test_an_empty_message_is_not_put_to_a_model(running: Running, model: Model) -> None:
    """There is nothing to answer, and the result says so."""
    async with running() as agent:
        await agent.process_actions(heard("Hi", "m0"))
        model.requests.clear()
        processed = await agent.process_actions(heard(""))

    assert processed.responses == []
    assert "empty" in processed.results[0].error
    assert model.requests == []


@pytest.mark.parametrize("answer", [None, 7, {"a": "text"}])
async def test_what_is_no_text_is_said_to_nobody(platform: Platform, answer: Any) -> None:
    """A model that answers with something else has failed; people see no `None`."""
    models = {ModelType.TEXT_LARGE: lambda params: answer}
    async with run(AgentService, fakes={"platform": platform}, models=models) as agent:
        with pytest.raises(RemoteError, match="must return a text"):
            await agent.process_actions(heard())

    assert platform.sent == []


async def test_an_empty_text_is_said_to_nobody(platform: Platform) -> None:
    """The result says that there was none."""
    models = {ModelType.TEXT_LARGE: lambda params: ""}
    async with run(AgentService, fakes={"platform": platform}, models=models) as agent:
        processed = await agent.process_actions(heard())

    assert processed.responses == []
    assert platform.sent == []
    assert "returned an empty text" in processed.results[0].error


async def test_the_agent_does_not_answer_itself(running: Running, model: Model) -> None:
    """Else two of its services could keep it talking for ever."""
    async with running() as agent:
        own = heard()
        own.entity_id = agent.runtime.agent_id
        assert await agent.process_actions(own) == Processed()
    assert model.requests == []


async def test_a_message_may_bring_along_what_was_said_before_it(
    running: Running, model: Model
) -> None:
    """An agent that has begun anew learns it, in that room alone; what is no message is nothing."""
    async with running() as agent:
        for number, brought in enumerate(
            [[heard("before", "m0"), heard("elsewhere", "e0", "other")], "rubbish", [{"id": 1}]]
        ):
            await agent.process_actions(heard("Hi", str(number), metadata={"earlier": brought}))
        assert await agent.get_memories(room_id="other") == []

    assert [one["content"] for one in model.requests[0].messages] == ["before", "Hi"]
    assert len(model.requests) == 3


# --- once, and in order -------------------------------------------------------------------


async def test_the_same_message_is_answered_once(
    running: Running, platform: Platform, model: Model
) -> None:
    """In flight or done; both callers have the same answer."""
    async with running() as agent:
        model.gate.clear()
        both = [asyncio.create_task(agent.process_actions(heard("hang"))) for _ in range(2)]
        await happens(lambda: bool(model.requests), what="the model was asked")
        model.gate.set()
        one, two = await asyncio.gather(*both)
        three = await agent.process_actions(heard("hang"))

    assert one == two == three
    assert len(platform.sent) == len(model.requests) == 1


async def test_two_platforms_may_number_their_messages_alike(
    running: Running, platform: Platform
) -> None:
    """Nor are two rooms' messages the same because their numbers are."""
    async with running() as agent:
        await agent.process_actions(heard("a", "1", "r1"))
        await agent.process_actions(heard("b", "1", "r2"))

    assert [channel for channel, _ in platform.sent] == ["r1", "r2"]


async def test_what_failed_may_be_asked_again(
    running: Running, platform: Platform, model: Model
) -> None:
    """What an action had said before the failure is not said a second time."""
    tell = Action(
        "TELL", validate=lambda: True, handler=lambda: ["one", ActionResult(success=False)]
    )
    async with running(Plugin("p", actions=[tell])) as agent:
        model.error = ValueError("busy")
        with pytest.raises(Exception, match="busy"):
            await agent.process_actions(heard())
        model.error = None
        processed = await agent.process_actions(heard())

    assert texts(processed) == ["one", "You said: Hi"]
    assert platform.sent == [("r", "one"), ("r", "You said: Hi")]


async def test_a_room_is_answered_in_order_and_rooms_side_by_side(
    running: Running, platform: Platform, model: Model
) -> None:
    """A message that hangs holds up its own room alone."""
    async with running() as agent:
        model.gate.clear()
        held = [
            asyncio.create_task(agent.process_actions(heard(text, text)))
            for text in ("hang 1", "2", "3")
        ]
        await agent.process_actions(heard("elsewhere", "e", "other"))
        assert platform.sent == [("other", "You said: elsewhere")]
        model.gate.set()
        await asyncio.gather(*held)
        health = await agent.health()

    assert [text for _, text in platform.sent[1:]] == [
        f"You said: {t}" for t in ("hang 1", "2", "3")
    ]
    assert (health["rooms"], health["waiting"], health["answered"]) == (0, 0, 4)


async def test_past_a_bound_the_caller_is_told_at_once(running: Running, model: Model) -> None:
    """Those who wait already are answered."""
    async with running(waiting_per_room=1) as agent:
        model.gate.clear()
        held = [
            asyncio.create_task(agent.process_actions(heard(text, text))) for text in ("hang", "2")
        ]
        await happens(lambda: bool(model.requests), what="the model was asked")
        with pytest.raises(Exception, match="1 messages wait in room 'r'"):
            await agent.process_actions(heard("3", "3"))
        model.gate.set()
        assert [len(one.responses) for one in await asyncio.gather(*held)] == [1, 1]
        assert texts(await agent.process_actions(heard("3", "3"))) == ["You said: 3"]


async def test_who_asked_may_go_away(running: Running, platform: Platform, model: Model) -> None:
    """The answer is said all the same, once."""
    async with running() as agent:
        model.gate.clear()
        asking = asyncio.create_task(agent.process_actions(heard("hang")))
        await happens(lambda: bool(model.requests), what="the model was asked")
        asking.cancel()
        model.gate.set()
        await happens(lambda: bool(platform.sent), what="it was said")
        await agent.process_actions(heard("hang"))

    assert len(platform.sent) == 1


async def test_a_message_has_a_deadline_of_its_own(running: Running, model: Model) -> None:
    """Past it its caller is told, and the room goes on."""
    async with running(answer_timeout=0.1) as agent:
        model.gate.clear()
        with pytest.raises(Exception, match=r"m1 was not answered within 0.1 s"):
            await agent.process_actions(heard("hang"))
        assert texts(await agent.process_actions(heard("Hi", "m2"))) == ["You said: Hi"]


async def test_messages_without_a_room_do_not_wait_for_each_other(
    running: Running, model: Model
) -> None:
    """There is no conversation whose order could be kept."""
    async with running() as agent:
        model.gate.clear()
        held = asyncio.create_task(agent.process_actions(heard("hang", "1", "")))
        await happens(lambda: bool(model.requests), "the model was asked")
        await agent.process_actions(heard("Hi", "2", ""))
        model.gate.set()
        await held


async def test_what_was_being_said_when_the_time_was_over_is_not_said_again(
    running: Running, platform: Platform, model: Model
) -> None:
    """Perhaps it was heard."""
    platform.ends = asyncio.Event()
    async with running(answer_timeout=0.5) as agent:
        with pytest.raises(Exception, match="was not answered within"):
            await agent.process_actions(heard())
        platform.ends.set()
        processed = await agent.process_actions(heard())

    assert texts(processed) == ["You said: Hi"]
    assert platform.sent == [("r", "You said: Hi")]
    assert len(model.requests) == 2


# --- with responses -----------------------------------------------------------------------


def acting(calls: list[Any]) -> Plugin:
    """Return a plugin whose actions note what they were given."""

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


async def test_responses_name_what_is_run(running: Running, platform: Platform) -> None:
    """In order; values are handed on; unknown ones and failures do not stop the others."""
    calls: list[Any] = []
    wanted = Content(actions=["fail", "Pay", "SEND_TAP", "say two"])
    async with running(acting(calls)) as agent:
        processed = await agent.process_actions(heard(), [Memory(content=wanted)])

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


async def test_a_response_is_said_as_it_stands(
    running: Running, platform: Platform, model: Model
) -> None:
    """Without actions, or with REPLY and a text; IGNORE ends without a word."""
    given = [Content("a"), Content("b", actions=["REPLY"]), Content("c", actions=["IGNORE"])]
    async with running() as agent:
        responses = [Memory(content=one) for one in given]
        processed = await agent.process_actions(heard(), responses)
        again = await agent.process_actions(heard(), [Memory(content=one) for one in given])

    assert platform.sent == [("r", "a"), ("r", "b")]
    assert processed == again
    assert model.requests == []


async def test_a_message_may_be_given_responses_after_it_was_answered(
    running: Running, platform: Platform
) -> None:
    """Those are another order than to decide about it."""
    async with running() as agent:
        await agent.process_actions(heard())
        await agent.process_actions(heard(), [Memory(content=Content("later"))])

    assert platform.sent == [("r", "You said: Hi"), ("r", "later")]


async def test_a_reply_without_a_text_is_generated(running: Running, platform: Platform) -> None:
    """Where a model fails, the other actions are run all the same."""
    async with running() as agent:
        await agent.process_actions(heard(), [Memory(content=Content(actions=["REPLY"]))])
    assert platform.sent == [("r", "You said: Hi")]
    async with run(AgentService, fakes={"platform": platform}, plugin=acting([])) as agent:
        wanted = [Memory(content=Content(actions=["REPLY", "SAY_TWO"]))]
        processed = await agent.process_actions(heard(), wanted)
    assert "no model" in result_of(processed, "REPLY").error
    assert texts(processed) == ["one", "two"]


# --- without responses --------------------------------------------------------------------


async def test_actions_that_apply_are_run_instead_of_a_reply(
    running: Running, platform: Platform, model: Model
) -> None:
    """By priority; one whose validate fails does not apply."""

    def broken() -> bool:
        raise ValueError("cannot tell")

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
        await agent.process_actions(heard("a tip"))
        await agent.process_actions(heard("Hi", "m2"))

    assert [text for _, text in platform.sent] == ["high", "low", "You said: Hi"]
    assert len(model.requests) == 1


@pytest.mark.parametrize("made", [False, ActionResult(success=False), ValueError("broken")])
async def test_where_all_actions_fail_there_is_a_reply(
    running: Running, platform: Platform, made: Any
) -> None:
    """However they do."""

    def handler() -> Any:
        if isinstance(made, Exception):
            raise made
        return made

    async with running(
        Plugin("p", actions=[Action("A", handler=handler, validate=lambda: True)])
    ) as agent:
        processed = await agent.process_actions(heard())

    assert not result_of(processed, "A").success
    assert platform.sent == [("r", "You said: Hi")]


async def test_an_action_that_hangs_fails_alone(running: Running, platform: Platform) -> None:
    """After its own time, in which saying something does not count."""

    async def hang() -> AsyncIterator[str]:
        yield "wait"
        await asyncio.Event().wait()

    async with running(
        Plugin("p", actions=[Action("A", handler=hang, validate=lambda: True)]), action_timeout=0.1
    ) as a:
        processed = await a.process_actions(heard())

    assert "A" in result_of(processed, "A").error
    assert "0.1 s" in result_of(processed, "A").error
    assert [text for _, text in platform.sent] == ["wait", "You said: Hi"]


async def test_a_slow_platform_is_not_the_actions_fault(
    running: Running, platform: Platform
) -> None:
    """What an action yields may take longer to be said than the action itself may take."""

    async def talk() -> AsyncIterator[str]:
        yield "slow"

    platform.takes = 0.5
    async with running(Plugin("p", actions=[Action("A", handler=talk)]), action_timeout=0.4) as a:
        processed = await a.process_actions(heard(), [Memory(content=Content(actions=["A"]))])

    assert processed.results == [ActionResult(action="A")]
    assert platform.sent == [("r", "slow")]


async def test_an_action_that_never_ends_its_talk_is_ended(running: Running) -> None:
    """So many responses to one message are the most."""

    async def talk() -> AsyncIterator[str]:
        while True:
            yield "blah"

    async with running(Plugin("p", actions=[Action("A", handler=talk)])) as agent:
        processed = await agent.process_actions(heard(), [Memory(content=Content(actions=["A"]))])

    assert len(processed.responses) == 100
    assert "100 responses" in result_of(processed, "A").error


@pytest.mark.parametrize("made", ["x" * 200_000, ActionResult(data={"x": "x" * 200_000})])
async def test_an_action_that_makes_too_much_is_ended(running: Running, made: Any) -> None:
    """What came of a message is one answer to the caller, which has to fit a message."""

    async def endless() -> AsyncIterator[Any]:
        while True:
            yield made
            await asyncio.sleep(0)

    plugin = Plugin("p", actions=[Action("ENDLESS", handler=endless)])
    async with running(plugin) as agent:
        agent.runtime.client.session.limits = CallLimits(max_message=1 << 20)
        processed = await agent.process_actions(
            heard(), [Memory(content=Content(actions=["ENDLESS"]))]
        )

    assert "262,144 bytes of responses and results" in processed.results[0].error


async def test_a_provider_that_tells_too_much_is_left_out(running: Running, model: Model) -> None:
    """What the others know still reaches the model, which could not be asked with all of it."""
    plugin = Plugin(
        "p",
        providers=[
            Provider("HUGE", get=lambda: "x" * 300_000, position=1),
            Provider("SMALL", get=lambda: "a small thing", position=2),
        ],
    )
    async with running(plugin) as agent:
        agent.runtime.client.session.limits = CallLimits(max_message=1 << 20)
        await agent.process_actions(heard())

    system = model.requests[0].system or ""
    assert "a small thing" in system
    assert "xxx" not in system


async def test_providers_tell_the_model_what_they_know(running: Running, model: Model) -> None:
    """One that fails or is late is left out; a dynamic one is asked where it is named."""

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
        await agent.process_actions(heard())
        asking = heard("Hi", "m2")
        asking.content.providers = ["FACTS"]
        await agent.process_actions(asking)

    first, second = (str(request.system) for request in model.requests)
    assert first.endswith("It is noon.")
    assert "Ada counts." in second
    assert "late" not in second


async def test_a_model_may_decide(running: Running, platform: Platform, model: Model) -> None:
    """Among the actions that apply; what it says cannot be read is a reply."""
    plugin = Plugin(
        "p",
        actions=[
            Action("ROLL", "Rolls a die", handler=lambda: "four", validate=lambda: True),
            Action("NEVER", "Never", handler=lambda: "never", validate=lambda: False),
        ],
    )
    async with running(plugin, decide="model") as agent:
        for number, answer_text in enumerate(
            ['{"actions": ["ROLL"]}', '{"actions": ["IGNORE"]}', '["NEVER"]', "Well …"]
        ):
            model.answers = [answer_text]
            await agent.process_actions(heard("Roll", str(number)))
            model.answers = []

    assert "ROLL: Rolls a die" in model.requests[0].prompt
    assert "NEVER" not in model.requests[0].prompt
    assert [text for _, text in platform.sent] == ["four", "You said: Roll", "You said: Roll"]


# --- afterwards ---------------------------------------------------------------------------


async def test_evaluators_look_at_the_answer_before_the_rooms_next_message(
    running: Running, model: Model
) -> None:
    """One that fails or hangs harms nobody, and the caller does not wait for them."""
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
        await agent.process_actions(heard("1", "1"))
        following = asyncio.create_task(agent.process_actions(heard("2", "2")))
        await happens(lambda: bool(emitted(agent, "EVALUATOR_STARTED")), what="they have begun")
        assert (seen, len(model.requests)) == ([], 1)
        gate.set()
        await following

    assert seen[0] == ("1", ["You said: 1"])


async def test_some_evaluators_run_where_nothing_was_answered(
    running: Running, model: Model
) -> None:
    """Those that say so."""
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
        with pytest.raises(RemoteError, match="busy"):
            await agent.process_actions(heard())
        model.error = None
        await agent.process_actions(heard())
        await happens(lambda: len(seen) == 3, "both have run")

    assert seen[0] == "b"
    assert sorted(seen[1:]) == ["a", "b"]


async def test_events_tell_what_happens(running: Running) -> None:
    """In order; one who listens slowly delays no answer."""

    async def slow(payload: Any) -> None:
        await asyncio.Event().wait()

    plugin = Plugin(
        "p",
        actions=[Action("A", handler=lambda: "done", validate=lambda: True)],
        evaluators=[Evaluator("E", handler=lambda: None)],
        events={EventType.RUN_STARTED: slow, EventType.MESSAGE_SENT: slow},
    )
    async with running(plugin) as agent:
        await agent.process_actions(heard())
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


async def test_events_that_nobody_takes_are_dropped(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """So many are being told at once; the answers come all the same."""
    taken: list[Any] = []

    async def slow(payload: Any) -> None:
        taken.append(payload)
        await asyncio.Event().wait()

    events = (EventType.RUN_STARTED, EventType.MESSAGE_SENT, EventType.RUN_ENDED)
    plugin = Plugin("p", events=dict.fromkeys(events, slow))
    async with running(plugin, events=2) as agent:
        for number in range(4):
            await agent.process_actions(heard("Hi", str(number)))

    assert len(taken) == 2
    assert caplog.text.count("event.dropped") == 1


@pytest.mark.parametrize("shape", ["memory", "wrapped", "mapping"])
async def test_a_message_may_come_as_an_event(
    running: Running, platform: Platform, shape: str
) -> None:
    """A memory, or one beside its source."""
    payload: Any = {
        "memory": heard(),
        "wrapped": {"message": heard(source=""), "source": "platform"},
        "mapping": {"id": "m1", "content": {"text": "Hi", "source": "platform"}, "room_id": "r"},
    }[shape]
    async with running() as agent:
        await agent.runtime.emit_event(EventType.MESSAGE_RECEIVED, payload)

    assert platform.sent == [("r", "You said: Hi")]


# --- what it keeps ------------------------------------------------------------------------


async def test_others_keep_memories_and_tasks_in_it(running: Running) -> None:
    """The calls of a database, over the bus."""
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


async def test_a_database_takes_its_place(running: Running, model: Model) -> None:
    """Messages go there, history comes from there; one that fails costs no answer."""

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
        await agent.process_actions(heard("Hi"))
        await agent.process_actions(heard("And?", "m2"))
        database.fails = True
        processed = await agent.process_actions(heard("Still?", "m3"))
        health = await agent.health()

    assert [one.content.text for one in database.kept] == [
        "Hi",
        "You said: Hi",
        "And?",
        "You said: And?",
    ]
    assert [len(request.messages) for request in model.requests] == [1, 3, 1]
    assert texts(processed) == ["You said: Still?"]
    assert health["memories"] == 0


async def test_it_greets(running: Running) -> None:
    """By the character's name."""
    async with running() as agent:
        name = agent.runtime.character.name
        assert await agent.greeting() == Greeting(name, f"Hello, I am {name}.")
