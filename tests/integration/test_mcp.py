"""The mcp service with real servers, over pipes and HTTP, of 2025 and of now, with faults."""

import asyncio
import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support import proc
from tests.support.host import Host, found, hosting
from tests.support.model_server import ModelServer, Turn, completion
from tests.support.ports import free_port
from tests.support.waiting import eventually, until

from garrison.ipc import Client, RemoteError
from garrison.workers.services.mcp import McpFailed, McpUnavailable

pytestmark = [
    pytest.mark.external,
    pytest.mark.skipif(
        importlib.util.find_spec("mcp") is None,
        reason="the library mcp is not installed: pip install '.[external]'",
    ),
]
SUPPORT = Path(__file__).parent.parent / "support"
PLAIN, LIBRARY = SUPPORT / "plain_mcp_server.py", SUPPORT / "mcp_server.py"
CONFIG = """
[defaults]
intensity = 0
[plugins]
agent = {{}}
openai = {{}}
radio = {{}}
mcp = {{}}
[services.radio.config]
file = "{folder}/sent"
[services.agent.config]
decide = "model"
[services.openai.config]
base_url = "http://127.0.0.1:{models}/v1"
[services.mcp]
secrets = ["PLAIN_TOKEN", "WEB_TOKEN"]
[services.mcp.config]
wait = 2.0
[services.mcp.config.servers.plain]
command = "{python}"
args = ["{plain}", "babble", "late"]
env = {{ NOTES = "{folder}/notes", KEY = "Bearer ${{PLAIN_TOKEN}}", {mark} }}
secrets = ["PLAIN_TOKEN"]
deny = ["die*"]
resources = ["notes://*"]
sampling = true
timeout = 1.0
connect_timeout = 5.0
answer_bytes = 1000000
[services.mcp.config.servers.mute]
command = "{python}"
args = ["{plain}", "mute"]
env = {{ {mark} }}
connect_timeout = 0.5
[services.mcp.config.servers.broken]
command = "{python}"
args = ["{plain}", "broken"]
[services.mcp.config.servers.nowhere]
command = "no-such-command"
[services.mcp.config.servers.lacking]
command = "{python}"
secrets = ["NEVER_SET"]
[services.mcp.config.servers.web]
url = "http://127.0.0.1:{web}/mcp"
headers = {{ authorization = "Bearer ${{WEB_TOKEN}}" }}
secrets = ["WEB_TOKEN"]
timeout = 5.0
[services.mcp.config.servers.refused]
url = "http://127.0.0.1:{web}/mcp"
"""
SECRETS = {"PLAIN_TOKEN": f"hush-plain-{os.getpid()}", "WEB_TOKEN": f"hush-web-{os.getpid()}"}


def proc_bytes(pid: int, name: str) -> bytes:
    """Return what /proc says of a process."""
    return Path(f"/proc/{pid}/{name}").read_bytes()


def is_listening(port: int) -> bool:
    """Return whether a port takes connections."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def web_server(port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the library's server over HTTP."""
    token = f"Bearer {SECRETS['WEB_TOKEN']}"
    command = [sys.executable, str(LIBRARY), str(port), token]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: is_listening(port), what="it listens")
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    """Return the ports of the servers."""
    return {"models": free_port(), "web": free_port()}


@pytest.fixture(scope="module")
def running(ports: dict[str, int]) -> Iterator[Host]:
    """Return a host that all tests here share."""
    with web_server(ports["web"]), hosting("", ["radio"], env=SECRETS, up=False) as host:
        mark = f'{proc.MARK} = "{host.mark}"'
        text = CONFIG.format(
            folder=host.folder, python=sys.executable, plain=PLAIN, mark=mark, **ports
        )
        host.write("config.toml", text)
        yield host.up()


@pytest.fixture
async def client(running: Host) -> AsyncIterator[Client]:
    """Return a client of the host."""
    async with running.connect() as there:
        yield there


def mcp(client: Client) -> Any:
    """Return the service."""
    return found(client, "mcp")


async def until_connected(client: Client, server: str) -> dict[str, Any]:
    """Wait until a server is connected; return what is said of it."""

    async def connected() -> Any:
        rows = {one["name"]: one for one in await mcp(client).servers()}
        return rows[server] if rows[server]["connected"] else None

    row: dict[str, Any] = await eventually(connected, what=f"{server} is connected")
    return row


# --- servers --------------------------------------------------------------------------------


