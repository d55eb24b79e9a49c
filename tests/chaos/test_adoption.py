"""A supervisor is killed, and the next one adopts the workers: none ends, none runs twice."""

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.host import Host, Hosting, found
from tests.support.proc import alive, stat
from tests.support.sizes import sizes
from tests.support.waiting import until

from garrison.ipc.system.process_tree import ended

CONFIG = """
[host]
orphan_grace = 30.0
[defaults]
watchdog = 2.0
grace = 1.0
[plugins.steady]
[services.other]
plugin = "steady"
type = "steady"
"""
LEAK = "[plugins.leak]\n"
SLOW = """
import asyncio
from pathlib import Path
from garrison.workers import Plugin, Service

class Slow(Service):
    service_type = "slow"

    async def stop(self):
        Path(f"{self.runtime.name}.stops").touch()
        await asyncio.sleep(0.6)
        Path(f"{self.runtime.name}.stopped").touch()

plugin = Plugin(name="slow", services=[Slow])
"""
PLUGINS = ["steady", "leak"]


def lives(host: Host) -> dict[str, tuple[int, int]]:
    """Return each service's process and its number."""
    return {name: (row["pid"], row["generation"]) for name, row in host.rows().items()}


def kill_launcher_and_supervisor(host: Host) -> None:
    """Kill both, so that neither can react to the other's end."""
    launcher = host.launcher
    os.kill(host.pid, signal.SIGSTOP)
    os.kill(launcher, signal.SIGKILL)
    until(lambda: not alive(launcher))
    host.end(signal.SIGKILL)


def state_file(host: Host) -> Path:
    """Return the path of the snapshot."""
    return host.home / "state" / "living.json"


def incarnations(host: Host) -> dict[str, int]:
    """Return how many processes there are of each service, by what they call themselves.

    A child that a worker has forked is called so too, until it has become what it is to be.
    """
    named = {pid: name for pid in host.processes() if alive(pid) and (name := _name(pid))}
    counted: dict[str, int] = {}
    for pid, name in named.items():
        parent = stat(pid)[1:2]  # empty if it was such a child, and has ended meanwhile
        if parent and named.get(int(parent[0])) != name:
            counted[name] = counted.get(name, 0) + 1
    return counted


def _name(pid: int) -> str:
    before, found, name = comm(pid).partition("g:")
    return name if found and not before else ""


