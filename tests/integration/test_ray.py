"""With a real Ray cluster: it says where a service runs, and ends nothing of it."""

import itertools
import os
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support.host import Host, hosting
from tests.support.machines import NodeMachine, machines
from tests.support.proc import children
from tests.support.ray_cluster import join_cluster, kill_raylet, need_ray, ray_head, token_of
from tests.support.waiting import until

pytestmark = pytest.mark.external

LONG_S = 120.0
CONFIG = """
[host]
orphan_grace = 5.0
[engine]
kind = "ray"
address = "10.77.0.1:6379"
listen = "10.77.0.1:0"
lease = 6.0
[plugins.twin]
[services.twin]
resources = { place = 1 }
env = { TWIN_FILE = "%s" }
"""


@dataclass
class Cluster:
    """A host whose nodes are machines of a Ray cluster."""

    host: Host
    nodes: dict[str, NodeMachine]
    witness: Path

    def row(self) -> dict[str, Any]:
        """Return the service's row."""
        return self.host.status("twin")

    def runs_on(self, *names: str) -> bool:
        """Return whether the service runs on one of these nodes."""
        row = self.row()
        return row["state"] == "running" and row["node"] in names

    def placer(self) -> int:
        """Return the pid of the program that speaks to Ray."""
        (pid,) = [
            pid
            for pid in children(int(self.host.head()["pid"]))  # type: ignore[index]
            if b"ray_placer" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        return pid

    def assert_one_at_a_time(self) -> None:
        """Fail if two incarnations have run at one time."""
        found: dict[str, tuple[float, float]] = {}
        for line in self.witness.read_text().splitlines():
            mark, _, at = line.partition(" ")
            found[mark] = found.get(mark, (float(at), 0.0))[0], float(at)
        for (_, last), (first, _) in itertools.pairwise(sorted(found.values())):
            assert last < first


@pytest.fixture(name="cluster")
def _cluster() -> Iterator[Cluster]:
    need_ray()
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as name:
        folder = Path(name)
        witness, token = folder / "twin", token_of(folder)
        witness.touch()
        names = ["left", "right"]
        with (
            hosting(CONFIG % witness, ["twin"], env=token, up=False, forked=False) as host,
            machines(host, names, start=False) as made,
            ray_head(host, folder, token),
        ):
            for one in made:
                join_cluster(one, host, token)
            yield Cluster(host, dict(zip(names, made, strict=True)), witness)


def test_ray_places_and_garrison_runs(cluster: Cluster) -> None:
    """Ray starts the nodes, and places a service by its resources. A killed placer changes nothing.
    When a raylet is killed, the service is stopped there in order and goes on elsewhere."""
    until(lambda: cluster.runs_on("left", "right"), LONG_S, what="twin was placed")
    row = cluster.row()
    shown = cluster.host.ask("nodes")
    assert {one["name"] for one in shown["nodes"]} == {"supervisor", "left", "right"}
    os.kill(cluster.placer(), signal.SIGKILL)
    until(lambda: cluster.host.ask("nodes")["problem"], what="the placer is lost")
    until(lambda: not cluster.host.ask("nodes")["problem"], LONG_S, what="it is back")
    assert (cluster.row()["node"], cluster.row()["generation"]) == (row["node"], row["generation"])

    (other,) = {"left", "right"} - {row["node"]}
    kill_raylet(cluster.nodes[row["node"]])
    until(lambda: cluster.runs_on(other), LONG_S, what="twin runs on the other node")
    cluster.assert_one_at_a_time()
    event = cluster.host.events("service.placed", "twin")[-1]["data"]
    assert (event["before"], event["node"]) == (row["node"], other)
