"""A service that is renamed by `was` keeps its data, its mail and its orders."""

import signal
from pathlib import Path

import pytest
from tests.support.host import Host, Hosting
from tests.support.waiting import until

BEFORE = """
[plugins.mailbox]
[plugins.own]
[services.former]
plugin = "own"
[services.kept]
plugin = "own"
depends_on = ["former"]
"""
AFTER = """
[plugins.mailbox]
[plugins.own]
[services.renamed]
plugin = "own"
was = "former"
[services.kept]
plugin = "own"
depends_on = ["renamed"]
"""
OWN = '''
from typing import Self
from garrison.workers import NotSent, Plugin, RetryLater, Runtime, Service

class Own(Service):
    service_type = "own"

    async def note(self, text: str) -> str:
        """Add a text to what is kept."""
        path = self.runtime.data_folder / "notes"
        with path.open("a") as out:
            out.write(text)
        return path.read_text()

    async def fail(self, text: str) -> None:
        """Become a dead letter."""
        raise NotSent(text)

    async def later(self, text: str) -> str:
        """Wait for a retry, until there is a file "open" beside the notes."""
        if not (self.runtime.data_folder / "open").exists():
            raise RetryLater("not yet", 0.3)
        return await self.note(text)

plugin = Plugin(name="own", services=[Own])
'''


@pytest.fixture
def one(host: Hosting) -> Host:
    """Run a service that is to be renamed."""
    return host(BEFORE, [], {"own.py": OWN})


def pending(one: Host) -> dict[str, tuple[str, list[str]]]:
    """Return what `diff` shows: NAME → change and details."""
    data = one.run("diff", json=True).data
    return {row["name"]: (row["change"], row["details"]) for row in data["services"]}


def folder(one: Host, name: str) -> Path:
    """Return the data folder of a service."""
    return one.home / "state" / "services" / name


async def test_apply_renames(one: Host) -> None:
    """The new one runs with the data, the others keep their processes, nothing is pending after."""
    await one.call("former", "note", "a")
    pid = one.status("kept")["pid"]
    one.write("config.toml", AFTER)
    assert pending(one) == {
        "renamed": ("renamed", ["renamed from former"]),
        "kept": ("changed", ["depends_on former → renamed"]),
    }
    ran = one.run("apply", "renamed")
    assert (ran.code, ran.err) == (0, "")
    assert "former renamed to renamed" in ran.out
    assert set(one.rows()) >= {"renamed", "kept"}
    assert "former" not in one.rows()
    assert one.status("kept")["pid"] == pid
    assert await one.call("renamed", "note", "b") == "ab"
    assert not folder(one, "former").exists()
    assert pending(one) == {}


async def test_mail_follows_in_its_order(one: Host) -> None:
    """What waits, waits for a retry, or is dead is the new one's: delivered once, the older first,
    also if the mailbox did not run meanwhile."""
    async with one.connect() as client:
        await client.post("former", "fail", "x")
        await client.post("former", "later", "1")
        await client.post("former", "later", "L", lane="a")
        until(lambda: mail(one, "former") == (2, 1))
        one.ask("stop", "former")
        for number in range(2, 6):
            await client.post("former", "note", str(number))
        until(lambda: mail(one, "former") == (6, 1))
        one.write("config.toml", AFTER)
        one.run("apply")
        assert one.status("renamed")["state"] == "stopped"
        until(lambda: mail(one, "renamed") == (6, 1))
        assert mail(one, "former") == (0, 0)
        (folder(one, "renamed") / "open").touch()
        one.ask("stop", "mailbox")
        one.write("config.toml", AFTER.replace("renamed", "third").replace("former", "renamed"))
        one.run("apply")
        one.ask("start", "mailbox", "third")
        until(lambda: mail(one, "third") == (0, 1))
        notes = await one.call("third", "note", ".")
        assert (notes.replace("L", ""), notes.count("L")) == ("12345.", 1)
        for words in (["--all"], ["third"]):
            replayed = one.run("mail", "replay", *words)
            assert (replayed.code, replayed.out) == (0, "1 message will be delivered again\n")
            until(lambda: mail(one, "third") == (0, 1))
        unknown = one.run("mail", "replay", "third", "no-id")
        assert (unknown.code, "there is no dead letter no-id" in unknown.err) == (4, True)


def mail(one: Host, name: str) -> tuple[int, int]:
    """Return how many messages for a receiver wait, and how many are dead."""
    rows = one.run("mail", "ls", json=True).data["receivers"]
    counts = [(row["waiting"], row["dead"]) for row in rows if row["receiver"] == name]
    return counts[0] if counts else (0, 0)


async def test_the_next_supervisor_renames(one: Host) -> None:
    """After `down`, and where the former supervisor was killed while the old service runs."""
    await one.call("former", "note", "a")
    one.ask("stop", "kept")
    text = AFTER
    for before, name in (("former", "renamed"), ("renamed", "third")):
        one.write("config.toml", text)
        if before == "former":
            one.end()
            one.up()
        else:
            one.end(signal.SIGKILL)
            one.up()
        one.wait_for(name, "running")
        assert await one.call(name, "note", "b") == "a" + "b" * (1 + (name == "third"))
        assert not folder(one, before).exists()
        assert before not in one.rows()
        (event,) = one.events("service.renamed", name)
        assert event["data"]["former"] == before
        assert pending(one) == {}
        text = text.replace("renamed", "third").replace("former", "renamed")
    assert one.status("kept")["state"] == "stopped"


async def test_what_cannot_be_renamed_changes_nothing(one: Host) -> None:
    """The old service is still in the config, or the new data folder has files: both are reported,
    and everything runs on. Once mended, `start` renames; the log file is the new one's."""
    await one.call("former", "note", "a")
    pid = one.status("former")["pid"]
    one.write("config.toml", AFTER + '[services.former]\nplugin = "own"\n')
    problem = "".join(one.run("diff", json=True).data["problems"])
    assert "config.toml:6: services.renamed.was: there is a service `former` still" in problem
    one.write("config.toml", AFTER + '[services.twin]\nplugin = "own"\nwas = "former"\n')
    problem = "".join(one.run("diff", json=True).data["problems"])
    assert "services.twin.was: `renamed` has the same" in problem
    one.write("config.toml", AFTER)
    folder(one, "renamed").mkdir()
    (folder(one, "renamed") / "other").touch()
    ran = one.run("diff")
    assert ran.code == 3
    assert "data folder has files already" in ran.out
    for verb in (("apply",), ("start", "renamed")):
        ran = one.run(*verb)
        assert ran.code != 0
        assert "data folder has files already" in ran.err
    assert one.status("former")["pid"] == pid
    (folder(one, "renamed") / "other").unlink()
    assert one.run("start", "renamed").code == 0
    assert await one.call("renamed", "note", "b") == "ab"
    assert "former" not in one.rows()
    assert not (one.home / "logs" / "former.log").exists()
    assert pending(one) == {}
