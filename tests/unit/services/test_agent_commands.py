"""Commands: a person chooses the action and its options."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from garrison.workers import (
    Action,
    ActionResult,
    Content,
    Memory,
    ModelType,
    Plugin,
    idempotent,
)
from garrison.workers.agents.registry import as_model_handler
from garrison.workers.platform.commands import as_command
from garrison.workers.services.agent import AgentService
from garrison.workers.services.agent.commands import outcome_text
from garrison.workers.testing import Harness


class Chat:
    """Keeps what was sent."""

    def __init__(self) -> None:
        self.said: list[str] = []

    @idempotent
    async def send_message(self, channel: str, text: str) -> None:
        """Keep it."""
        self.said.append(text)


class Tip(msgspec.Struct):
    """Parameters."""

    to: str
    amount: int = 1


def tip(
    runtime: Any, memory: Memory, state: Any, responses: Any, options: Tip | None
) -> ActionResult:
    """Say what was given."""
    assert options is not None
    return ActionResult(text=f"sent {options.amount} to {options.to}")


def broken(runtime: Any, memory: Memory) -> str:
    """Fail."""
    raise RuntimeError("internal: 10.0.0.7")


ACTIONS = [
    Action("TIP", "tips", handler=tip, parameters=Tip),
    Action("SPEAK", "speaks", handler=lambda runtime, memory: f"you said {memory.content.text}"),
    Action("QUIET", "does it", handler=lambda runtime, memory: None),
    Action("DENIED", "no", handler=lambda runtime, memory: "yes", validate=lambda *_: False),
    Action("ALLOWED", "yes", handler=lambda runtime, memory: "yes", validate=lambda *_: True),
    Action("UNABLE", "no", handler=lambda *_: ActionResult(success=False, error="no money")),
    Action("BROKEN", "no", handler=broken),
]


@asynccontextmanager
async def agent_with(folder: Path, chat: Chat, **config: Any) -> AsyncIterator[AgentService]:
    """Run an agent with these actions."""
    harness = Harness("agent", data_folder=folder)
    harness.add_fakes({"chat": chat})
    handler = as_model_handler(lambda params: "a model's answer")
    harness.runtime.register_model(ModelType.TEXT_LARGE, handler, "test")
    await harness.init(Plugin("deeds", actions=ACTIONS), {})
    agent = await harness.start(AgentService, config)
    try:
        yield agent
        await agent.stop()
    finally:
        await harness.close()
    harness.raise_failure()


def command(
    name: str, text: str = "", id: str = "m1", **options: Any
) -> tuple[Memory, list[Memory]]:
    """Return a command as its platform hands it over."""
    content = Content(text, actions=[name], source="chat", data={"options": options})
    return as_command(Memory(content=content, id=id, room_id="r", entity_id="ada"), True)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("TIP", {"to": "bob", "amount": 5}, "sent 5 to bob"),
        ("TIP", {"to": "bob"}, "sent 1 to bob"),
        ("SPEAK", {}, "you said hello"),
        ("QUIET", {}, "Done."),
        ("ALLOWED", {}, "yes"),
        ("DENIED", {}, "this is not possible here, or not now"),
        ("UNABLE", {}, "no money"),
        ("BROKEN", {}, "Sorry, I cannot answer just now."),
        ("TIPP", {}, "there is no action 'TIPP'; did you mean TIP?"),
    ],
)
async def test_a_command_runs_its_action_and_is_answered(
    tmp_path: Path, name: str, options: dict[str, Any], said: str
) -> None:
    """Whatever becomes of it, the person who gave it reads that; no model is involved."""
    chat = Chat()
    async with agent_with(tmp_path, chat) as agent:
        memory, responses = command(name, "hello", **options)
        await agent.process_actions(memory, responses)
        await agent.process_actions(*command(name, "hello", **options))

    assert chat.said == [said]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"to": "bob", "amount": "many"}, "amount is a whole number"),
        ({"to": 7}, "to is a text"),
        ({"amount": 5}, "to is missing"),
        ({}, "to is missing"),
        ({"to": "bob", "coin": "usd"}, "coin is not known"),
    ],
)
async def test_options_that_do_not_fit_are_refused_with_the_reason(
    tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    """The action is not run."""
    chat = Chat()
    async with agent_with(tmp_path, chat) as agent:
        await agent.process_actions(*command("TIP", **options))

    assert chat.said == [said]


async def test_the_limits_of_messages_hold_for_commands(tmp_path: Path) -> None:
    """A blocked person's command is not run; responses of a service are not limited."""
    chat = Chat()
    async with agent_with(tmp_path, chat, block=["ada"]) as agent:
        blocked = await agent.process_actions(*command("QUIET"))
        memory, responses = command("SPEAK", "hi", "m2")
        given = msgspec.structs.replace(memory, metadata={})
        await agent.process_actions(given, responses)

    assert blocked.responses == []
    assert chat.said == ["you said hi"]


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (ActionResult(), "Done."),
        (ActionResult(text="it rains"), "it rains"),
        (ActionResult(success=False, error="no"), "no"),
        (ActionResult(success=False, text="not now"), "not now"),
        (ActionResult(success=False, action="TIP"), "TIP failed"),
    ],
)
def test_what_is_sent_of_a_result(result: ActionResult, text: str) -> None:
    """Where the action itself sent nothing."""
    assert outcome_text(result, "Done.") == text