def comm(pid: int) -> str:
    """Return the name of a process."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


# --- nothing ends -------------------------------------------------------------------------


async def test_running_services_keep_running(host: Hosting) -> None:
    """The next supervisor finds the same processes and the same launcher. Stopped services are
    stopped, failed ones failed, and timers have kept running."""
    failing = '[plugins.steady2]\nuse = "bad"\n'
    bad = "from garrison.workers import Plugin, Service, PermanentFailure\n"
    bad += "class Bad(Service):\n    service_type = 'bad'\n    @classmethod\n"
    bad += "    async def start(cls, runtime):\n        raise PermanentFailure('bad token')\n"
    bad += "plugin = Plugin(name='bad', services=[Bad])\n"
    one = host(CONFIG + LEAK + failing, PLUGINS, {"bad.py": bad})
    one.ask("stop", "other")
    ticks = await one.call("steady", "ticks")
    family = await one.call("leak", "family")
    before, launcher = one.rows(), one.launcher
    one.end(signal.SIGKILL)
    assert alive(before["steady"]["pid"])
    one.up()
    after = one.rows()
    for name in ("steady", "leak"):
        assert after[name]["pid"] == before[name]["pid"]
        assert after[name]["generation"] == before[name]["generation"]
        assert after[name]["uptime_s"] > before[name]["uptime_s"]
        assert after[name]["restarts"] == 0
    for name in ("other", "bad"):
        keys = ("state", "wanted", "restarts", "reason")
        assert [after[name][key] for key in keys] == [before[name][key] for key in keys]
    assert after["other"]["state"] == "stopped"
    assert "bad token" in after["bad"]["reason"]
    assert one.launcher == launcher
    assert await one.call("steady", "ticks") > ticks
    assert [pid for pid in family if alive(pid)] == family
    assert one.rows()["steady"]["pid"] == before["steady"]["pid"]
    one.ask("start", "other")
    pid = one.kill("leak")
    one.until_reborn("leak", pid)
    assert not [pid for pid in family if alive(pid)]


@pytest.mark.parametrize("kills", sizes(5, 100))
async def test_supervisors_killed_again_and_again(host: Hosting, kills: int) -> None:
    """No service restarts, none runs twice, and calls are answered each time."""
    one = host(CONFIG + LEAK, PLUGINS)
    before = lives(one)
    async with one.connect() as client:
        steady = found(client, "steady")
        for _ in range(kills):
            await asyncio.to_thread(one.end, signal.SIGKILL)
            await asyncio.to_thread(one.up)
            assert await steady.relay("other", "pid") == ["result", before["other"][0]]
            assert await asyncio.to_thread(lives, one) == before
            assert set(incarnations(one)) == {"steady", "other", "leak"}
            assert set(incarnations(one).values()) == {1}
    print(f"\nsupervisor killed {kills} times: restarted 0, duplicates 0")


async def test_killed_at_any_moment(host: Hosting) -> None:
    """Also during its start and during adoption: in the end every service runs once."""
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    print(f"seed {seed}")
    one = host(CONFIG + LEAK, PLUGINS, up=False)
    for _ in range(8):
        process = one.start()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0.0, 0.5))
        await asyncio.to_thread(one.end, signal.SIGKILL)
    await asyncio.to_thread(one.up)
    # A start that a kill has cut short may have failed; it is tried again by itself.
    until(lambda: {row["state"] for row in one.rows().values()} == {"running"})
    until(lambda: set(incarnations(one).values()) == {1}, what="one process a service")
    assert await one.call("steady", "relay", "other", "pid") == [
        "result",
        one.rows()["other"]["pid"],
    ]


def test_services_that_were_ended_in_order_start_again(host: Hosting) -> None:
    """Also if that end was cut short by a kill: it was an order to that supervisor alone."""
    one = host(CONFIG + "[plugins.slow]\n", PLUGINS, {"slow.py": SLOW})
    one.ask("stop", "other")
    for _ in range(2):  # what is written down, and when, depends on a moment
        assert one.run("down").code == one.end() == 0
        assert not state_file(one).exists()
        one.up()
        assert {name for name, (pid, _) in lives(one).items() if pid} == {"steady", "slow"}
    (one.folder / "slow.stops").unlink()
    os.kill(one.pid, signal.SIGTERM)
    until((one.folder / "slow.stops").exists)
    until(lambda: '"stopping"' in state_file(one).read_text())
    one.end(signal.SIGKILL)
    one.up()
    assert {name for name, (pid, _) in lives(one).items() if pid} == {"steady", "slow"}


# --- the launcher, too --------------------------------------------------------------------


async def test_reparented_workers_are_adopted(host: Hosting) -> None:
    """Supervisor and launcher are killed at once: the workers keep running under the next
    supervisor, which ends them with all that they started, and restarts them through a launcher of
    its own."""
    one = host(CONFIG + LEAK, PLUGINS)
    before = lives(one)
    family = await one.call("leak", "family")
    kill_launcher_and_supervisor(one)
    one.up()
    assert lives(one) == before
    assert await one.call("steady", "relay", "other", "pid") == ["result", before["other"][0]]
    assert [pid for pid in family if alive(pid)] == family
    pid = one.kill("leak")
    one.until_reborn("leak", pid)
    assert not [pid for pid in family if alive(pid)]
    one.ask("restart", "other")
    assert one.ask("stop", "steady")["services"] == {"steady": "stopped"}
    assert not alive(before["steady"][0])


async def test_the_launcher_of_the_adopted_is_killed(host: Hosting) -> None:
    """It was the child of another supervisor. Its workers keep running."""
    one = host(CONFIG + LEAK, PLUGINS)
    one.end(signal.SIGKILL)
    one.up()
    before, launcher = lives(one), one.launcher
    family = await one.call("leak", "family")
    os.kill(launcher, signal.SIGKILL)
    until(lambda: one.events("launcher.lost"))
    assert await one.call("steady", "relay", "other", "pid") == ["result", before["other"][0]]
    assert lives(one) == before
    pid = one.kill("leak")
    one.until_reborn("leak", pid)
    assert not [pid for pid in family if alive(pid)]
    one.end(signal.SIGKILL)
    one.up()
    after = lives(one)
    assert (after["steady"], after["other"]) == (before["steady"], before["other"])
    assert after["leak"][1] == before["leak"][1] + 1


def test_without_both_what_is_stopped_ends_too(host: Hosting) -> None:
    """Its loop cannot notice anything: a kernel timer ends it."""
    one = host(CONFIG.replace("orphan_grace = 30.0", "orphan_grace = 0.5"), PLUGINS)
    one.kill("steady", signal.SIGSTOP)
    kill_launcher_and_supervisor(one)
    until(lambda: not one.processes(), what="every process is gone")


def test_a_stopped_launcher_keeps_nothing_alive(host: Hosting) -> None:
    """It cannot end its workers: they notice that it is stopped, and end."""
    one = host(CONFIG.replace("orphan_grace = 30.0", "orphan_grace = 0.5"), PLUGINS)
    os.kill(one.launcher, signal.SIGSTOP)
    one.end(signal.SIGKILL)
    until(lambda: not one.processes(), what="every process is gone")


def test_a_stopped_launcher_is_replaced(host: Hosting) -> None:
    """Also if supervisors were killed while they waited for it."""
    one = host(CONFIG, PLUGINS)
    before, launcher = lives(one), one.launcher
    os.kill(launcher, signal.SIGSTOP)
    one.end(signal.SIGKILL)
    connected = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(4)]
    for each in connected:  # as a supervisor does, that is killed before it was answered
        each.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            each.connect(str(next((one.home / "run").glob("launcher-*.sock"))))
        each.close()
    one.up()
    assert not alive(launcher)
    assert lives(one) == before


def test_another_process_at_a_launchers_path_is_left_alone(host: Hosting) -> None:
    """A path does not prove which process listens there."""
    one = host(CONFIG, PLUGINS)
    before = lives(one)
    one.end(signal.SIGKILL)
    path = one.home / "run" / "launcher-7.sock"
    listen = f"s.bind({str(path)!r}); s.listen(); print(flush=True); time.sleep(60)"
    script = f"import socket, time; s = socket.socket(1, socket.SOCK_SEQPACKET); {listen}"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as innocent:
        try:
            assert innocent.stdout is not None
            innocent.stdout.readline()
            one.up()
            assert innocent.poll() is None
        finally:
            innocent.kill()
    assert "left alone" in str(one.events("launcher.refused"))
    assert lives(one) == before


def test_services_that_ended_without_a_supervisor_start_again(host: Hosting) -> None:
    """The launcher is ending everything when the next supervisor comes. That is no clean end of a
    service that runs until it ends by itself."""
    services = "".join(
        f'[services.{name}]\nplugin = "slow"\ntype = "slow"\nrestart = "{name}"\n'
        for name in ("transient", "temporary")
    )
    config = CONFIG.replace("orphan_grace = 30.0", "orphan_grace = 0.2") + "[plugins.slow]\n"
    one = host(config + services, PLUGINS, {"slow.py": SLOW})
    before = lives(one)
    one.end(signal.SIGKILL)
    for name in ("transient", "temporary"):
        until((one.folder / f"{name}.stops").exists)
    one.up()
    for name, (pid, _) in before.items():
        assert one.wait_for(name, "running")["pid"] != pid
    assert max(incarnations(one).values()) == 1


def test_a_service_that_ended_cleanly_meanwhile_is_not_started_again(host: Hosting) -> None:
    """Its Stopped message waits for the next supervisor."""
    part = """
