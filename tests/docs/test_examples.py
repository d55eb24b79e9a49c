"""The documentation's examples and transcripts run as they stand, each page by its own config.

discord.py is replaced by a stand-in that speaks with the test; the openai library is the real one,
and speaks with a server on loopback.
"""

import asyncio
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio
from tests.support.commands import inherited, run_forked
from tests.support.counterparts import Discord, OpenAI, Sent, openai
from tests.support.host import Host, Hosting, found, hosting
from tests.support.pages import PAGES, ROOT, Page
from tests.support.transcripts import differences
from tests.support.waiting import eventually

from garrison.ipc import RemoteError
from garrison.supervisor.cli.init import write_template

STAND_INS = ROOT / "tests" / "services" / "standins"
INSTALLED = {"PYTHONPATH": f"{ROOT / '.src'}:{STAND_INS}"}  # the stand-ins
ONE_LOOP = pytest.mark.asyncio(loop_scope="module")  # of tests that share their counterparts
CACHE = ROOT / ".mypy_cache" / "examples"  # openai's types take some seconds to read

GUIDE = PAGES["docs/guide/services.md"]  # run by the tests below
SERVICES = GUIDE.files
FILES = {name: text for name, text in SERVICES.items() if name != "config.toml"}
RUNNABLE = [page for page in PAGES.values() if "config.toml" in page.files and page is not GUIDE]
CLOCK = r"It is \d\d:\d\d\."
CHANNEL = 1187432093211  # as in the page's config
# One token is used by one bot of the machine, and these tests run in several processes at once.
ONE, EU = f"token-of-one-{os.getpid()}", f"token-of-eu-{os.getpid()}"
SECRETS = {
    "DISCORD_TOKEN": ONE,
    "DISCORD_TOKEN_EU": EU,
    "OPENAI_API_KEY": "key-of-openai",
}


# --- every page that has a config -------------------------------------------------------------


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.name)
def test_a_page_runs_by_its_own_config(host: Hosting, page: Page) -> None:
    """All services of a page's config run, and its transcripts come out as they are printed."""
    files = {name: text for name, text in page.files.items() if name != "config.toml"}
    running = host(page.files["config.toml"], files=files)
    states = {name: row["state"] for name, row in running.rows().items()}
    assert states == dict.fromkeys(states, "running")

    for block in page.blocks:
        if block.mark == "transcript":
            assert differences(running, block.text) == "", block.where


def test_every_transcript_runs() -> None:
    """Each console block is a transcript, on a page that has a config."""
    blocks = [block for page in PAGES.values() for block in page.blocks]
    assert [b.where for b in blocks if b.language == "console" and b.mark != "transcript"] == []
    pages = [page for page in PAGES.values() if any(b.mark == "transcript" for b in page.blocks)]

    assert [page.name for page in pages if page not in RUNNABLE] == []


# --- the plugin that is moved from elizaOS ----------------------------------------------------


class Weather(http.server.BaseHTTPRequestHandler):
    """Answers each city with its name."""

    def do_GET(self) -> None:
        """Answer."""
        city = parse_qs(urlsplit(self.path).query)["city"][0]
        self.send_response(200 if city != "Atlantis" else 404)
        self.end_headers()
        self.wfile.write(f"Rain in {city}.".encode())

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


def test_the_moved_plugin_answers_by_its_action_and_fails_as_the_page_has_it(host: Hosting) -> None:
    """The action answers in chat; where its service raises, the model answers instead."""
    page = PAGES["docs/guide/from-elizaos.md"]
    files = {name: text for name, text in page.files.items() if name != "config.toml"}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Weather) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            config = page.files["config.toml"].replace(":8080/", f":{server.server_port}/")
            running = host(config, files=files)
            lines = "How is the weather in Oslo?\nHow is the weather in Atlantis?\n"
            printed = running.run("chat", input=lines).out
        finally:
            server.shutdown()

    answers = [line for line in printed.splitlines() if line.startswith("Eliza: ")]
    assert answers[1] == "Eliza: Rain in Oslo."
    assert len(answers) == 3
    assert "Rain" not in answers[2]


