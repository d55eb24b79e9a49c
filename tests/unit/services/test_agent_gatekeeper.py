"""The agent drops, refuses and expires messages before it decides, and records each."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.waiting import eventually

from garrison.ipc.mail import MESSAGE, PostedMessage
from garrison.workers import (
    Content,
    EventType,
    GenerateTextParams,
    Memory,
    ModelType,
    Plugin,
    Processed,
    Provider,
    Refusal,
    Runtime,
)
from garrison.workers.services.agent import AgentService
from garrison.workers.testing import TestRuntime, run

RATES = {"per_person": {"per_minute": 1, "burst": 2}, "excess_text": "Slow down."}
Agents = Callable[..., AbstractAsyncContextManager[AgentService]]


class Platform:
    """A platform that records what it sends."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []

    async def send_message(self, channel_id: str, text: str) -> str:
        self.sent.append((channel_id, text))
        return f"p{len(self.sent)}"


class Model:
    """A model that counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, params: GenerateTextParams) -> str:
        self.asked.append(params.as_messages()[-1]["content"])
        return f"You said: {self.asked[-1]}"


@pytest.fixture
def platform() -> Platform:
    """Return the platform."""
    return Platform()


@pytest.fixture
def model() -> Model:
    """Return the model."""
    return Model()


@pytest.fixture
def agents(
    platform: Platform, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Agents:
    """Return what runs an agent, each time with the record of the one before."""
    monkeypatch.setattr(Runtime, "data_folder", tmp_path)

    @asynccontextmanager
    async def start(plugin: Plugin | None = None, **config: Any) -> AsyncIterator[AgentService]:
        models = {ModelType.TEXT_LARGE: model}
        fakes = {"platform": platform}
        async with run(
            AgentService, fakes=fakes, config=config, models=models, plugin=plugin
        ) as agent:
            yield agent

    return start


def message(number: int, person: str = "ada", room: str = "r", **more: Any) -> Memory:
    """Return a message from a platform, with an id as a platform makes it."""
    source = more.pop("source", "platform")
    return Memory(
        content=Content(more.pop("text", f"line {number}"), source=source),
        id=f"{source}/{room}/{number}",
        room_id=room,
        entity_id=person,
        created_at=more.pop("created_at", time.time()),
        **more,
    )


def emitted(agent: AgentService, event: str) -> list[Any]:
    """Return the payloads of an event."""
    assert isinstance(agent.runtime, TestRuntime)
    return [payload for name, payload in agent.runtime.emitted if name == event]


def problems(processed: Processed) -> list[str]:
    """Return the errors that the caller gets."""
    return [result.error for result in processed.results if not result.success]


async def recorded(agent: AgentService, count: int, wanted: str = "") -> list[dict[str, Any]]:
    """Return recorded answers once so many are: some are written a moment later."""

    async def found() -> list[dict[str, Any]]:
        answers = await agent.answers(wanted, 50)
        rows: list[dict[str, Any]] = answers["details" if wanted else "answers"]
        return rows if len(rows) == count else []

    return await eventually(found, what=f"{count} answers are recorded")


# --- floods -------------------------------------------------------------------------------


async def test_a_flood_is_dropped_before_any_model_and_its_sender_told_once(
    agents: Agents, platform: Platform, model: Model
) -> None:
    """Others in the room are answered; each dropped message is counted, reported and recorded."""
    async with agents(**RATES) as agent:
        flood = [await agent.process_actions(message(number)) for number in range(20)]
        await agent.process_actions(message(99, "max"))
        health = await agent.health()
        found = await recorded(agent, 21)
        kept = await agent.get_memories(room_id="r")

    assert model.asked == ["line 0", "line 1", "line 99"]
    assert [text for _, text in platform.sent].count("Slow down.") == 1
    assert len(platform.sent) == 4
    assert problems(flood[1]) == []
    assert problems(flood[2]) == problems(flood[3]) == ["its sender sends more than per_person"]
    assert [one.content.text for one in flood[2].responses] == ["Slow down."]
    assert flood[3].responses == []
    assert health["dropped"] == 18
    dropped = emitted(agent, EventType.MESSAGE_DROPPED)
    assert len(dropped) == 18
    assert dropped[0] == {
        "message": "platform/r/2", "room": "r", "source": "platform", "person": "ada",
        "cause": "per_person",
    }  # fmt: skip
    assert [row["state"] for row in found].count("dropped") == 18
    assert {row["problem"] for row in found if row["state"] == "dropped"} == {
        "its sender sends more than per_person"
    }
    assert not any(one.content.text in {"line 5", "Slow down."} for one in kept)


async def test_a_message_that_is_sent_again_counts_once(
    agents: Agents, platform: Platform, model: Model
) -> None:
    """Also after the cache has forgotten it, and one that was dropped is dropped again."""
    async with agents(**RATES, answered=1) as agent:
        for number in (0, 1, 2, 0, 1, 2, 0, 1, 2):
            await agent.process_actions(message(number))

    assert len(model.asked) == 2
    assert len(platform.sent) == 3


async def test_a_restart_refills_nothing_and_tells_nobody_twice(
    agents: Agents, platform: Platform, model: Model
) -> None:
    """What the record has of the last minutes counts."""
    for first in (0, 10, 20):
        async with agents(**RATES) as agent:
            for number in range(first, first + 5):
                await agent.process_actions(message(number))

    assert model.asked == ["line 0", "line 1"]
    assert [text for _, text in platform.sent].count("Slow down.") == 1


async def test_a_message_counts_when_it_was_sent(agents: Agents, model: Model) -> None:
    """Not when its turn comes: a backlog of a quiet hour is answered, one of a flood is not."""
    now = time.time()
    async with agents(**RATES) as agent:
        for number in range(5):
            await agent.process_actions(message(number, created_at=now - 600 + 60 * number))
        for number in range(5):
            await agent.process_actions(message(10 + number, "max", created_at=now - 600 + number))

    assert len(model.asked) == 5 + 2


async def test_blocked_ids_get_no_answer_and_no_text(
    agents: Agents, platform: Platform, model: Model
) -> None:
    """A room, a sender; a service's own order for the room is carried out."""
    async with agents(block=["eve", "platform/secret"]) as agent:
        await agent.process_actions(message(1, "eve"))
        await agent.process_actions(message(2, room="secret"))
        await agent.process_actions(message(3))
        await agent.process_actions(message(4, room="secret"), [Memory(content=Content("News."))])
        found = await recorded(agent, 4)

    assert model.asked == ["line 3"]
    assert platform.sent == [("r", "You said: line 3"), ("secret", "News.")]
    states = {row["id"].rpartition("/")[2]: row["state"] for row in found}
    assert states == {"1": "dropped", "2": "dropped", "3": "done", "4": "done"}


