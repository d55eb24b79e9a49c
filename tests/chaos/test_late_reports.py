"""A launcher reports late that it has started a worker."""

import os

from tests.support.host import ROOT, Hosting
from tests.support.waiting import until

# The launcher imports it. While there is `gate`, a FIFO, it waits there before it reports a worker.
LATE = """
import __main__
from pathlib import Path
from garrison.supervisor.processes import protocol

Launcher, folder = __main__.Launcher, Path(__file__).parent
report = Launcher._report

def report_late(self, message, fd=-1):
    if isinstance(message, protocol.ForkedReport) and (folder / "gate").exists():
        (folder / "gate").read_bytes()
    report(self, message, fd)

Launcher._report = report_late
"""
SWIFT = """
import asyncio
from pathlib import Path
from garrison.workers import Plugin, Service

REPORTED_S = 0.3
folder = Path(__file__).parent

class Swift(Service):
    service_type = "swift"

    @classmethod
    async def start(cls, runtime):
        if runtime.generation > 1:
            asyncio.get_running_loop().call_later(REPORTED_S, (folder / "reported").touch)
        return cls(runtime)

plugin = Plugin(name="swift", services=[Swift])
"""


def test_a_service_that_runs_has_a_pid(host: Hosting) -> None:
    """It runs once both the worker and the launcher have reported."""
    config = '[host]\npreload = ["late"]\n[plugins.swift]\n'
    one = host(config, files={"swift.py": SWIFT, "late.py": LATE}, up=False)
    one.env["PYTHONPATH"] = f"{ROOT / '.src'}:{one.folder}"
    one.up()
    gate = one.folder / "gate"
    os.mkfifo(gate)
    old = one.kill("swift")
    until((one.folder / "reported").exists, what="the worker has reported that it is ready")
    row = one.status("swift")
    assert (row["state"], row["pid"]) == ("starting", None)
    gate.write_bytes(b"")
    gate.unlink()
    row = one.until_reborn("swift", old)
    assert row["generation"] == 2