# --- the examples of the guide to services ----------------------------------------------------


@dataclass
class Bots:
    """A host that runs all of the guide, and its counterparts."""

    running: Host
    discord: Discord
    server: OpenAI


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bots() -> AsyncIterator[Bots]:
    """Run the guide's config; Discord outlives the host."""
    async with Discord() as discord:
        with openai() as server:
            config = f"""{SERVICES["config.toml"]}
[services.openai.config]
base_url = "{server.url}"
[services.task.config]
steady = 0.0
poll = 0.1
[defaults]
env = {{ DISCORD_STAND_IN = "{discord.path}" }}
"""
            with hosting(config, files=FILES, env={**SECRETS, **INSTALLED}) as running:
                yield Bots(running, discord, server)
                await asyncio.to_thread(running.end)
                await discord.until_left()


@ONE_LOOP
async def test_all_examples_run_by_their_config_and_each_bot_answers_what_it_heard(
    bots: Bots,
) -> None:
    """Two bots of one class, each with its own secret: what one hears, the agent answers by the
    model, in the same channel through the same bot."""
    running, discord, server = bots.running, bots.discord, bots.server
    discord.sent.clear()
    states = {name: row["state"] for name, row in running.rows().items()}
    bundled, platforms = ["chat", "agent", "mailbox", "eliza"], ["discord", "discord-eu"]
    others = ["openai", "reminders", "task", "clock", "notification"]
    assert states == dict.fromkeys([*bundled, *platforms, *others], "running")

    before = len(server.requests())
    server.script({"type": "reply", "text": "Hello, Ada!"})
    await discord.say(ONE, 41, "I am Ada")
    assert await discord.until_sent(1) == [Sent(ONE, 41, "Hello, Ada!")]
    server.script({"type": "reply", "text": "Bonjour !"})
    await discord.say(EU, 42, "Je suis Ada")
    sent = await discord.until_sent(2)
    assert sent[1:] == [Sent(EU, 42, "Bonjour !")]

    await discord.say(EU, 42, "What time is it?")  # for the action, not the model
    sent = await discord.until_sent(3)
    assert sent[2][:2] == (EU, 42)
    assert re.fullmatch(CLOCK, sent[2].text)
    bodies = [request["body"] for request in server.requests()[before:]]
    assert [request["model"] for request in bodies] == ["gpt-4", "gpt-4"]
    system, user = bodies[0]["messages"]
    assert re.search(CLOCK, system["content"])  # the provider's text
    assert user == {"role": "user", "content": "I am Ada"}

    assert await running.call("notification", "notify", "All is well") == ["discord"]
    sent = await discord.until_sent(4)
    assert sent[3:] == [Sent(ONE, CHANNEL, "All is well")]

    for name in ("discord", "discord-eu"):
        log = running.log(name)
        assert 0 <= log.find("using discord.py 0.0") < log.find("logging in"), log


@ONE_LOOP
async def test_a_bot_that_is_killed_in_mid_answer_answers_the_next_message(bots: Bots) -> None:
    """While the model is at work on what one bot heard, that bot is killed: the other answers
    meanwhile, and when it is back it says what was asked for before, and hears again."""
    running, discord, server = bots.running, bots.discord, bots.server
    discord.sent.clear()
    server.script({"type": "delay", "seconds": 1.0}, {"type": "reply", "text": "One."})
    await discord.say(ONE, 51, "I am Ada")
    await eventually(nothing_pending(server), what="the model is at work")
    old = running.kill("discord")
    server.script({"type": "reply", "text": "Two."})
    await discord.say(EU, 52, "I am Bob")
    await discord.until_sent(2)
    assert set(discord.sent) == {
        Sent(ONE, 51, "One."),
        Sent(EU, 52, "Two."),
    }
    running.until_reborn("discord", old)
    server.script({"type": "reply", "text": "Three."})
    await discord.say(ONE, 53, "Are you there?")
    sent = await discord.until_sent(3)
    assert sent[2] == Sent(ONE, 53, "Three.")


