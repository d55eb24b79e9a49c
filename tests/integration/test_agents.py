"""Several agents in one host: each with its own services, its own character, its own secrets."""

import asyncio
import json
import os
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest
from tests.support.host import LONG_GRACE, Host, Hosting, found
from tests.support.waiting import eventually, until

from garrison.ipc import CallError, OrderFailed

TWO = """
[plugins.echo]
[plugins.steady]
[agents.ada]
character = "both.json"
plugins = ["echo"]
[agents.ada.services.other]
plugin = "echo"
depends_on = ["echo"]
[agents.max]
character = "both.json#Max"
plugins = ["echo"]
[agents.max.services.other]
plugin = "echo"
"""
BOTH = [
    {"name": "Ada", "bio": "One.", "settings": {"voice": {"model": "a"}}},
    {"name": "Max", "bio": ["Two."], "settings": {"voice": {"model": "b"}, "LOUD": False}},
]


def agents(host: Hosting, config: str = TWO) -> Host:
    """Return a host with two agents, which run the same services."""
    return host(config, ["echo", "steady"], files={"both.json": json.dumps(BOTH)})


def pids(running: Host) -> dict[str, int]:
    """Return the process of each service."""
    return {name: row["pid"] for name, row in running.rows().items()}


async def test_each_agent_finds_its_own(host: Hosting) -> None:
    """Own and shared services by type and NAME, another agent's by its full NAME only. Each one has
    its agent's character."""
    running = agents(host)
    pid = pids(running)
    assert list(pid) == ["steady", *(f"{a}.{s}" for a in ("ada", "max") for s in ("echo", "other"))]

    for agent, model in (("ada", "a"), ("max", "b")):
        other = f"{agent}.other"
        assert await running.call(other, "ask", "echo", "pid", []) == pid[f"{agent}.echo"]
        assert await running.call(other, "ask", "other", "pid", []) == pid[other]
        assert await running.call(other, "ask", "max.echo", "pid", []) == pid["max.echo"]
        known = await running.call(other, "known")
        assert set(known) == {"echo", "steady"}
        assert len(known["echo"]) == 2
        assert await running.call(other, "setting", "voice") == {"model": model}
        row = running.status(other)
        assert (row["agent"], row["character"]) == (agent, agent.title())
    assert await running.call("max.other", "setting", "LOUD") is False
    assert running.status("steady")["agent"] is None
    async with running.connect() as client:  # a client finds all services, shared ones first
        assert client.has_service("echo")
        assert [repr(one) for one in client.get_services_by_type("echo")] == [
            repr(found(client, name)) for name in pid if name != "steady"
        ]


def test_one_agents_restart_leaves_the_other(host: Hosting) -> None:
    """A crash, an order for all services of one agent, and the output of `status`."""
    running = agents(host)
    before = pids(running)

    running.until_reborn("ada.echo", running.kill("ada.echo"))
    assert running.run("restart", "ada.*").code == 0
    after = pids(running)
    assert {name for name in before if after[name] != before[name]} == {"ada.echo", "ada.other"}
    shown = running.run("status").out
    assert max(map(len, shown.splitlines())) <= 80
    assert "ada.echo" in shown
    detail = running.run("status", "ada.other").out
    for words in (["agent", "ada"], ["character", "Ada"], ["depends", "on", "ada.echo"]):
        assert words in [line.split() for line in detail.splitlines()]
    running.ask("stop", "max.*")
    states = {name: row["state"] for name, row in running.rows().items()}
    assert {name for name, state in states.items() if state == "stopped"} == {
        "max.echo",
        "max.other",
    }


async def test_agents_survive_their_supervisor(host: Hosting) -> None:
    """Their processes are adopted, each for its own agent. A service that is no longer configured
    is not."""
    running = agents(host, LONG_GRACE + TWO)
    before = pids(running)

    os.kill(running.pid, signal.SIGKILL)
    assert running.process is not None
    running.process.wait()
    moved = LONG_GRACE + TWO.replace("[agents.max.services.other]", "[agents.max.services.third]")
    running.write("config.toml", moved)
    running.up()
    after = pids(running)
    assert {name: pid for name, pid in after.items() if name in before} == {
        name: pid for name, pid in before.items() if name != "max.other"
    }
    assert set(after) - set(before) == {"max.third"}
    assert await running.call("max.third", "ask", "echo", "pid", []) == before["max.echo"]
    assert await running.call("ada.other", "ask", "echo", "pid", []) == before["ada.echo"]


