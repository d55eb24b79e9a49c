"""With a real Ray cluster: it says where a service runs, and ends nothing of it."""

import os
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
