"""An agent whose model calls actions as tools, over real sockets; with kills in between."""

import asyncio
import importlib.util
import json
from collections.abc import AsyncIterator, Iterator
from itertools import count
from typing import Any

import pytest
from tests.support.counterparts import openai as llmock
from tests.support.host import Host, hosting
from tests.support.model_server import ModelServer, Turn, completion, failing, message
from tests.support.ports import free_port
from tests.support.waiting import eventually

CONFIG = """
[defaults]
intensity = 0
[plugins.dice]
[services.dice]
env = {{ DEEDS = "{folder}/deeds" }}
[plugins.radio]
[services.radio.config]
file = "{folder}/sent"
[plugins.agent]
[services.agent.config]
decide = "model"
[plugins.openai]
[services.openai.config]
base_url = "{url}/v1"
{more}
"""
ANTHROPIC = """
[plugins.anthropic]
[services.anthropic.config]
base_url = "{url}"
"""
NEEDS_ANTHROPIC = pytest.mark.skipif(
    importlib.util.find_spec("anthropic") is None,
    reason="the library anthropic is not installed: pip install '.[external]'",
)
NEEDS_LLMOCK = pytest.mark.skipif(
    importlib.util.find_spec("llmock") is None,
    reason="llmock is not installed: pip install '.[external]'",
)
NUMBERS = count(1)
KINDS = ("malformed_arguments", "unknown_tool")


@pytest.fixture(scope="module")
def port() -> int:
    """Return the port of the server, which each test starts anew."""
    return free_port()


def configured(host: Host, url: str, more: str = "") -> Host:
    """Start a host."""
    host.write("config.toml", CONFIG.format(folder=host.folder, url=url, more=more))
    return host.up()


@pytest.fixture(scope="module")
def running(port: int) -> Iterator[Host]:
    """Return a host that all tests here share."""
    with hosting("", ["dice", "radio"], up=False) as host:
        yield configured(host, f"http://127.0.0.1:{port}")


@pytest.fixture
async def server(port: int) -> AsyncIterator[ModelServer]:
    """Return the server."""
    async with ModelServer(port) as there:
        yield there