from pathlib import Path
from garrison.workers import Plugin, Service

class Part(Service):
    service_type = "part"

    @classmethod
    async def start(cls, runtime):
        service = cls(runtime)
        service.every(0.02, service.look)
        return service

    async def look(self):
        if Path("enough").exists():
            raise SystemExit

    async def stop(self):
        Path("done").touch()

plugin = Plugin(name="part", services=[Part])
"""
    transient = '[plugins.part]\n[services.part]\nrestart = "transient"\n'
    one = host(CONFIG + transient, PLUGINS, {"part.py": part})
    watched = os.pidfd_open(lives(one)["part"][0])
    try:
        one.end(signal.SIGKILL)
        one.write("enough", "")
        assert not ended(watched, 1.6)
        assert (one.folder / "done").exists()
        one.up()
    finally:
        os.close(watched)
    row = one.wait_for("part", "stopped")
    assert (row["generation"], row["wanted"], row["reason"]) == (1, False, "it asked to end")


# --- what is not there any more -----------------------------------------------------------


def test_a_service_that_died_meanwhile_is_started_again(host: Hosting) -> None:
    """Its launcher has its exit status."""
    one = host(CONFIG + LEAK, PLUGINS)
    before = lives(one)
    one.end(signal.SIGKILL)
    os.kill(before["leak"][0], signal.SIGKILL)
    until(lambda: not alive(before["leak"][0]))
    one.up()
    row = one.wait_for("leak", "running")
    assert row["generation"] == before["leak"][1] + 1
    assert "SIGKILL" in row["last_exit"]
    (death,) = one.run("deaths", "leak", json=True).data["deaths"]
    assert (death["kind"], death["generation"]) == ("signal", before["leak"][1])
    assert lives(one)["steady"] == before["steady"]


async def test_a_reparented_worker_that_died_leaves_nothing(host: Hosting) -> None:
    """No process waited for it. What it had started is found by its environment."""
    one = host(CONFIG + LEAK, PLUGINS)
    before = lives(one)
    family = await one.call("leak", "family")
    kill_launcher_and_supervisor(one)
    os.kill(before["leak"][0], signal.SIGKILL)
    until(lambda: not alive(before["leak"][0]))
    one.up()
    assert one.wait_for("leak", "running")["generation"] == before["leak"][1] + 1
    (death,) = one.run("deaths", "leak", json=True).data["deaths"]
    assert death["kind"] == "lost"
    assert not [pid for pid in family if alive(pid)]
    assert lives(one)["steady"] == before["steady"]


def test_a_pid_used_again_is_another_process(host: Hosting) -> None:
    """It is recognised by its start time and left alone."""
    one = host(CONFIG, PLUGINS)
    kill_launcher_and_supervisor(one)
    innocent = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        living = json.loads(state_file(one).read_text())
        (steady,) = (kept for kept in living["services"] if kept["name"] == "steady")
        os.kill(steady["pid"], signal.SIGKILL)
        steady["pid"] = innocent.pid
        state_file(one).write_text(json.dumps(living))
        one.up()
        assert one.wait_for("steady", "running")["pid"] != innocent.pid
        assert innocent.poll() is None
        one.ask("stop", "steady")
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


# --- who does not answer ------------------------------------------------------------------


def test_a_worker_that_does_not_answer_is_replaced(host: Hosting) -> None:
    """A stopped worker sends no Hello: it is ended after its watchdog, then started. A late Hello
    is rejected. At no time are there two incarnations."""
    one = host(CONFIG, PLUGINS)
    before = lives(one)
    os.kill(before["steady"][0], signal.SIGSTOP)
    one.end(signal.SIGKILL)
    one.start()

    def replaced() -> bool:
        assert incarnations(one).get("steady", 0) <= 1
        if one.head() is None:
            return False
        row = one.rows()["steady"]
        if row["state"] == "stopping" and alive(before["steady"][0]):
            os.kill(before["steady"][0], signal.SIGCONT)
        return bool(row["state"] == "running" and row["pid"] not in {None, before["steady"][0]})

    until(replaced)
    assert not alive(before["steady"][0])
    (death,) = one.run("deaths", "steady", json=True).data["deaths"]
    assert death["kind"] == "lost"
    assert "did not answer the new supervisor" in death["cause"]
    assert lives(one)["other"] == before["other"]


@pytest.mark.parametrize("damage", ["cut", "gone", "zeros", "newer", "of another machine"])
def test_without_a_snapshot_unknown_workers_are_ended_first(host: Hosting, damage: str) -> None:
    """Unknown workers are ended first; then everything starts, and nothing runs twice."""
    one = host(CONFIG + LEAK, PLUGINS)
    before = lives(one)
    one.end(signal.SIGKILL)
    whole = state_file(one).read_bytes()
    match damage:
        case "cut":
            state_file(one).write_bytes(whole[: len(whole) // 2])
        case "gone":
            state_file(one).unlink()
        case "zeros":
            state_file(one).write_bytes(bytes(len(whole)))
        case "newer":
            state_file(one).write_bytes(whole.replace(b'"format":1', b'"format":99'))
        case _:
            boot = json.loads(whole)["machine"].encode()
            state_file(one).write_bytes(whole.replace(boot, b"another"))
    one.start()

    def afresh() -> bool:
        counted = incarnations(one)
        assert max(counted.values(), default=0) <= 1, counted
        head = one.head()
        return bool(head and head["pid"] == one.pid and head["settled"])

    until(afresh)
    after = {name: one.wait_for(name, "running") for name in before}
    assert all(row["pid"] != before[name][0] for name, row in after.items())
    until(lambda: not [pid for pid, _ in before.values() if alive(pid)])
    for aside in ("damaged", "newer"):
        (one.home / "state" / f"living.{aside}").unlink(missing_ok=True)
