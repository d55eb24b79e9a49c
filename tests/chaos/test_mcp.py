"""Kills of the mcp service and of its servers: tools come back, no call is made twice, no process
is left."""

import asyncio
import importlib.util
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import proc
from tests.support.host import Host, found, hosting
from tests.support.waiting import eventually, until

from garrison.ipc import CallError, Client
from garrison.workers.services.mcp import McpFailed, McpUnavailable

pytestmark = [
    pytest.mark.external,
    pytest.mark.skipif(
        importlib.util.find_spec("mcp") is None,
        reason="the library mcp is not installed: pip install '.[external]'",
    ),
]
PLAIN = Path(__file__).parent.parent / "support" / "plain_mcp_server.py"
CONFIG = """
[defaults]
intensity = 0
[plugins]
mcp = {{}}
[services.mcp.config]
wait = 0.0
[services.mcp.config.servers.plain]
command = "{python}"
args = ["{plain}"]
env = {{ NOTES = "{folder}/notes", {mark} }}
allow = ["*"]
[services.mcp.config.servers.mute]
command = "{python}"
args = ["{plain}", "mute"]
env = {{ {mark} }}
connect_timeout = 3600.0
"""
WITHIN_S = 0.03  # after a call began
OF_SERVERS = b"GARRISON_CHILD="


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Run the service, with a server that works and one that never answers."""
    with hosting("", up=False) as host:
        mark = f'{proc.MARK} = "{host.mark}"'
        text = CONFIG.format(folder=host.folder, python=sys.executable, plain=PLAIN, mark=mark)
        host.write("config.toml", text)
        yield host.up()


def of_servers(host: Host) -> set[int]:
    """Return the pids of all processes that servers are, or have started."""
    return {pid for pid in host.processes() if OF_SERVERS in environ(pid)}


def environ(pid: int) -> bytes:
    """Return a process's environment; empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def mcp(client: Client) -> Any:
    """Return the service."""
    return found(client, "mcp")


async def connected(client: Client, old: int = 0) -> dict[str, Any]:
    """Wait until the server is connected, not as an old process; return what is said of it."""

    async def there() -> Any:
        try:
            rows = {one["name"]: one for one in await mcp(client).servers()}
        except CallError:
            return None
        return rows["plain"] if rows["plain"]["pid"] not in {0, old} else None

    row: dict[str, Any] = await eventually(there, what="the server is connected")
    return row


async def both_run(client: Client, host: Host) -> set[int]:
    """Wait until both servers run, and one has left a process; return their pids."""
    await connected(client)
    left = int((await mcp(client).call_tool("plain", "leave"))["text"])
    await asyncio.to_thread(until, lambda: len(of_servers(host)) >= 3, what="three processes")
    pids = of_servers(host)
    assert left in pids
    return pids


def notes(host: Host) -> Counter[str]:
    """Return how often each note was written."""
    path = host.folder / "notes"
    return Counter(path.read_text().split()) if path.exists() else Counter()


@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=pytest.mark.soak)])
async def test_no_process_of_a_server_outlives_the_worker(running: Host, kills: int) -> None:
    """Killed in a call: the call is not made twice, and the tools are there again."""
    written = list[str]()
    async with running.connect() as client:
        for number in range(kills):
            before = await both_run(client, running)

            def has_ended(before: set[int] = before) -> bool:
                return not before & of_servers(running)

            text = f"w{kills}-{number}"
            call = asyncio.ensure_future(mcp(client).call_tool("plain", "note", {"text": text}))
            await asyncio.sleep(random.uniform(0, WITHIN_S))
            old = running.kill("mcp")
            try:
                await call
                written.append(text)
            except CallError:
                pass  # it is not known
            await asyncio.to_thread(running.until_reborn, "mcp", old)
            await asyncio.to_thread(running.ask, "reset", "mcp")  # it restarts at once, each time
            await asyncio.to_thread(until, has_ended, what="the servers have ended")
        await connected(client)
    counted = notes(running)
    assert [text for text in written if counted[text] != 1] == []
    assert max(counted.values(), default=0) <= 1


@pytest.mark.parametrize("kills", [10, pytest.param(100, marks=pytest.mark.soak)])
async def test_a_server_that_is_killed_comes_back(running: Host, kills: int) -> None:
    """Calls that may run twice are answered; others once or not at all. The worker stays."""
    written = list[str]()
    async with running.connect() as client:
        row = await connected(client)
        pid = running.status("mcp")["pid"]
        for number in range(kills):
            await mcp(client).call_tool("plain", "leave")
            text = f"s{kills}-{number}"
            echo = asyncio.ensure_future(mcp(client).call_tool("plain", "echo", {"text": text}))
            note = asyncio.ensure_future(mcp(client).call_tool("plain", "note", {"text": text}))
            await asyncio.sleep(random.uniform(0, WITHIN_S))
            os.kill(row["pid"], signal.SIGKILL)
            answers = await asyncio.gather(echo, note, return_exceptions=True)
            assert not isinstance(answers[0], BaseException), answers[0]
            if isinstance(answers[1], BaseException):
                assert isinstance(answers[1], McpFailed | McpUnavailable), answers[1]
            else:
                written.append(text)
            row = await connected(client, row["pid"])
            assert len(of_servers(running)) == 2
        assert (await mcp(client).call_tool("plain", "echo", {"text": "x"}))["text"] == "x"
        assert running.status("mcp")["pid"] == pid
    counted = notes(running)
    assert [text for text in written if counted[text] != 1] == []
    assert max(counted.values(), default=0) <= 1
