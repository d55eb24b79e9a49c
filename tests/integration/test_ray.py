"""With a real Ray cluster: it says where a service runs, and ends nothing of it."""

import os
import shutil
import signal
from collections.abc import Iterator

import pytest
from tests.support.ray_cluster import LONG_S, Cluster, kill_raylet, ray_cluster
from tests.support.waiting import until

pytestmark = pytest.mark.external


@pytest.fixture(name="cluster")
def _cluster() -> Iterator[Cluster]:
    with ray_cluster() as cluster:
        yield cluster


async def test_ray_places_and_garrison_runs(cluster: Cluster) -> None:
    """Ray starts the nodes, and places a service by its resources. A killed placer changes nothing.
    When a raylet is killed, the service is stopped there in order and goes on elsewhere. What Ray
    has brought is there for it, also without Ray's own copy; it uses the GPU that Ray holds."""
    until(lambda: cluster.runs_on("left", "right"), LONG_S, what="twin was placed")
    row = cluster.row()
    assert await cluster.host.call("twin", "finds", "brought")
    brought = {"supervisor": None, "left": "1.0", "right": "1.0"}
    until(lambda: cluster.versions("brought") == brought, LONG_S, what="both nodes have joined")
    assert await cluster.host.call("twin", "gpus") in {"0", "1"}
    os.kill(cluster.placer(), signal.SIGKILL)
    until(lambda: cluster.host.ask("nodes")["problem"], what="the placer is lost")
    until(lambda: not cluster.host.ask("nodes")["problem"], LONG_S, what="it is back")
    assert (cluster.row()["node"], cluster.row()["generation"]) == (row["node"], row["generation"])

    (other,) = {"left", "right"} - {row["node"]}
    kill_raylet(cluster.nodes[row["node"]])
    until(lambda: cluster.runs_on(other), LONG_S, what="twin runs on the other node")
    cluster.assert_one_at_a_time()
    for found in cluster.folder.glob("session_*/runtime_resources/py_modules_files/*"):
        shutil.rmtree(found, ignore_errors=True)  # there are locks, too
    assert await cluster.host.call("twin", "finds", "brought")
    event = cluster.host.events("service.placed", "twin")[-1]["data"]
    assert (event["before"], event["node"]) == (row["node"], other)