def nothing_pending(server: OpenAI) -> Callable[[], Awaitable[bool]]:
    """Return whether all that was scripted has begun."""

    async def condition() -> bool:
        return not server.pending()

    return condition


@ONE_LOOP
async def test_each_reminder_is_sent_once(bots: Bots) -> None:
    """Also where its sender is killed; one of tomorrow waits, and one that cannot be sent is tried
    again and harms no other."""
    running, discord = bots.running, bots.discord
    discord.sent.clear()
    restarts = running.status("task")["restarts"]
    now = datetime.now(UTC)
    async with running.connect() as client:
        reminders, tasks = found(client, "reminders"), found(client, "task")
        later = await reminders.remind("later", "discord", "1", now + timedelta(days=1))
        bad = await reminders.remind("bad", "nobody", "2", now)
        good = [await reminders.remind(f"it is {n}", "discord", "3", now) for n in range(5)]

        async def statuses() -> list[str]:
            return [(await tasks.show(one))["status"] for one in good]

        old = running.kill("reminders")
        await eventually(lambda: _are(statuses, ["done"] * 5))
        running.until_reborn("reminders", old)
        assert (await tasks.show(later))["status"] == "pending"
        failed = await tasks.show(bad)
        assert failed["status"] in {"pending", "running"}
        await eventually(lambda: _has_failed(tasks, bad))
    sent = await discord.until_sent(5)
    assert sorted(sent) == [Sent(ONE, 3, f"it is {n}") for n in range(5)]
    assert running.status("task")["restarts"] == restarts


async def _are(values: Callable[[], Awaitable[object]], expected: object) -> bool:
    return await values() == expected


async def _has_failed(tasks: Any, task_id: str) -> bool:
    return bool((await tasks.show(task_id))["attempts"] > 0)


async def test_openai_is_asked_by_the_real_library(host: Hosting) -> None:
    """Text, vectors and streams come from a server that speaks as OpenAI's does; pieces arrive as
    they come; what it refuses is an error that says why, and the next provider is asked, as where
    it is stopped."""
    hello = {"messages": [{"role": "user", "content": "Hello"}], "system": "Be kind"}
    with openai() as server:
        config = f"""
[plugins]
asker = {{}}
eliza = {{}}
openai = {{ use = "my_openai" }}
[services.openai]
secrets = ["OPENAI_API_KEY"]
config = {{ base_url = "{server.url}" }}
"""
        files = {"my_openai.py": FILES["my_openai.py"]}
        running = host(config, plugins=["asker"], files=files, env=SECRETS)
        async with running.connect() as client:
            asker = found(client, "asker")
            server.script({"type": "reply", "text": "Good day."})
            params = {**hello, "max_tokens": 9, "temperature": 0.5, "stop": ["\n"]}
            assert await asker.use_model("TEXT_LARGE", params) == "Good day."
            (request,) = server.requests()
            assert request["body"] == {
                "model": "gpt-4",
                "messages": [
                    {"role": "system", "content": "Be kind"},
                    {"role": "user", "content": "Hello"},
                ],
                "max_tokens": 9,
                "temperature": 0.5,
                "stop": ["\n"],
            }

            vector = await asker.use_model("TEXT_EMBEDDING", "Hello")
            assert len(vector) == 1536
            assert vector == await asker.use_model("TEXT_EMBEDDING", {"text": "Hello"})

            # The server sends two pieces and no more, so what arrives is not kept until the end
            stall = {"type": "stream_fault", "kind": "stall", "after_chunks": 3}
            server.script({"type": "reply", "text": "One two three"}, stall)
            stream = asker.use_model_stream("TEXT_SMALL", hello)
            assert [await anext(stream), await anext(stream)] == ["One ", "two "]
            await stream.aclose()

            refused = {"message": "Incorrect API key provided: key-of-one.", "status": 401}
            server.script({"type": "fail", **refused})
            with pytest.raises(RemoteError, match=r"auth: .*401.*Incorrect API key provided"):
                await asker.use_model("TEXT_LARGE", hello, "openai")
            running.ask("restart", "openai")  # another incarnation is not passed over
            generation = running.status("openai")["generation"]

            async def sees() -> bool:
                return bool(await asker.sees("openai", generation))

            await eventually(sees)
            server.script({"type": "fail", "status": 500, "retry_after": 0})
            with pytest.raises(RemoteError, match=r"busy, retry after 0 s: .*500"):
                await asker.use_model("TEXT_LARGE", hello, "openai")
            server.script({"type": "fail", "status": 500, "retry_after": 0})
            assert await asker.use_model("TEXT_LARGE", hello)  # by eliza, of a lower priority
            server.script({"type": "reply", "text": "At the next attempt."})
            assert await asker.use_model("TEXT_LARGE", hello) == "At the next attempt."

            server.end()
            with pytest.raises(RemoteError, match="busy: Connection error"):
                await asker.use_model("TEXT_LARGE", hello, "openai")
            assert await asker.use_model("TEXT_LARGE", hello)
            running.ask("stop", "openai")
            assert await asker.use_model("TEXT_LARGE", hello)  # by eliza, of a lower priority
            with pytest.raises(RemoteError, match="no model TEXT_LARGE"):
                await asker.use_model("TEXT_LARGE", hello, "openai")


