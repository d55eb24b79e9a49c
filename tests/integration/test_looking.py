"""What an operator sees of a host: why a service does not run, and where one is."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest
from tests.support.host import Host, Ran, found, hosting
from tests.support.waiting import until

BOT = """
import asyncio, os, subprocess, time
from garrison.workers import PermanentFailure, Plugin, Service

class Bot(Service):
    service_type = "bot"
    async def sleep_in_loop(self, seconds: float) -> None:
        time.sleep(seconds)
    async def wait_long(self) -> None:
        await asyncio.sleep(3600)
    def in_thread(self) -> None:
        time.sleep(3600)
    async def begin(self) -> int:
        self.child = subprocess.Popen(["sleep", "1000.25"])
        return self.child.pid
    async def die(self) -> None:
        os._exit(3)

class Broken(Service):
    service_type = "broken"
    @classmethod
    async def start(cls, runtime):
        raise PermanentFailure("no ground to stand on")

plugin = Plugin(name="bot", services=[Bot, Broken])
"""
CONFIG = """
[plugins.bot]
[services.bot]
[services.lower]
plugin = "bot"
type = "bot"
depends_on = ["broken"]
[services.upper]
plugin = "bot"
type = "bot"
depends_on = ["lower"]
[services.rested]
plugin = "bot"
type = "bot"
[services.keyless]
plugin = "bot"
type = "bot"
secrets = ["NO_SUCH_KEY"]
[services.broken]
plugin = "bot"
type = "broken"
"""


@pytest.fixture(scope="module")
def one() -> Iterator[Host]:
    """Run services of which some cannot start."""
    with hosting(CONFIG, files={"bot.py": BOT}) as host:
        yield host


def why(one: Host, name: str, commands: list[str]) -> str:
    """Return what `why` shows; the JSON has these commands."""
    ran = one.run("why", name, json=True)
    assert ran.code == 0
    assert [mend["command"].split("garrison ")[1] for mend in ran.data["mend"]] == [
        f"--home {one.home} {command}" for command in commands
    ]
    return one.run("why", name).out


def test_why_follows_the_chain_to_what_mends_it(one: Host) -> None:
    """Through services, an order, a secret and a death, with the command to type at its end."""
    shown = why(one, "upper", ["restart broken"])
    assert shown.startswith("upper is queued\n  it waits for lower, which is queued\n    it waits")
    assert "no ground to stand on" in shown
    assert 'bot.py", line' in " ".join(shown.split())

    one.ask("stop", "rested", why="too loud")
    assert "stopped it" in (shown := why(one, "rested", ["start rested"]))
    assert "too loud" in shown
    assert "NO_SUCH_KEY is not set" in why(one, "keyless", ["restart keyless"])

    assert one.run("why", "nothere").code == 4
    assert one.run("why", "*").code == 2


async def test_why_names_the_call_that_killed_it(one: Host) -> None:
    """Of a service that runs again, its last death."""
    with pytest.raises(Exception, match="was lost"):
        await one.call("bot", "die")

    def shown() -> str:
        out = one.run("why", "bot").out
        return out if "bot runs" in out and "it was handling die of a program" in out else ""

    out = await asyncio.to_thread(until, shown, what="the crash report is written")
    assert "exited with code 3" in out


async def test_stack_shows_threads_and_tasks_and_the_service_goes_on(one: Host) -> None:
    """Without a line in its log; garrison's own are left out unless `--all` is given."""
    before = one.status("bot")["pid"]
    async with one.connect() as client:
        bot = found(client, "bot")
        calls = [bot.wait_long(), bot.in_thread()]

        def shown() -> Ran | None:
            ran = one.run("stack", "bot")
            both = "time.sleep(3600)" in ran.out and "asyncio.sleep(3600)" in ran.out
            return ran if both else None

        ran = await asyncio.to_thread(until, shown, what="both calls run")
        assert ran is not None
        assert "await asyncio.sleep(3600)" in ran.out
        assert "in_thread" in ran.out
        assert "wait_long" in ran.out
        assert "garrison/workers" not in ran.out
        assert "thread MainThread runs the loop" in ran.out
        assert "handles wait_long of a program, for " in ran.out
        every = await asyncio.to_thread(one.run, "stack", "bot", "--all")
        assert "garrison/workers/process" in every.out
        data = (await asyncio.to_thread(one.run, "stack", "bot", json=True)).data
        assert data["loop_blocked"] is False
        places = [frame for task in data["tasks"] for frame in task["frames"]]
        assert any(one["function"].endswith("wait_long") and one["code"] for one in places)
        for call in calls:
            call.cancel()
    assert "most recent call first" not in one.log("bot")
    assert one.status("bot")["pid"] == before


