"""`garrison mcp` as an assistant's client sees it."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any

import pytest
from tests.support.host import COMMAND, Host, hosting
from tests.support.waiting import until

# It is imported where it is used, as this takes a second.
pytestmark = pytest.mark.skipif(find_spec("mcp") is None, reason="the library mcp is missing")

CONFIG = '[plugins.echo]\n[plugins.signs]\n[services.echo]\n[services.other]\nplugin = "echo"\n'


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Run services to look at."""
    with hosting(CONFIG, ["echo", "signs"]) as host:
        yield host


@asynccontextmanager
async def assistant(host: Host, *options: str) -> AsyncIterator[Any]:
    """Start the server as an assistant does, and yield its client."""
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client

    words = [*COMMAND[1:], "--home", str(host.home), "mcp", "-c", str(host.config), *options]
    server = StdioServerParameters(command=COMMAND[0], args=words, env=host.environ)
    async with (
        asyncio.timeout(60),
        stdio_client(server) as (reading, writing),
        ClientSession(reading, writing) as session,
    ):
        await session.initialize()
        yield session


def text_of(result: Any) -> str:
    """Return a result's text."""
    (content,) = result.content
    text: str = content.text
    return text


async def test_an_assistant_finds_out_why(running: Host) -> None:
    """With tools that read; their values are there as such, and their mistakes are errors."""
    pid = running.kill("echo")
    running.until_reborn("echo", pid)
    until(lambda: running.run("deaths", json=True).data["deaths"])
    async with assistant(running) as session:
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
        assert "restart" not in tools
        assert all(tool.annotations.read_only_hint for tool in tools.values())

        status = await session.call_tool("status", {})
        rows = {row["name"]: row for row in status.structured_content["services"]}
        assert rows["echo"]["restarts"] == 1
        assert json.loads(text_of(status)) == status.structured_content
        death = await session.call_tool("death", {"id": "echo"})
        assert "SIGKILL" in death.structured_content["cause"]
        logs = await session.call_tool("events", {"names": ["echo"], "grep": "running", "last": 1})
        assert "to=running" in text_of(logs)

        for name, given, problem in (
            ("why", {"name": "nope"}, "no service nope; there are: "),
            ("why", {}, "the argument name is missing"),
            ("restart", {"names": ["echo"]}, "no tool restart, or it is not allowed; there are"),
            ("logs", {"names": ["--help"]}, "no service --help"),
        ):
            failed = await session.call_tool(name, given)
            assert failed.is_error
            assert problem in text_of(failed)


async def test_what_is_allowed_is_done_and_recorded(running: Host) -> None:
    """The event of the order says that an assistant gave it, and why."""
    before = running.status("other")["pid"]
    async with assistant(running, "--allow", "restart") as session:
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
        assert tools["restart"].annotations.destructive_hint
        result = await session.call_tool("restart", {"names": ["other"], "why": "it is slow"})
        assert not result.is_error
    assert running.status("other")["pid"] != before
    assert "an assistant: it is slow" in json.dumps(running.events(service="other"))


async def test_a_host_that_is_down_is_an_error_of_the_tool_alone(running: Host) -> None:
    """The server goes on, and answers again with the host."""
    async with assistant(running) as session:
        running.end()
        gone = await session.call_tool("status", {})
        assert gone.is_error
        assert "no supervisor at" in text_of(gone)
        running.up()
        assert not (await session.call_tool("status", {})).is_error


@pytest.mark.parametrize("how", ["its input ends", "Ctrl-C"])
async def test_it_ends(running: Host, how: str) -> None:
    """With exit code 0, and with nothing but the protocol on its output."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        "--home",
        str(running.home),
        "mcp",
        env=running.environ,
        cwd=running.folder,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    process.stdin.write(json.dumps(ping).encode() + b"\n")
    assert json.loads(await asyncio.wait_for(process.stdout.readline(), 30))["id"] == 1
    if how == "Ctrl-C":
        process.send_signal(signal.SIGINT)
    else:
        process.stdin.close()
    assert await asyncio.wait_for(process.stdout.read(), 30) == b""
    assert await asyncio.wait_for(process.wait(), 30) == 0


def test_an_action_that_there_is_not_is_a_mistake(running: Host) -> None:
    """And so is one that no assistant may have."""
    ran = running.run("mcp", "--allow", "restart,down")
    assert ran.code == 2
    assert "no action down; there are start, stop" in ran.err
