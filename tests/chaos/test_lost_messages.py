"""What a worker has sent to a supervisor that is killed before it reads it, the next one gets."""

import contextlib
import os
import signal

import pytest
from tests.chaos.test_adoption import comm
from tests.support.host import LONG_GRACE, ROOT, Host, Hosting
from tests.support.waiting import PATIENCE, until

# While there is `gate`, a FIFO, its import waits there. `turned` is made once the loop has turned
# for so long that the worker has introduced itself. Until then no answer reaches it.
HELD = """
import asyncio
from pathlib import Path
from garrison.ipc.session import Session
from garrison.workers import Plugin, Service

TURNED_S = 0.3

class Held(Service):
    service_type = "held"

    async def name(self):
        return self.runtime.name

plugin = Plugin(name="held", services=[Held])
folder = Path(__file__).parent
handle = Session.handle

def handle_later(session, message):
    if (folder / "turned").exists():
        handle(session, message)

if (folder / "gate").exists():
    Session.handle = handle_later
    (folder / "waits").touch()
    (folder / "gate").read_bytes()
    asyncio.get_running_loop().call_later(TURNED_S, (folder / "turned").touch)
"""
# The same, and as of an older release: a Welcome does not have it introduce itself.
MUTE = """
    from garrison.workers.process.worker import Worker
    Worker._introduce = lambda worker: None
"""
CONFIG = LONG_GRACE + "[defaults]\nwatchdog = {watchdog}\n[plugins.held]\n"


def introduce_to_stopped_supervisor(host: Host) -> int:
    """Have the next worker of `held` introduce itself to a supervisor that is stopped; return the
    worker's pid."""
    gate, turned = host.folder / "gate", host.folder / "turned"
    os.mkfifo(gate)
    old = host.kill("held")
    until((host.folder / "waits").exists, what="the next worker imports its plugin")
    pid: int = until(lambda: host.status("held")["pid"])
    assert pid != old
    os.kill(host.pid, signal.SIGSTOP)
    gate.write_bytes(b"")
    gate.unlink()  # the workers after it do not wait
    until(turned.exists, what="the worker's loop has turned")
    return pid


@pytest.mark.parametrize("watchdog", [2.0, 0.0])
async def test_a_worker_whose_introduction_was_lost_is_adopted(
    host: Hosting, watchdog: float
) -> None:
    """It runs on under the next supervisor, and takes calls."""
    one = host(CONFIG.format(watchdog=watchdog), files={"held.py": HELD})
    pid = introduce_to_stopped_supervisor(one)
    one.end(signal.SIGKILL)
    one.up()
    assert one.wait_for("held", "running")["pid"] == pid
    assert await one.call("held", "name") == "held"
    adopted = one.events("service.adopted", "held")
    assert [event["data"]["pid"] for event in adopted] == [pid]


def test_a_worker_that_only_beats_is_replaced(host: Hosting) -> None:
    """By its watchdog, as one that is silent: nothing else can reach it."""
    one = host(CONFIG.format(watchdog=2.0), files={"held.py": HELD + MUTE})
    pid = introduce_to_stopped_supervisor(one)
    one.end(signal.SIGKILL)
    one.up()
    one.until_reborn("held", pid)
    deaths = one.run("deaths", "held", json=True).data["deaths"]
    (cause,) = [death["cause"] for death in deaths if death["kind"] == "lost"]
    assert "did not answer the new supervisor" in cause


# Its first Hello is lost, and nothing else. The launcher imports it before it forks workers.
LOSING = """
from garrison.workers.process.worker import Worker

introduce, calls = Worker._introduce, []

def lose_first(worker):
    calls.append(worker)
    if len(calls) > 1:
        introduce(worker)

Worker._introduce = lose_first
"""


def test_a_hello_that_is_not_answered_is_sent_again(host: Hosting) -> None:
    """Long before the start takes too long: its connection may have broken."""
    config = '[host]\npreload = ["losing"]\n[defaults]\nwatchdog = 2.0\n[plugins.held]\n'
    one = host(config, files={"held.py": HELD, "losing.py": LOSING}, up=False)
    one.env["PYTHONPATH"] = f"{ROOT / '.src'}:{one.folder}"
    one.up()
    row = one.status("held")
    assert (row["state"], row["generation"]) == ("running", 1)


def test_a_fork_that_waits_as_its_supervisor_dies_is_not_made(host: Hosting) -> None:
    """The next supervisor does not know of it, and starts the service by itself."""
    one = host(CONFIG.format(watchdog=10.0), files={"held.py": HELD})
    (spare,) = until(lambda: called(one, "spare"))
    (template,) = called(one, "template")
    os.kill(template, signal.SIGSTOP)
    os.kill(spare, signal.SIGKILL)
    gate = one.folder / "gate"
    os.mkfifo(gate)
    one.kill("held")
    until(lambda: one.status("held")["state"] == "initializing")
    one.end(signal.SIGKILL)
    one.start()
    until(lambda: one.events("supervisor.adopts"))
    with contextlib.suppress(ProcessLookupError):  # it was replaced meanwhile
        os.kill(template, signal.SIGCONT)
    pid = until(lambda: one.status("held")["pid"])  # it imports its plugin, as would the other
    until(lambda: pid in called(one, "g:held"))
    assert called(one, "g:held") == [pid], one.picture()
    gate.write_bytes(b"")
    gate.unlink()
    assert one.wait_for("held", "running")["pid"] == pid