async def test_stack_of_a_blocked_loop_is_read_from_its_log(one: Host) -> None:
    """A later death report is not taken for stacks; a stopped process is reported."""
    async with one.connect() as client:
        bot = found(client, "bot")
        blocked = bot.sleep_in_loop(2.5)

        def shown() -> Ran | None:
            ran = one.run("stack", "bot", json=True)
            return ran if ran.code == 0 and ran.data["loop_blocked"] else None

        ran = await asyncio.to_thread(until, shown, what="its loop is blocked")
        assert ran is not None
        (main, *_) = ran.data["threads"]
        assert main["name"] == "MainThread"
        assert main["frames"][-1]["function"] == "sleep_in_loop"
        assert main["frames"][-1]["code"] == "time.sleep(seconds)"
        calls = {(one["direction"], one["service"], one["method"]) for one in ran.data["calls"]}
        assert ("in", "a program", "sleep_in_loop") in calls
        await blocked
        pid = await asyncio.to_thread(one.kill, "bot", signal.SIGSTOP)
        try:
            ran = await asyncio.to_thread(one.run, "stack", "bot")
            assert (ran.code, f"kill -CONT {pid}" in ran.err) == (1, True)
        finally:
            os.kill(pid, signal.SIGCONT)
        with pytest.raises(Exception, match="was lost"):
            await bot.die()
    await asyncio.to_thread(one.until_reborn, "bot", pid)
    report = (await asyncio.to_thread(one.run, "death", "bot", json=True)).data
    assert report["stacks"] == ""


def test_stack_needs_a_process(one: Host) -> None:
    """One service, which runs."""
    ran = one.run("stack", "keyless")
    assert (ran.code, "it has no process" in ran.err) == (3, True)
    assert one.run("stack", "nothere").code == 4
    assert one.run("stack", "*").code == 2


async def test_status_lists_what_needs_an_operator_first_and_processes_as_a_tree(one: Host) -> None:
    """Without the values of arguments; JSON keeps the order of the config."""
    pid = await one.call("bot", "begin")
    lines = (await asyncio.to_thread(one.run, "status", "--tree")).out.splitlines()
    names = [line.split()[0] for line in lines[2:9]]
    assert names.index("broken") < names.index("upper") < names.index("bot") < names.index("└")
    (shown,) = [line for line in lines if "sleep" in line]
    assert shown.split()[:4] == ["└", "sleep", "…", str(pid)]
    data = (await asyncio.to_thread(one.run, "status", "--tree", json=True)).data
    assert data["services"][0]["name"] == "bot"
    (child,) = data["services"][0]["processes"]
    assert (child["pid"], child["command"], child["state"]) == (pid, "sleep …", "sleeping")
    by_name = (await asyncio.to_thread(one.run, "status", "--sort", "name")).out.splitlines()
    assert by_name[2].split()[0] == "bot"


def test_graph_has_dependencies_both_ways(one: Host) -> None:
    """As a tree, for scripts, and for Graphviz."""
    tree = one.run("graph").out
    assert "upper queued\n└── lower queued  depends on\n    └── broken failed  depends on" in tree
    shown = one.run("graph", "lower").out
    assert "lower is needed by\n└── upper queued  depends on it" in shown
    data = one.run("graph", "broken", json=True).data
    (edge,) = data["edges"]
    assert (edge["from"], edge["to"], edge["depends_on"]) == ("lower", "broken", True)
    assert data["calls_known"]
    assert '"lower" -> "broken" [style=solid' in one.run("graph", "--dot").out
    assert one.run("graph", "nothere").code == 4