async def test_a_character_is_loaded_again_at_a_restart(host: Hosting) -> None:
    """If it is invalid, the running service stays, and `check` reports the same error."""
    running = agents(host)
    pid = running.status("ada.echo")["pid"]
    changed = [{**BOTH[0], "settings": {"voice": "new"}}, BOTH[1]]

    running.write("both.json", json.dumps(changed)[:-5])
    with pytest.raises(OrderFailed, match=r"agents.ada.character: .*both.json: it is not JSON"):
        running.ask("restart", "ada.echo")
    checked = running.run("check")
    assert checked.code != 0
    assert "config.toml:5: agents.ada.character: " in checked.err
    assert running.status("ada.echo")["pid"] == pid
    assert await running.call("ada.echo", "setting", "voice") == {"model": "a"}

    running.write("both.json", json.dumps(changed))
    running.ask("restart", "ada.echo")
    assert await running.call("ada.echo", "setting", "voice") == "new"
    assert await running.call("ada.other", "setting", "voice") == {"model": "a"}


PARTS = """
[plugins]
free = { use = "parts:without_service" }
models = { use = "parts:with_services" }
asking = { use = "parts:asking" }
[agents.ada]
[agents.ada.services.words-2]
plugin = "models"
type = "words"
priority = 9
[agents.max]
plugins = ["models", "asking"]
"""


async def test_an_agent_uses_its_own_components(host: Hosting) -> None:
    """Not the actions, models, events and send handlers of another agent."""
    running = host(PARTS, ["parts"])
    async with running.connect() as client:
        ada, max_ = (found(client, f"{name}.asker") for name in ("ada", "max"))
        known = [{tuple(one) for one in (await who.known())["actions"]} for who in (ada, max_)]
        assert {("SHOUT", "ada.free"), ("NOTHING", "ada.words")} < known[0]
        assert known[1] == {("NOTHING", "max.words")}

        assert await ada.model("IMAGE", {"prompt": "x"}) == {"url": "ada.free/x"}
        assert "no service offers it" in await max_.model("IMAGE", {"prompt": "x"})
        for name, provider, whose in (
            ("ada", None, "ada.words-2"),  # for its priority
            ("ada", "words", "ada.words"),
            ("ada", "words-2", "ada.words-2"),
            ("max", None, "max.words"),
        ):
            pid = running.status(whose)["pid"]
            ending = await found(client, f"{name}.asker").model("TEXT_SMALL", "well", provider)
            assert ending.strip() == "well"
            assert running.status(whose)["messages_from"].get(f"{name}.asker"), (name, provider)
            assert running.status(whose)["pid"] == pid
        assert "does not offer it" in await max_.model("TEXT_SMALL", "well", "words-2")

        assert await max_.send("pigeon", "hi") == "max.asker sent hi to 7"
        await max_.emit("a whisper")
        await ada.emit("a shout")
        assert await ada.model("SEEN", None) == ["a shout"]
        await max_.register("LATE")

        async def late() -> bool:
            return ["LATE", "max.asker"] in (await max_.known())["actions"]

        await eventually(late, timeout=5.0)  # not with whatever happens next
        assert "LATE" not in {name for name, _ in (await ada.known())["actions"]}
    shown = running.run("status", "ada.words-2").out
    assert "TEXT_SMALL, priority 9, streams" in shown
    shown = running.run("status", "ada.free").out
    assert "SHOUT: Shouts" in shown
    assert "NOTE" in shown


def test_an_invalid_config_is_reported_at_its_line(host: Hosting) -> None:
    """In the agent's section. `check` reports it without a start; only that service fails."""
    text = "[plugins.chat]\n[plugins.eliza]\n[agents.ada]\n[agents.max]\n"
    text += "[agents.ada.services.chat.config]\nanswerer = 3\n"
    running = host(text)

    problem = "config.toml:6: agents.ada.services.chat.config.answerer: "
    checked = running.run("check")
    assert checked.code != 0
    assert problem in checked.out + checked.err
    assert problem in running.status("ada.chat")["reason"]
    assert running.status("max.chat")["state"] == "running"


# --- secrets ------------------------------------------------------------------------------

NAMED = """
[plugins.echo]
[plugins.keeper]
[agent]
character = "eliza.json"
[services.keeper]
secrets = ["TOKEN"]
"""


