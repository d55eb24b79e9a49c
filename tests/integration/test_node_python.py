"""A node's launchers preload modules and run other interpreters, and it reports to systemd."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.test_systemd import Reports
from tests.support.host import Host, hosting
from tests.support.venvs import make_venv
from tests.support.waiting import until

CONFIG = """
[engine]
kind = "nodes"
listen = "127.0.0.1:0"
[engine.nodes.box]
resources = { GPU = 2 }
[host]
preload = ["wave", "only_here"]
[plugins.modules]
[plugins.apart]
use = "modules"
python = "own/bin/python"
[services.modules]
plugin = "modules"
type = "modules"
node = "box"
resources = { GPU = 1 }
[services.modules-2]
plugin = "apart"
type = "modules"
node = "box"
resources = { GPU = 1 }
env = { CUDA_VISIBLE_DEVICES = "7" }
"""
PLUGIN = """
import os
import sys

from garrison.workers import Plugin, Service


class Modules(Service):
    service_type = "modules"

    async def loaded(self, name: str) -> bool:
        return name in sys.modules

    async def gpus(self) -> str:
        return os.environ["CUDA_VISIBLE_DEVICES"]

    async def prefix(self) -> str:
        return sys.prefix


plugin = Plugin(name="modules", services=[Modules])
"""


@pytest.fixture(name="host", scope="module")
def _host() -> Iterator[Host]:
    files = {"modules.py": PLUGIN, "only_here.py": ""}
    with hosting(CONFIG, files=files, up=False) as host:
        make_venv(host.folder / "own")
        yield host.up()


@pytest.fixture(name="reports")
def _reports(tmp_path: Path) -> Iterator[Reports]:
    found = Reports(tmp_path / "notify")
    yield found
    found.close()


async def test_a_node_has_other_interpreters_and_preloads(host: Host, reports: Reports) -> None:
    """A path in the config's folder is one in the node's folder; what a node cannot import is an
    event, and keeps no service from starting. A service has GPUs of its own. systemd learns that
    the node has contact, and that it ends."""
    there = host.folder / "there"
    make_venv(there / "own")
    shutil.copy(host.folder / "modules.py", there)
    host.run("node", "keys", "box")
    key = host.home / "node-keys" / "box.key"
    words = ("--key", str(key), "--home", str(host.folder / "node"), "--folder", str(there))
    unit = host.run("systemd", "--node", str(key), json=True).data
    assert unit["name"] == "garrison-node-box.service"
    assert f"node --key {key}" in unit["unit"]
    process = subprocess.Popen(  # noqa: ASYNC220 (it takes a moment)
        [sys.executable, "-P", "-m", "garrison.supervisor.cli", "node", *words, "--grace", "0.1"],
        cwd=there,
        env={**host.environ, "NOTIFY_SOCKET": str(reports.path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        reports.until("READY=1")
        for name in ("modules", "modules-2"):
            assert host.wait_for(name, "running")["node"] == "box"
        assert await host.call("modules-2", "prefix") == str(there / "own")
        assert await host.call("modules", "prefix") == sys.prefix
        assert await host.call("modules", "loaded", "wave")
        assert await host.call("modules", "gpus") in {"0", "1"}
        assert await host.call("modules-2", "gpus") == "7"  # as the config says
        failed = until(lambda: host.events("node.preload_failed"), what="a module is missing")
        assert "only_here" in failed[0]["data"]["reason"]
    finally:
        process.send_signal(signal.SIGTERM)
        reports.until("STOPPING=1")
        process.terminate()
        process.wait(60)
