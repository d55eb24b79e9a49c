"""Minutes without Ray, minutes of partitions, and raylets that are killed again and again."""

import os
import signal
import time
from collections.abc import Callable, Iterator

import psutil
import pytest
from tests.support.ray_cluster import LONG_S, Cluster, kill_raylet, ray_cluster
from tests.support.waiting import until

pytestmark = [pytest.mark.soak, pytest.mark.external]

WITHOUT_S = 180.0  # Ray ends its drivers and raylets 60 s after it was lost
CUT_S = 150.0  # Ray's own actors live on for 34 to 125 s
KILLS = 5


@pytest.fixture(name="cluster")
def _cluster() -> Iterator[Cluster]:
    with ray_cluster() as cluster:
        yield cluster


def during(seconds: float, holds: Callable[[], bool]) -> None:
    """Fail if a condition does not hold at some time within so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert holds()
        time.sleep(0.5)


def placed(cluster: Cluster, *names: str) -> str:
    """Return the node of the service, once it runs on one of these."""
    until(lambda: cluster.runs_on(*names), LONG_S, what=f"twin runs on one of {names}")
    return str(cluster.row()["node"])


def identity(cluster: Cluster) -> tuple[int, int]:
    """Return what stays as long as the service runs on."""
    row = cluster.row()
    return row["pid"], row["generation"]


def kill_head(cluster: Cluster) -> None:
    """Kill the store of the cluster, with which its head ends."""
    head = cluster.folder / "head.out"
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or ())
        if "gcs_server" in words and str(head.parent) in words:
            os.kill(process.pid, signal.SIGKILL)
            cluster.head.close()
            return
    pytest.fail("Ray has no store")


def test_minutes_without_ray_end_nothing(cluster: Cluster) -> None:
    """The service goes on, and comes back on its node when it is killed. Its placer ends and is
    started again; once there is a cluster, that learns what runs where, and moves nothing."""
    node = placed(cluster, "left", "right")
    before = identity(cluster)
    kill_head(cluster)
    until(lambda: cluster.host.ask("nodes")["problem"], LONG_S, what="Ray is lost")
    during(WITHOUT_S / 2, lambda: identity(cluster) == before)
    cluster.nodes[node].kill(cluster.row()["pid"])
    until(lambda: identity(cluster)[1] > before[1] and cluster.runs_on(node), LONG_S)
    before = identity(cluster)
    during(WITHOUT_S / 2, lambda: identity(cluster) == before)

    cluster.start_head()
    for name in cluster.nodes:
        cluster.join(name)
    until(lambda: not cluster.host.ask("nodes")["problem"], LONG_S, what="the placer is back")
    during(20.0, lambda: identity(cluster) == before and cluster.runs_on(node))
    cluster.assert_one_at_a_time()


def test_partitions_of_minutes_make_no_twins(cluster: Cluster) -> None:
    """Each machine is cut off once, for longer than Ray's own actors live on there."""
    for _ in range(2):
        _cut_off(cluster, placed(cluster, "left", "right"))
        cluster.assert_one_at_a_time()


def _cut_off(cluster: Cluster, node: str) -> None:
    (other,) = cluster.nodes.keys() - {node}
    cluster.nodes[node].cut()
    began = time.monotonic()
    placed(cluster, other)
    after = identity(cluster)
    during(began + CUT_S - time.monotonic(), lambda: identity(cluster) == after)
    assert "g:twin" not in cluster.nodes[node].processes()
    cluster.nodes[node].cut(False)
    cluster.join(node)
    until(lambda: _has_contact(cluster, node), LONG_S, what="it has contact again")
    during(10.0, lambda: identity(cluster) == after)


def test_raylets_that_are_killed_again_and_again(cluster: Cluster) -> None:
    """The service moves each time, in order, and each machine has one node."""
    for _ in range(KILLS):
        _lose_raylet(cluster, placed(cluster, "left", "right"))
    cluster.assert_one_at_a_time()
    assert cluster.row()["restarts"] == 0
    for machine in cluster.nodes.values():
        lines = machine.run("ps", "-e", "-o", "args=").splitlines()
        assert len([one for one in lines if "garrison.supervisor.cli node" in one]) == 1
    assert cluster.placer()


def _lose_raylet(cluster: Cluster, node: str) -> None:
    (other,) = cluster.nodes.keys() - {node}
    kill_raylet(cluster.nodes[node])
    placed(cluster, other)
    cluster.join(node)
    until(lambda: _in_ray(cluster, node), LONG_S, what="Ray has the machine again")


def _has_contact(cluster: Cluster, node: str) -> bool:
    rows = {one["name"]: one for one in cluster.host.ask("nodes")["nodes"]}
    return bool(rows[node]["up"])


def _in_ray(cluster: Cluster, node: str) -> bool:
    rows = {one["name"]: one for one in cluster.host.ask("nodes")["nodes"]}
    return bool(rows[node]["up"]) and rows[node]["resources"].get("place") == 1