async def test_a_dropped_message_leaves_little_behind(agents: Agents) -> None:
    """A flood of long messages must not fill the disk."""
    async with agents(block=["eve"]) as agent:
        long = message(1, "eve", text="x" * 100_000, metadata={"a": "y" * 10_000})
        await agent.process_actions(long)
        (row,) = await recorded(agent, 1, "platform/r/1")
        assert len(row["text"]) == 300


# --- age ----------------------------------------------------------------------------------


async def test_an_old_message_expires(agents: Agents, platform: Platform, model: Model) -> None:
    """It is remembered, takes nothing of a rate, and says so in `status` until a newer one."""
    old = time.time() - 1000
    async with agents(**RATES) as agent:
        for number in range(5):
            await agent.process_actions(message(number, created_at=old))
        warned = dict(agent.runtime._reports.warnings)
        await agent.process_actions(message(9))
        after = dict(agent.runtime._reports.warnings)
        health = await agent.health()
        (row,) = (await agent.answers("0"))["details"]
        kept = await agent.get_memories(room_id="r")

    assert len(model.asked) == 1
    assert platform.sent == [("r", f"You said: {model.asked[0]}")]
    assert health["expired"] == 5
    assert row["state"] == "expired"
    assert row["why"]["how"] == "answer_within"
    assert "1000 s old" in row["why"]["problem"]
    assert len(kept) == 7
    assert any("clock is wrong" in text for text in warned.values())
    assert after == {}
    assert [one["age_s"] >= 1000 for one in emitted(agent, EventType.MESSAGE_EXPIRED)] == [True] * 5


async def test_a_posted_message_without_a_time_is_as_old_as_its_post(
    agents: Agents, model: Model
) -> None:
    """It may have waited in the mailbox for hours."""
    async with agents() as agent:
        for number, posted_at in ((1, time.time() - 5000), (2, time.time() - 5)):
            reset = MESSAGE.set(PostedMessage(str(number), posted_at=posted_at))
            await agent.process_actions(message(number, created_at=0.0))
            MESSAGE.reset(reset)

    assert model.asked == ["line 2"]


async def test_any_age_is_answered_where_the_config_says_so(agents: Agents, model: Model) -> None:
    """0 is no limit."""
    async with agents(answer_within=0) as agent:
        await agent.process_actions(message(1, created_at=1e9))
    assert len(model.asked) == 1


# --- gates --------------------------------------------------------------------------------


def guard(answer: Any) -> Plugin:
    """Return a plugin whose gate says this of messages with "bad" in them."""

    async def gate(runtime: Runtime, memory: Memory) -> Any:
        if "bad" not in memory.content.text:
            return None
        if isinstance(answer, Exception):
            raise answer
        return answer

    return Plugin("guard", gate=gate)