async def test_servers_that_work_do_beside_those_that_do_not(running: Host, client: Client) -> None:
    """Each that is not connected has a line in `status`, with its reason."""
    await until_connected(client, "plain")
    await until_connected(client, "web")
    assert (await mcp(client).call_tool("plain", "echo", {"text": "hi"}))["text"] == "hi"
    assert (await mcp(client).call_tool("web", "add", {"a": 1, "b": 2}))["structured"] == {
        "result": 3
    }
    wanted = (
        "mute is not connected: it did not answer within 0.5 s",
        "broken is not connected: it exited with 1: there is no disk",
        "nowhere is not connected: it cannot be started: No such file or directory: no-such-",
        "lacking is not connected: NEVER_SET is not set",
        "refused is not connected: HTTP 401: it refuses the credentials; check `headers`",
    )

    async def shown() -> bool:
        warnings = running.status("mcp")["warnings"]
        return all(any(one in line for line in warnings) for one in wanted)

    await eventually(shown, what=running.log("mcp"))
    facts = running.status("mcp")["facts"]
    assert (facts["servers"], facts["connected"]) == (7, 2)
    with pytest.raises(McpUnavailable, match="nowhere is not connected"):
        await mcp(client).call_tool("nowhere", "x")


async def test_a_tool_that_is_not_offered_cannot_be_called(client: Client) -> None:
    """Neither what `deny` names, nor what may destroy data."""
    await until_connected(client, "plain")
    tools = {one["name"]: one for one in await mcp(client).tools("plain")}
    assert tools["echo"]["action"] == "PLAIN_ECHO"
    for name, why in (("die", "`deny`"), ("wipe", "destroy")):
        assert why in tools[name]["withheld"]
        with pytest.raises(RemoteError, match="is not offered"):
            await mcp(client).call_tool("plain", name)
    with pytest.raises(RemoteError, match="has no tool 'dance'"):
        await mcp(client).call_tool("plain", "dance")
    with pytest.raises(RemoteError, match="there is no server 'other'"):
        await mcp(client).call_tool("other", "x")


async def test_a_server_gets_its_own_secrets_and_nothing_else(
    running: Host, client: Client
) -> None:
    """They are in its environment, not in its command or in a log."""
    row = await until_connected(client, "plain")
    result = await mcp(client).call_tool("plain", "environment")
    # A server that sends its secrets back does not show them to the model
    given = json.loads(result["text"])
    assert given["KEY"] == "Bearer [PLAIN_TOKEN]"
    assert {"OPENAI_API_KEY", "WEB_TOKEN", "NEVER_SET"} & given.keys() == set()
    assert "XDG_RUNTIME_DIR" not in given
    environ, command = (proc_bytes(row["pid"], name) for name in ("environ", "cmdline"))
    assert f"KEY=Bearer {SECRETS['PLAIN_TOKEN']}".encode() in environ
    assert SECRETS["WEB_TOKEN"].encode() not in environ
    assert b"hush" not in command
    assert "it is warm here" in running.log("mcp")
    assert "hush" not in running.log("mcp")


FAULTS = [
    ("hang", "did not answer within 1 s", False),
    ("huge", "`answer_bytes` is 1,000,000", True),
]


@pytest.mark.parametrize(("tool", "text", "is_known"), FAULTS)
async def test_a_call_that_fails_fails_alone(
    client: Client, tool: str, text: str, is_known: bool
) -> None:
    """Its error says whether it may be done; another call of the same server is answered."""
    before = await until_connected(client, "plain")
    failing = asyncio.ensure_future(mcp(client).call_tool("plain", tool))
    assert (await mcp(client).call_tool("plain", "echo", {"text": "hi"}))["text"] == "hi"
    with pytest.raises(McpFailed, match=text) as raised:
        await failing
    assert (raised.value.server, raised.value.is_known) == ("plain", is_known)
    assert (await until_connected(client, "plain"))["pid"] == before["pid"]


async def test_results_of_all_kinds(client: Client) -> None:
    """An image, a failure of the tool, a prompt, a resource."""
    await until_connected(client, "plain")
    image = await mcp(client).call_tool("plain", "picture")
    assert image["attachments"][0]["url"].startswith("data:image/png;base64,iVBO")
    failed = await mcp(client).call_tool("plain", "fail")
    assert (failed["is_error"], failed["text"]) == (True, "it is broken")
    assert await mcp(client).prompts("plain") == [{"name": "greet"}]
    assert (await mcp(client).get_prompt("plain", "greet"))["messages"][0]["role"] == "user"
    assert await mcp(client).read_resource("plain", "notes://x") is not None
    assert (await mcp(client).resources("plain"))[0]["uri"] == "notes://today"