def calling(*calls: tuple[str, dict[str, Any]]) -> Turn:
    """Return a turn in which OpenAI's model calls tools."""
    made = [
        {
            "id": f"of-the-server-{number}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for number, (name, arguments) in enumerate(calls)
    ]
    said = {"role": "assistant", "content": None, "tool_calls": made}
    return Turn(body=completion(said, "tool_calls"))


def lines(host: Host, name: str, mark: str) -> list[str]:
    """Return the lines of a file with a mark of the test's own."""
    path = host.folder / name
    return [line for line in path.read_text().splitlines() if mark in line] if path.exists() else []


async def asked(server: ModelServer, times: int) -> None:
    """Wait until the server was asked so often."""

    async def is_asked() -> bool:
        return len(server.asked) == times

    await eventually(is_asked, what=f"{times} requests")


def talk(server: ModelServer, number: int) -> list[Any]:
    """Return the messages of a request."""
    found: list[Any] = server.asked[number].body["messages"]
    return found


async def begun(host: Host, sides: int) -> None:
    """Wait until an action began."""

    async def has_begun() -> bool:
        return bool(lines(host, "deeds", str(sides)))

    await eventually(has_begun, what="it began")


def hear(host: Host, sides: int) -> "asyncio.Task[Any]":
    """Have the agent answer a message; its number marks what it does."""

    async def ask() -> Any:
        return await host.call("radio", "ask", "Roll", f"m{sides}", f"room{sides}")

    return asyncio.ensure_future(ask())


async def test_actions_are_called_and_their_results_go_back(
    running: Host, server: ModelServer
) -> None:
    """In one round several; the answer is the model's text."""
    sides = 100 + next(NUMBERS)
    server.script(
        calling(("ROLL", {"sides": sides}), ("LOOK", {"sides": sides})), Turn("You have 5.")
    )
    answer = await hear(running, sides)

    assert answer == {"sent": [f"It has {sides} sides.", "You have 5."], "failed": []}
    assert lines(running, "deeds", str(sides)) == [f"roll {sides}", f"look {sides}"]
    tools = {one["function"]["name"]: one["function"] for one in server.asked[0].body["tools"]}
    assert set(tools) == {"ROLL", "LOOK", "IGNORE", "NONE"}
    assert tools["ROLL"]["parameters"]["required"] == ["sides"]
    said, rolled, looked = talk(server, 1)[-3:]
    assert [one["id"] for one in said["tool_calls"]] == ["call_0", "call_1"]
    assert json.loads(rolled["content"]) == {"text": "5", "success": True}
    assert json.loads(looked["content"])["sent"] == [f"It has {sides} sides."]


@pytest.mark.parametrize("victim", ["agent", "openai"])
async def test_killed_between_rounds_the_conversation_goes_on(
    running: Host, server: ModelServer, victim: str
) -> None:
    """What was decided is not decided again, what was done is not done again."""
    sides = 200 + next(NUMBERS)
    server.script(
        calling(("ROLL", {"sides": sides}), ("LOOK", {"sides": sides})), Turn(fault="hang")
    )
    answer = hear(running, sides)
    await asked(server, 2)
    old = running.kill(victim)
    await asyncio.to_thread(running.until_reborn, victim, old)

    assert (await answer)["sent"] == [f"It has {sides} sides.", "Hello there friend"]
    assert lines(running, "deeds", str(sides)) == [f"roll {sides}", f"look {sides}"]
    assert lines(running, "sent", f"room{sides}") == [
        f"room{sides}: It has {sides} sides.",
        f"room{sides}: Hello there friend",
    ]
    assert len(server.asked) == 3
    assert talk(server, 2) == talk(server, 1)
    assert "tool_calls" not in talk(server, 0)[-1]


async def test_killed_in_an_action_nothing_is_improvised_over_it(
    running: Host, server: ModelServer
) -> None:
    """One that may not run twice ends the rounds; the room is told."""
    sides = 300 + next(NUMBERS)
    server.script(calling(("ROLL", {"sides": sides, "hold": True})))
    answer = hear(running, sides)
    await begun(running, sides)
    old = running.kill("agent")
    await asyncio.to_thread(running.until_reborn, "agent", old)

    said = (await answer)["sent"]
    assert said == ["I was interrupted during ROLL; it may be done."]
    assert lines(running, "deeds", str(sides)) == [f"roll {sides}"]
    assert len(server.asked) == 1


async def test_killed_in_an_action_that_may_run_twice_the_rounds_go_on(
    running: Host, server: ModelServer
) -> None:
    """It runs again with the same parameters."""
    sides = 400 + next(NUMBERS)
    server.script(calling(("LOOK", {"sides": sides, "hold": True})), Turn("Seen."))
    answer = hear(running, sides)
    await begun(running, sides)
    old = running.kill("agent")
    await asyncio.to_thread(running.until_reborn, "agent", old)
    await running.call("dice", "release")

    assert (await answer)["sent"] == [f"It has {sides} sides.", "Seen."]
    assert lines(running, "deeds", str(sides)) == [f"look {sides}"] * 2
    assert len(server.asked) == 2


async def test_what_an_action_lacks_is_told(running: Host, server: ModelServer) -> None:
    """Arguments that are no JSON, or do not fit, and an unknown tool."""
    sides = 500 + next(NUMBERS)
    turn = calling(("ROLL", {"sides": "six"}), ("FLY", {}), ("LOOK", {"sides": sides}))
    turn.body["choices"][0]["message"]["tool_calls"][1]["function"]["arguments"] = "{"
    server.script(turn, Turn("Well."))
    answer = await hear(running, sides)

    assert answer["sent"] == [f"It has {sides} sides.", "Well."]
    assert answer["failed"] == ["ROLL", "FLY"]
    unfit, no_json, _ = (json.loads(one["content"]) for one in talk(server, 1)[-3:])
    assert "sides is 'six', not integer" in unfit["error"]
    assert "there is no tool 'FLY'" in no_json["error"]


@pytest.mark.external
@NEEDS_ANTHROPIC
async def test_another_provider_goes_on_with_the_same_conversation() -> None:
    """Where the first one fails in the middle of the rounds."""
    async with ModelServer() as server:
        with hosting("", ["dice", "radio"], up=False) as host:
            await asyncio.to_thread(configured, host, server.url, ANTHROPIC.format(url=server.url))
            await asyncio.to_thread(host.wait_for, "anthropic", "running")
            text = {"type": "text", "text": "Five."}
            server.script(calling(("ROLL", {"sides": 6})), failing(500), Turn(body=message([text])))
            answer = await hear(host, 6)

            assert answer == {"sent": ["Five."], "failed": []}
            assert [one.path.rpartition("/")[2] for one in server.asked] == [
                *("completions", "completions", "messages"),
            ]
            said, result = talk(server, 2)[-2:]
            call = {"type": "tool_use", "id": "call_0", "name": "ROLL", "input": {"sides": 6}}
            assert said == {"role": "assistant", "content": [call]}
            assert result["content"][0]["tool_use_id"] == "call_0"


@pytest.mark.external
@NEEDS_LLMOCK
async def test_the_rounds_end_with_another_server() -> None:
    """Of a third party: it calls badly twice, then well, then answers."""
    with llmock() as server, hosting("", ["dice", "radio"], up=False) as host:
        await asyncio.to_thread(configured, host, server.url.removesuffix("/v1"))
        await asyncio.to_thread(host.wait_for, "openai", "running")
        reply = {"type": "reply", "tool_calls": [{"name": "ROLL", "arguments": {"sides": 6}}]}
        faults = [{"type": "tool_fault", "kind": kind} for kind in KINDS]
        await asyncio.to_thread(server.script, *faults, *[reply] * 3)  # a fault spoils its reply
        answer = await hear(host, 6)

        assert len(answer["sent"]) == 1
        assert len(answer["failed"]) == 2
        assert lines(host, "deeds", " ") == ["roll 6"]