def called(host: Host, name: str) -> list[int]:
    """Return the processes of a host that have a name."""
    return [pid for pid in host.processes() if comm(pid) == name]


LOOKING = """
class Part(Service):
    service_type = "part"

    @classmethod
    async def start(cls, runtime):
        service = cls(runtime)
        service.every(0.02, service.look)
        return service

"""

# It ends by itself once there is `enough`, and touches `reported` when that was reported.
PART = (
    """
import asyncio
from pathlib import Path
from garrison.workers import Plugin, Service

REPORTED_S = 0.3
folder = Path(__file__).parent

"""
    + LOOKING
    + """    async def look(self):
        if (folder / "enough").exists():
            raise SystemExit

    async def stop(self):
        asyncio.get_running_loop().call_later(REPORTED_S, (folder / "reported").touch)

plugin = Plugin(name="part", services=[Part])
"""
)


def test_a_clean_end_that_was_reported_to_a_killed_supervisor_is_one(host: Hosting) -> None:
    """The worker waits for the next supervisor, and reports it again."""
    transient = '[plugins.part]\n[services.part]\nrestart = "transient"\n'
    one = host(LONG_GRACE + transient, files={"part.py": PART})
    os.kill(one.pid, signal.SIGSTOP)
    one.write("enough", "")
    until((one.folder / "reported").exists, what="it has reported its end")
    one.end(signal.SIGKILL)
    one.up()
    row = one.wait_for("part", "stopped")
    assert (row["generation"], row["wanted"], row["reason"]) == (1, False, "it asked to end")


# The start of each incarnation but the first takes as long as there is no `done`, and says so once
# there is `slow`. `reported` is made when that was sent.
SLOW = """
import asyncio
from pathlib import Path
from garrison.workers import Plugin, Service

LOOK_S, REPORTED_S = 0.02, 0.3
folder = Path(__file__).parent

async def until(name):
    while not (folder / name).exists():
        await asyncio.sleep(LOOK_S)

class Slow(Service):
    service_type = "slow"

    @classmethod
    async def start(cls, runtime):
        if runtime.generation > 1:
            (folder / "starts").touch()
            await until("slow")
            runtime.extend(40.0, "it is slow")
            asyncio.get_running_loop().call_later(REPORTED_S, (folder / "reported").touch)
            await until("done")
        return cls(runtime)

plugin = Plugin(name="slow", services=[Slow])
"""


def test_a_start_that_was_extended_stays_so(host: Hosting) -> None:
    """The next supervisor would end it by the deadline that it had before."""
    one = host(LONG_GRACE + "[plugins.slow]\n", files={"slow.py": SLOW})
    pid = one.kill("slow")
    until((one.folder / "starts").exists)
    pid = until(lambda: one.status("slow")["pid"])
    os.kill(one.pid, signal.SIGSTOP)
    one.write("slow", "")
    until((one.folder / "reported").exists, what="it has extended its start")
    one.end(signal.SIGKILL)
    one.start()
    (extended,) = until(lambda: one.events("service.extended", "slow"))
    assert 30.0 < extended["data"]["seconds"] <= 40.0
    one.write("done", "")
    assert one.wait_for("slow", "running")["pid"] == pid


# Once there is `end`, which names how it ends and a pid, it ends so. As its report is acknowledged,
# it kills that process: its supervisor.
ENDING = (
    """
import os
from pathlib import Path
from garrison.ipc.last_words import LastWords
from garrison.workers import PermanentFailure, Plugin, Service

folder = Path(__file__).parent
acknowledged = LastWords.acknowledged

def kill_and_acknowledge(words):
    if (folder / "end").exists():
        os.kill(int((folder / "end").read_text().split()[1]), 9)
        (folder / "end").unlink()
    acknowledged(words)

LastWords.acknowledged = kill_and_acknowledge

"""
    + LOOKING
    + """    async def look(self):
        if (folder / "end").exists():
            word = (folder / "end").read_text()
            raise SystemExit if word.startswith("cleanly") else PermanentFailure("bad token")

plugin = Plugin(name="part", services=[Part])
"""
)


@pytest.mark.parametrize(
    ("how", "state", "reason"),
    [("cleanly", "stopped", "it asked to end"), ("badly", "failed", "bad token")],
)
def test_an_end_that_a_killed_supervisor_has_acknowledged_is_known(
    host: Hosting, how: str, state: str, reason: str
) -> None:
    """The next supervisor finds the process gone: it would start the service again as crashed."""
    transient = '[plugins.part]\n[services.part]\nrestart = "transient"\n'
    one = host(LONG_GRACE + transient, files={"part.py": ENDING})
    one.write("end.new", f"{how} {one.pid}")
    (one.folder / "end.new").rename(one.folder / "end")
    assert one.process is not None
    assert one.process.wait(PATIENCE) == -signal.SIGKILL
    one.up()
    row = one.wait_for("part", state)
    assert (row["generation"], reason in row["reason"]) == (1, True), row
