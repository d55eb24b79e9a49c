"""A supervisor is killed while a worker that has just started introduces itself to it.

What a process sent to a killed supervisor is lost, so the next one asks for it.
"""

import os
import signal

import pytest
from tests.support.host import LONG_GRACE, Host, Hosting
from tests.support.waiting import until

# While there is `gate`, a FIFO, its import waits there. `turned` is made once the loop has turned
# for so long that the worker has introduced itself.
HELD = """
import asyncio
from pathlib import Path
from garrison.workers import Plugin, Service

TURNED_S = 0.3

class Held(Service):
    service_type = "held"

    async def name(self):
        return self.runtime.name

plugin = Plugin(name="held", services=[Held])
folder = Path(__file__).parent
if (folder / "gate").exists():
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