async def test_a_characters_secret_reaches_only_the_services_that_name_it(host: Hosting) -> None:
    """Not another worker's environment, settings, log or crash report. A service that requests a
    withheld secret logs once which key to set."""
    secret, nested, loose = (f"cAn4ry-{uuid.uuid4().hex}" for _ in range(3))
    character = {
        "name": "Eliza",
        "secrets": {"TOKEN": secret, "EMPTY": ""},
        "settings": {"secrets": {"NESTED": nested, "LOOSE": loose}, "url": "u"},
    }
    running = host(
        NAMED + '[services.second]\nplugin = "echo"\nsecrets = { MINE = "NESTED" }\n',
        ["echo", "keeper"],
        files={"eliza.json": json.dumps(character)},
        env={"TOKEN": "the supervisor's"},
        up=False,
    )
    (running.folder / "eliza.json").chmod(0o600)
    running.up()
    canaries = {"TOKEN": secret, "NESTED": nested, "LOOSE": loose}

    assert await running.call("keeper", "tell") == secret
    assert await running.call("second", "setting", "MINE") == nested
    assert await running.call("echo", "setting", "url") == "u"
    for _ in range(2):
        assert await running.call("echo", "setting", "LOOSE") is None
        assert await running.call("echo", "setting", "TOKEN") is None
    assert await running.call("echo", "setting", "EMPTY") == ""
    assert running.log("echo").count("setting.withheld LOOSE is a secret of Eliza's") == 1
    assert 'add secrets = ["TOKEN"] to [services.echo] in the config' in running.log("echo")

    held = _held(running, canaries)
    assert held == {"keeper": {"TOKEN"}, "second": {"NESTED"}, "echo": set()}
    note = next(line for line in running.run("check").out.splitlines() if "LOOSE" in line)
    assert note.startswith("note: ")
    assert "no service is given: LOOSE; " in note
    await _spilled(running)
    assert "[TOKEN]" in running.log("keeper")
    running.end()
    assert _written(running.folder, canaries) == []


def _held(running: Host, canaries: dict[str, str]) -> dict[str, set[str]]:
    """Return which secrets are in the environment or memory of each worker."""
    from tests.integration.test_secrets import holders

    names = {name: pid for name, pid in pids(running).items() if pid}
    return holders(names, canaries)


async def _spilled(running: Host) -> None:
    """Make the keeper write its secret to every output, and crash with it."""
    async with running.connect() as client:
        keeper: Any = found(client, "keeper")
        await keeper.spill()
        pid = running.status("keeper")["pid"]
        with pytest.raises(CallError):
            await asyncio.gather(keeper.crash(), keeper.fail())
    running.until_reborn("keeper", pid)


def _written(folder: Path, canaries: dict[str, str]) -> list[tuple[str, str]]:
    return [
        (str(path), name)
        for path in folder.rglob("*")
        if path.is_file() and path.name != "eliza.json"
        for name, text in canaries.items()
        if text.encode() in path.read_bytes()
    ]


async def test_a_readable_character_file_is_rejected_if_its_secrets_are_used(host: Hosting) -> None:
    """Other services start. After a chmod, the service that uses a secret starts too."""
    running = host(
        NAMED, ["echo", "keeper"], files={"eliza.json": '{"name": "E", "secrets": {"TOKEN": "t0"}}'}
    )
    path = running.folder / "eliza.json"
    mode = f"{path.stat().st_mode & 0o777:04o}"

    problem = f"secret TOKEN: {path} has mode {mode}, so others can get at it: chmod 600 {path}"
    assert running.wait_for("keeper", "failed")["reason"] == problem
    assert problem in running.run("check").out
    assert running.status("echo")["state"] == "running"
    path.chmod(0o600)
    running.ask("start", "keeper")
    assert await running.call("keeper", "tell") == "t0"


# --- the terminal -------------------------------------------------------------------------


def test_a_user_chats_with_an_agent_by_name(host: Hosting) -> None:
    """By the NAME of its chat or its own name. Without a name, several agents are an error."""
    running = host("[plugins.chat]\n[plugins.agent]\n[plugins.eliza]\n[agents.ada]\n[agents.max]\n")

    for name in ("ada", "max.chat"):
        done = running.run("chat", name, input="I am sad\n")
        assert (done.code, "sad" in done.out.lower()) == (0, True), done
    done = running.run("chat", input="")
    assert done.code != 0
    assert "there are several to chat with: ada.chat, max.chat; name one of them" in done.err
    for verb in (["restart", "ada"], ["status", "ada"], ["call", "ada", "say"]):
        done = running.run(*verb)  # an agent is no service
        assert done.code == 4
        assert "no service ada; " in done.err
        assert "'ada.*'" in done.err
    done = running.run("chat", "eva", input="")
    assert "no service eva" in done.err


def test_a_chat_of_one_agent_needs_no_name(host: Hosting) -> None:
    """There is only one."""
    running = host("[plugins.chat]\n[plugins.agent]\n[plugins.eliza]\n[agents.ada]\n")

    done = running.run("chat", input="I am sad\n")
    assert (done.code, "sad" in done.out.lower()) == (0, True), done
    until(lambda: running.status("ada.chat")["state"] == "running")