@pytest.mark.parametrize("in_background", [False, True])
def test_a_token_that_is_refused_is_a_failed_start_with_its_reason(
    host: Hosting, in_background: bool
) -> None:
    """What `start` raises, or background work that it waits for, ends it, and `status` says why."""
    code = SERVICES["my_discord.py"]
    if in_background:
        login = '        await self.client.login(self.runtime.get_setting("DISCORD_TOKEN"))\n'
        assert login in code
        code = code.replace(login, "").replace(
            "client.connect()", 'client.start(self.runtime.get_setting("DISCORD_TOKEN"))'
        )
    config = """
[plugins]
discord = { use = "my_discord:discord_plugin" }
[services.discord]
secrets = ["DISCORD_TOKEN"]
"""
    env = {"DISCORD_TOKEN": "bad", **INSTALLED}
    running = host(config, files={"my_discord.py": code}, env=env)
    row = running.status("discord")

    assert row["state"] != "running"
    assert "Improper token" in row["reason"]


@pytest.mark.external  # reads the types of the openai library
def test_the_examples_are_typed(tmp_path: Path) -> None:
    """mypy in strict mode finds nothing in any example, with a typed stand-in for discord.py and
    the real openai, nor in what `garrison init` writes. An example's name is used once in all
    pages."""
    shutil.copy(STAND_INS / "discord.py", tmp_path)
    named = [name for page in PAGES.values() for name in page.files if name.endswith(".py")]
    assert len(named) == len(set(named))
    for page in PAGES.values():
        for name, text in page.files.items():
            (tmp_path / name).write_text(text)
    first = write_template(tmp_path / "first")[1]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--no-error-summary",
            *named,
            str(first),
            f"--cache-dir={CACHE}",
        ],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "MYPYPATH": f"{ROOT / '.src'}:{tmp_path}"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout + done.stderr == ""


async def test_the_example_of_a_test_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the guide shows as a test of the notifier is one, and passes."""
    for name in ("my_notification.py", "test_notification.py"):
        (tmp_path / name).write_text(FILES[name])
    monkeypatch.syspath_prepend(tmp_path)
    names: dict[str, Any] = {"__name__": "test_notification"}
    exec(FILES["test_notification.py"], names)

    await names["test_notify_sends_to_discord"]()
    monkeypatch.delitem(sys.modules, "my_notification")


def test_what_init_writes_runs(host: Hosting, tmp_path: Path) -> None:
    """`garrison init` writes a config and a first service that run and answer."""
    made = tmp_path / "bot"
    assert run_forked(["init", str(made)], tmp_path, inherited()).returncode == 0
    files = {"hello.py": (made / "hello.py").read_text()}
    running = host((made / "config.toml").read_text(), files=files)

    assert {row["state"] for row in running.rows().values()} == {"running"}
    assert running.run("call", "hello", "greet", '["Ada"]').out == "Hello, Ada!\n"
    assert running.run("call", "hello", "count", '{"until": 2}').out == "1\n2\n"
