"""What the command line tells is so: versions, use of processors, and what happened when."""

import asyncio
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from tests.support.host import ROOT, Hosting, found
from tests.support.waiting import PATIENCE, until

from garrison.ipc import OrderFailed
from garrison.ipc.log_events import LogEvent


def installed(folder: Path, version: str) -> None:
    """Make a version of garrison the installed one, as pip does."""
    for old in folder.glob("*.dist-info"):
        shutil.rmtree(old)
    made = folder / f"garrison-{version}.dist-info"
    made.mkdir(parents=True)
    (made / "METADATA").write_text(f"Metadata-Version: 2.1\nName: garrison\nVersion: {version}\n")


@pytest.mark.external  # installs a package
def test_the_running_version_is_told_from_the_installed_one(host: Hosting, tmp_path: Path) -> None:
    """Between an installation and `garrison upgrade`, both are shown; then they are the same."""
    installed(tmp_path, "7.1")
    paths = f"{tmp_path}:{ROOT / '.src'}"
    one = host("[plugins.echo]\n", ["echo"], env={"PYTHONPATH": paths})
    versions = "version", "installed", "upgrade_pending"

    def shown() -> tuple[object, ...]:
        head = one.run("status", json=True).data["supervisor"]
        return tuple(head[key] for key in versions)

    assert shown() == ("7.1", "7.1", False)
    assert "upgrade pending" not in one.run("status").out

    installed(tmp_path, "7.2")

    assert shown() == ("7.1", "7.2", True)
    said = " ".join(one.run("status").out.split())
    assert "upgrade pending: the supervisor runs garrison 7.1, installed is 7.2" in said
    assert one.run("version").out == "garrison 7.2\n"
    ran = one.run("upgrade", json=True)
    assert (ran.data["from"], ran.data["version"]) == ("7.1", "7.2")
    assert shown() == ("7.2", "7.2", False)
    assert one.rows()["echo"]["cpu_seconds"] > 0.0
    assert one.ask("status")["supervisor"]["cpu_seconds"] > 0.0


BOT = """
import asyncio
from garrison.workers import Plugin, Service

class {name}(Service):
    service_type = "{type}"
    async def say(self, text: str) -> None:
        self.runtime.logger.info("%s", text)
    async def watch(self, name: str) -> str:
        async for event in self.runtime.client.events(name):
            return event.text()
    async def hear(self, name: str) -> str:
        async for _, line in self.runtime.client.logs(name, number=1):
            return line

plugin = Plugin(name="{type}", services=[{name}])
"""
BOTS = {f"{name}.py": BOT.format(name=name.title(), type=name) for name in ("ada", "bob")}


def until_next_millisecond() -> None:
    """Wait until lines have a later time than those before: of one time, any may be first."""
    before = time.time_ns() // 1_000_000
    until(lambda: time.time_ns() // 1_000_000 > before)


async def test_what_was_recorded_is_shown_by_time_pattern_and_number(host: Hosting) -> None:
    """With and without a supervisor, of several services, by the command line and by programs."""
    one = host("[plugins.ada]\n[plugins.bob]\n", files=BOTS)
    async with one.connect() as client:
        ada, bob = found(client, "ada"), found(client, "bob")
        for number in range(3):
            await ada.say(f"line {2 * number}")
            until_next_millisecond()
            await bob.say(f"line {2 * number + 1}")
            until_next_millisecond()

        following = client.events("ada", number=1)
        before = await anext(following)
        watching = ada.watch("bob")
        await asyncio.sleep(0)
        heard = await ada.hear("bob")
        pid = one.kill("bob")
        one.until_reborn("bob", pid)
        assert before.data["to"] == "running"
        assert "service=bob" in await asyncio.wait_for(watching, PATIENCE)
        assert heard.endswith("line 5")
        old = one.kill("ada")
        event = await asyncio.wait_for(anext(following), PATIENCE)
        assert (event.service, event.data["from"]) == ("ada", "running")
        one.until_reborn("ada", old)
        lines = [line async for _, line in client.logs(number=2, follow=False)]
        ends = [line[-1] for line in lines]
        assert ends == ["2", "3", "4", "5"]
        with pytest.raises(OrderFailed, match=r"client\.events"):
            await client.order("events", follow=True)
        await following.aclose()  # type: ignore[attr-defined]

    def check() -> None:
        merged = one.run("logs", "--grep", "line [0-9]").out.splitlines()
        assert [line[-1] for line in merged] == list("012345")
        assert [line[:3] for line in merged] == ["ada", "bob"] * 3
        last = one.run("logs", "-n", "1", "--grep", "line", "bob").out
        assert last.endswith("line 5\n")
        assert one.run("logs", "--until", "1h").out == ""
        (death,) = one.run("deaths", "bob", "--since", "1h", json=True).data["deaths"]
        assert one.run("deaths", "--until", "1h", json=True).data["deaths"] == []
        assert one.run("deaths", "--grep", "no such", json=True).data["deaths"] == []
        ran = one.run("events", "bob", "--grep", f"death={death['id']}", "--since", "1h", json=True)
        assert [answer["data"]["data"]["from"] for answer in ran.answers] == ["running"]
        assert one.run("events", "--until", "1h").out == ""

    journal = one.home / "logs" / "events.jsonl"
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    old_events = [LogEvent(n, now, "filler", "", {"k": n}) for n in range(1, 1001)]
    journal.with_name("events.jsonl.1").write_bytes(
        b"".join(msgspec.json.encode(event) + b"\n" for event in old_events)
    )
    await asyncio.to_thread(check)
    assert len(one.run("events", "--grep", "filler", "-n", "2000").out.splitlines()) == 1000
    assert one.end() == 0
    await asyncio.to_thread(check)
    assert len(one.run("events", "--grep", "filler", "--since", "1h").out.splitlines()) == 1000
    assert one.run("events", "-n", "1").out.split()[1] == "supervisor.stopped"


def test_a_shell_completes_names_methods_and_verbs(host: Hosting) -> None:
    """From files: without a question to a supervisor, and without one."""
    one = host("[plugins.echo]\n", ["echo"])

    def completed(*words: str) -> set[str]:
        env = {
            "_GARRISON_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(("garrison", "--home", str(one.home), *words)),
            "COMP_CWORD": str(len(words) + 2),
        }
        out = one.run(home=False, env=env).out
        return {line.partition(",")[2] for line in out.splitlines() if line}

    assert completed("resta") == {"restart"}
    for verb in ("status", "restart", "logs", "events", "deaths", "call", "wait", "chaos"):
        assert completed(verb, "ec") == {"echo"}, verb
    assert {"echo", "add"} <= completed("call", "echo", "")
    assert completed("call", "echo", "ec") == {"echo"}
    assert completed("restart", "echo", "ec") == set()  # it is given already
    one.kill("echo")
    assert completed("docs", "reference/c") == {"reference/cli", "reference/config"}
    until(lambda: completed("death", "echo-") == {"echo-1"})
    assert one.end() == 0
    assert completed("stop", "e") == {"echo"}
