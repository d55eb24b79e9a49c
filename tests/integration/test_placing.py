"""Services are placed on a node, and moved off it, as an operator sees it; all on loopback."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.host import Host, hosting
from tests.support.waiting import until

CONFIG = """
[engine]
kind = "nodes"
listen = "127.0.0.1:0"
lease = 60.0
join_wait = 0.5
[engine.nodes.box]
resources = { GPU = 1 }
[host]
orphan_grace = 60.0
[plugins.echo]
[services.here]
plugin = "echo"
type = "echo"
[services.pinned]
plugin = "echo"
type = "echo"
node = "box"
[services.model]
plugin = "echo"
type = "echo"
resources = { GPU = 1 }
"""
ABSENT = "has not reported in: start garrison node there"
WAITS = f"waits for node box, which {ABSENT}"


@contextlib.contextmanager
def node(host: Host) -> Iterator[None]:
    """Run the node `box`."""
    key = host.home / "node-keys" / "box.key"
    words = ("node", "--key", str(key), "--home", str(host.folder / "node"), "--grace", "0.1")
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "garrison.supervisor.cli", *words],
        cwd=host.folder,
        env=host.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        process.terminate()
        process.wait(60)


@pytest.fixture(name="host", scope="module")
def _host() -> Iterator[Host]:
    with hosting(CONFIG, ["echo"]) as host:
        yield host


def test_services_are_placed_and_moved(host: Host) -> None:
    """A service waits for its node without failing, runs there, and stays if there is no room
    elsewhere; the verbs say so."""
    host.wait_for("here", "running")
    until(lambda: host.status("pinned")["reason"] == WAITS, what="the reason is shown")
    waiting = host.run("start", "pinned")
    assert (waiting.code, WAITS in waiting.err) == (1, True)
    assert host.run("node", "keys", "box").code == 0
    absent = host.run("nodes")
    assert (absent.code, "! box has not reported in" in absent.out) == (3, True)

    with node(host):
        for name in ("pinned", "model"):
            assert host.wait_for(name, "running")["node"] == "box"
        assert host.status("here")["node"] == "supervisor"
        assert "NODE" in host.run("status").out
        rows = {row["name"]: row for row in host.run("nodes", json=True).data["nodes"]}
        assert rows["box"]["services"] == ["model", "pinned"]
        assert rows["box"]["taken"] == {"GPU": 1.0}
        assert host.run("check", json=True).data["warnings"] == []

        before = host.status("model")["generation"]
        drained = host.run("drain", "box")
        assert drained.code == 3
        assert 'pinned stays on box: its config has node = "box"' in drained.out
        assert "model stays on box: it waits for a node: " in drained.out
        after = host.status("model")["generation"]
        assert after == before, host.events("", "model")  # it was not stopped in vain
        assert "drained" in host.run("nodes").out
        assert host.run("drain", "box", "--back").code == 0
        wrong = host.run("drain", "bax")
        assert "no node bax; there are: supervisor, box" in wrong.err
        host.run("stop", "pinned", "model", "here")
    placed = [one["service"] for one in host.events("service.placed")]
    assert sorted(placed) == ["model", "pinned"]


def test_a_node_whose_key_is_removed_is_disconnected(host: Host) -> None:
    """All that it runs is ended at once, although its lease goes on; nothing starts there."""
    host.run("node", "keys", "box")
    with node(host):
        host.run("start", "model")
        pid = host.wait_for("model", "running")["pid"]
        removed = host.run("node", "keys", "--remove", "box")
        assert (removed.code, "removed " in removed.out) == (0, True)
        until(lambda: host.events("node.removed"), what="it was noticed")
        until(lambda: not Path(f"/proc/{pid}").exists(), what="its worker was ended")
        until(lambda: host.status("model")["state"] == "queued", what="it waits")
        assert host.status("model")["reason"].endswith(f"; node box {ABSENT}")
        until(lambda: host.events("node.refused"), what="its next connection was refused")
        again = host.run("node", "keys", "--remove", "box")
        assert "box has no key in" in again.err
        host.run("node", "keys", "box")
        assert "box" in host.run("nodes").out
        host.run("stop", "model")
    assert host.events("node.fenced") == []