@pytest.mark.parametrize("server", ["plain", "web"])
async def test_tools_come_and_go_while_the_server_runs(client: Client, server: str) -> None:
    """A notice of the server changes what the agent is offered."""
    await until_connected(client, server)
    key = "text" if server == "plain" else "name"

    async def has(action: str) -> bool:
        entry = client.directory.get("mcp")
        assert entry is not None
        return any(one.name == action for one in entry.manifest.actions)

    action = f"{server.upper()}_DANCE"
    await mcp(client).call_tool(server, "learn", {key: "dance"})
    await eventually(lambda: has(action), what=f"{action} is offered")
    if server == "plain":
        await mcp(client).call_tool(server, "learn", {key: "dance"})

        async def is_gone() -> bool:
            return not await has(action)

        await eventually(is_gone, what=f"{action} is not offered")


async def test_a_server_over_http_that_was_started_anew_is_used_again(
    ports: dict[str, int], running: Host, client: Client
) -> None:
    """Its end concerns the calls of that time alone."""
    await until_connected(client, "web")
    with pytest.raises(McpFailed):
        await mcp(client).call_tool("web", "die")
    with web_server(ports["web"]):
        await until_connected(client, "web")
        assert (await mcp(client).call_tool("web", "add", {"a": 2, "b": 2}))["text"] == "4"


# --- the agent ------------------------------------------------------------------------------


@pytest.fixture
async def models(ports: dict[str, int]) -> AsyncIterator[ModelServer]:
    """Return the server of the agent's model."""
    async with ModelServer(ports["models"]) as there:
        yield there


def calling(name: str, **arguments: Any) -> Turn:
    """Return a turn in which the model calls a tool."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    call = {"id": "c1", "type": "function", "function": function}
    said = {"role": "assistant", "content": None, "tool_calls": [call]}
    return Turn(body=completion(said, "tool_calls"))


async def test_an_agents_model_calls_a_tool_and_sees_its_result(
    running: Host, client: Client, models: ModelServer
) -> None:
    """It is offered with the server's schema; an image is sent to the room."""
    await until_connected(client, "plain")
    models.script(calling("PLAIN_ECHO", text="echoed"), calling("PLAIN_PICTURE"), Turn("Done."))
    answer = await running.call("radio", "hear", "Say it", "m1", "room1")
    assert (answer["sent"][-1], answer["failed"]) == ("Done.", [])
    tools = {one["function"]["name"]: one["function"] for one in models.asked[0].body["tools"]}
    assert tools["PLAIN_ECHO"]["parameters"]["required"] == ["text"]
    assert tools["PLAIN_ECHO"]["description"] == "Says it again"
    assert "PLAIN_WIPE" not in tools
    assert "MUTE_ECHO" not in tools
    (result,) = [one for one in models.asked[1].body["messages"] if one["role"] == "tool"]
    said = json.loads(result["content"])
    assert (said["text"], said["success"]) == ("echoed", True)
    shown = json.loads(models.asked[2].body["messages"][-1]["content"])
    assert shown["attachments"] == ["image/png"]


async def test_a_resource_is_in_the_prompt_as_it_is_now(
    running: Host, client: Client, models: ModelServer
) -> None:
    """A notice of the server has it read again."""
    await until_connected(client, "plain")
    await mcp(client).call_tool("plain", "rewrite", {"text": "the blue note"})

    async def is_shown() -> bool:
        await running.call("radio", "hear", "Look", f"look{len(models.asked)}", "room3")
        return "today:\\nthe blue note" in json.dumps(models.body["messages"])

    await eventually(is_shown, what="the resource is in the prompt")


async def test_a_server_may_ask_for_a_model_and_for_nothing_else(
    client: Client, models: ModelServer
) -> None:
    """Where its config allows that; requests for input are refused, and the call goes on."""
    await until_connected(client, "plain")
    models.script(Turn("I think so."))

    async def asked(method: str) -> Any:
        result = await mcp(client).call_tool("plain", "ask", {"text": method})
        return json.loads(result["text"])

    answer = await asked("sampling/createMessage")
    assert (answer["content"]["text"], answer["role"]) == ("I think so.", "assistant")
    assert models.body["messages"][-1] == {"role": "user", "content": "Think"}
    for method in ("elicitation/create", "roots/list"):
        assert "not supported" in (await asked(method))["message"]


async def test_a_tool_that_fails_is_told_to_the_model(
    running: Host, client: Client, models: ModelServer
) -> None:
    """So is a call of a server that gives no answer; the answer goes on."""
    await until_connected(client, "plain")
    models.script(calling("PLAIN_FAIL"), calling("PLAIN_HANG"), Turn("It did not work."))
    answer = await running.call("radio", "hear", "Do it", "m2", "room2")
    assert answer["sent"] == ["It did not work."]
    failed, hung = (
        json.loads(models.asked[number].body["messages"][-1]["content"]) for number in (1, 2)
    )
    assert failed == {"error": "it is broken", "success": False}
    assert (hung["success"], "did not answer" in hung["error"]) == (False, True)
