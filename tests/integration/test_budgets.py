"""Budgets and usage in a host: what answers use of models, with workers killed in the middle."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.support.host import Host, found, hosting
from tests.support.model_server import ModelServer, Turn
from tests.support.ports import free_port
from tests.support.waiting import eventually

from garrison.workers import Content, Memory

CONFIG = """
[plugins.openai]
[services.openai.config]
base_url = "http://127.0.0.1:{port}/v1"
prices = {{ "gpt-4.1" = {{ input = 100.0, output = 1000.0 }} }}
[plugins.agent]
[services.agent.config]
budget_text = "Enough."
budget = {{ tokens_per_day = 1000000, per_person = {{ tokens_per_day = 4000 }} }}
[services.agent]
health_interval = 0.2
"""
LIMIT = 1_000_000


@pytest.fixture(scope="module")
def port() -> int:
    """Return the port of the server, which each test starts anew."""
    return free_port()


@pytest.fixture(scope="module")
def host(port: int) -> Iterator[Host]:
    """Return a host that the tests share; each has persons of its own."""
    with hosting(CONFIG.format(port=port)) as running:
        yield running


@pytest.fixture
async def server(port: int) -> AsyncIterator[ModelServer]:
    """Return the server."""
    async with ModelServer(port) as there:
        yield there


def message(person: str, number: int) -> Memory:
    """Return a message."""
    content = Content("Hello", source="test")
    return Memory(content=content, id=f"{person}{number}", room_id=person, entity_id=person)


async def until_shown(host: Host, name: str, fact: str, expected: float) -> None:
    """Wait until `status` shows a number."""

    async def shown() -> bool:
        found: Any = host.status(name)["facts"].get(fact)
        return bool(found == pytest.approx(expected))

    await eventually(shown, what=f"{fact} is {expected}: {host.status(name)['facts']}")


async def test_use_is_counted_for_whom_it_was(host: Host, server: ModelServer) -> None:
    """By agent and person at the provider, in money where that is known; a restart loses none."""
    left = host.status("agent")["facts"].get("budget_left", LIMIT)
    async with host.connect() as client:
        agent, openai = found(client, "agent"), found(client, "openai")
        done = await agent.process_actions(message("ada", 1))
        assert [one["content"]["text"] for one in done["responses"]] == ["Hello there friend"]
        await until_shown(host, "agent", "budget_left", left - 10)
        (row,) = [one for one in await openai.usage() if one["person"] == "ada"]
        assert (row["source"], row["requests"], row["tokens_in"]) == ("test", 1, 7)
        assert row["cost"] == pytest.approx(0.0037)
        assert row["finish"] == {"stop": 1}
        host.ask("restart", "openai")
        (again,) = [one for one in await openai.usage() if one["person"] == "ada"]
        assert again == row
        day = (await openai.usage_by_day())[-1]
        assert (day["requests"], day["tokens_in"], day["cost"]) == (1, 7, pytest.approx(0.0037))
        offers = [one for one in await agent.models() if one["service"] == "openai"]
        assert {one["passed_over_s"] for one in offers} == {None}
        await until_shown(host, "openai", "cost", 0.0037)
        assert await openai.forget_person("test", "ada") == {"usage": 1}
        assert [one for one in await openai.usage() if one["person"] == "ada"] == []
    (file,) = host.folder.rglob("usage.json")
    assert "ada" not in file.read_text()


async def test_a_killed_provider_leaves_no_reservation(host: Host, server: ModelServer) -> None:
    """What it would have used is there again; the person is answered within their budget."""
    left = host.status("agent")["facts"]["budget_left"]
    async with host.connect() as client:
        agent = found(client, "agent")
        server.script(Turn(fault="hang"))
        answer = asyncio.ensure_future(agent.process_actions(message("bob", 1)))

        async def asked() -> bool:
            return len(server.asked) == 1

        await eventually(asked)
        host.kill("openai")
        assert (await answer)["responses"]
        await until_shown(host, "agent", "budget_left", left - 10)


async def test_a_killed_agent_renews_no_budget(host: Host, server: ModelServer) -> None:
    """What it had reserved counts in full, as nobody knows what was used of it."""
    left = host.status("agent")["facts"]["budget_left"]
    async with host.connect() as client:
        agent = found(client, "agent")
        server.script(Turn(fault="hang"))
        answer = asyncio.ensure_future(agent.process_actions(message("eve", 1)))

        async def asked() -> bool:
            return len(server.asked) == 1

        await eventually(asked)
        host.kill("agent")
        await asyncio.wait({answer})  # it is sent again, and answered from the record

        async def counted() -> bool:
            now: Any = host.status("agent")["facts"].get("budget_left", LIMIT)
            return bool(left - 2000 < now < left - 1024)

        await eventually(counted)
        done = answer.result()
        assert [one["content"]["text"] for one in done["responses"]] == ["Hello there friend"]


async def test_at_the_limit_a_person_is_told_and_others_are_answered(
    host: Host, server: ModelServer
) -> None:
    """No provider is called for them."""
    async with host.connect() as client:
        agent = found(client, "agent")
        body = {**_completion("Long."), "usage": {"prompt_tokens": 3000, "completion_tokens": 900}}
        server.script(Turn(body=body))
        first = await agent.process_actions(message("carl", 1))
        second = await agent.process_actions(message("carl", 2))
        other = await agent.process_actions(message("dora", 1))
    texts = [one["responses"][0]["content"]["text"] for one in (first, second, other)]
    assert texts == ["Long.", "Enough.", "Hello there friend"]
    assert len(server.asked) == 2


def _completion(text: str) -> dict[str, Any]:
    said = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": said, "finish_reason": "stop"}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