@pytest.mark.parametrize(
    ("answer", "said", "problem"),
    [("Not here.", ["Not here."], "refused"), (Refusal(reason="spam"), [], "spam")],
)
async def test_a_gate_refuses_before_the_agent_decides(
    agents: Agents, platform: Platform, model: Model, answer: Any, said: list[str], problem: str
) -> None:
    """With a text or in silence; what is refused is not part of the conversation."""
    async with agents(guard(answer)) as agent:
        await agent.process_actions(message(1, text="bad"))
        await agent.process_actions(message(2))
        await agent.process_actions(message(3, text="x"), [Memory(content=Content("bad"))])
        health = await agent.health()
        kept = {one.id for one in await agent.get_memories(room_id="r")}
        (row,) = (await agent.answers("1"))["details"]

    assert model.asked == ["line 2"]
    assert [text for _, text in platform.sent] == [*said, "You said: line 2", "bad"]
    assert "platform/r/2" in kept
    assert "platform/r/1" not in kept
    assert health["refused"] == 1
    assert (row["state"], row["why"]["how"], row["why"]["problem"]) == (
        "dropped", "gate test", problem
    )  # fmt: skip
    assert [part["text"] for part in row["parts"]] == said
    (event,) = emitted(agent, EventType.MESSAGE_DROPPED)
    assert (event["cause"], event["plugin"]) == ("gate", "test")


@pytest.mark.parametrize("failure", ["pass", "refuse"])
async def test_a_gate_that_fails_passes_or_refuses_by_config(
    agents: Agents, platform: Platform, model: Model, failure: str
) -> None:
    """Either way `status` shows it, until the gate works again."""
    config = {"gate_failure": failure, "failure_text": "Later."}
    async with agents(guard(ValueError("no list")), **config) as agent:
        await agent.process_actions(message(1, text="bad"))
        warned = dict(agent.runtime._reports.warnings)
        health = await agent.health()
        await agent.process_actions(message(2))
        after = dict(agent.runtime._reports.warnings)

    first = "You said: bad" if failure == "pass" else "Later."
    assert platform.sent[0] == ("r", first)
    assert (health["ungated"], health["refused"]) == ((1, 0) if failure == "pass" else (0, 1))
    assert any("the gate of test fails" in text for text in warned.values())
    assert after == {}


# --- why ----------------------------------------------------------------------------------


async def test_an_answer_is_found_by_every_id_that_someone_may_have(agents: Agents) -> None:
    """The platform's of the message and of what was said; the host's of the message and the part;
    and by its room."""
    noon = Plugin("noon", providers=[Provider("TIME", get=lambda: "It is noon.")])
    async with agents(noon) as agent:
        done = await agent.process_actions(message(77, "ada", "a/b"))
        await agent.process_actions(message(78, "ada", "other"))
        ids = ["77", "p1", "platform/a/b/77", done.responses[0].id]
        found = [(await agent.answers(one))["details"] for one in ids]
        room = await agent.answers("platform/a/b")
        latest = await agent.answers()
        nothing = await agent.answers("nix"), await agent.answers("platform/nix")
        fewer = await agent.answers(limit=1)

    assert [[row["id"] for row in rows] for rows in found] == [["platform/a/b/77"]] * 4
    (row,) = found[0]
    assert (row["why"]["how"], row["why"]["context"]) == ("validate", "It is noon.")
    assert [(part["outcome"], part["ids"]) for part in row["parts"]] == [("sent", ["p1"])]
    assert [one["service"] for one in row["why"]["models"]] == ["agent"]
    assert [one["id"] for one in room["answers"]] == ["platform/a/b/77"]
    assert room["details"] == found[0]
    assert [one["id"][-2:] for one in latest["answers"]] == ["78", "77"]
    assert latest["details"] == []
    assert nothing == ({"answers": [], "details": []},) * 2
    assert len(fewer["answers"]) == 1


@pytest.mark.parametrize("wanted", [False, True])
async def test_the_prompt_is_recorded_where_the_config_wants_values(
    agents: Agents, wanted: bool
) -> None:
    """Without the agent's secrets, and at most 64 KiB."""
    async with agents() as agent:
        agent.runtime.record_values = wanted
        agent.runtime._redact = lambda text: text.replace("sk-1", "[KEY]")
        await agent.process_actions(message(1, text="my key is sk-1"))
        await agent.process_actions(message(2, text="long " * 50_000))
        prompts = [(await agent.answers(one))["details"][0]["why"]["prompt"] for one in ("1", "2")]

    if not wanted:
        assert prompts == ["", ""]
        return
    assert "[user]\nmy key is [KEY]" in prompts[0]
    assert prompts[0].startswith("[system]\n")
    assert len(prompts[1]) <= 64 * 1024
    assert prompts[1].endswith("long ")
    assert "characters) …" in prompts[1]
