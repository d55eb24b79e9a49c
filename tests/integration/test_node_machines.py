"""Nodes on machines of their own: network, processes and files are others than the supervisor's."""

import itertools
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.distribution import ALONE
from tests.support.host import Host, hosting
from tests.support.machines import NodeMachine, machines
from tests.support.waiting import PATIENCE, eventually, until

pytestmark = [pytest.mark.external, pytest.mark.xdist_group(ALONE)]  # leases and partitions

WATCHDOG_S = 4.0
LEASE_S, SHORT_S = 20.0, 6.0  # a supervisor starts within the first one on a busy machine, too
SECRET = "hidden-in-the-assignment"
CONFIG = """
[host]
orphan_grace = %g
[engine]
kind = "nodes"
listen = "10.77.0.1:0"
lease = %g
%s
[plugins.echo]
[services.echo]
[plugins.steady]
[services.steady]
node = "%s"
[plugins.twin]
[services.twin]
resources = { place = 1 }
watchdog = %g
env = { TWIN_FILE = "%s" }
secrets = ["TWIN_TOKEN"]
intensity = 100
"""


class Site:
    """A host with nodes."""

    def __init__(self, host: Host, nodes: list[NodeMachine], witness: Path) -> None:
        self.host, self.nodes, self._witness = host, nodes, witness

    async def pid(self) -> int:
        """Return the pid of the worker on its node, from itself."""
        pid: int = await self.host.call("twin", "pid")
        return pid

    async def answers(self) -> int:
        """Return that pid, as soon as the service answers."""

        async def answer() -> int:
            try:
                return await self.pid()
            except Exception:  # noqa: BLE001 (it is lost, or not there yet)
                return 0

        return await eventually(answer, what="twin answers")

    def spans(self) -> list[tuple[float, float, str]]:
        """Return of each incarnation when it has run first and last, in order."""
        found: dict[str, tuple[float, float]] = {}
        for line in self._witness.read_text().splitlines():
            mark, _, at = line.partition(" ")
            first, _ = found.get(mark, (float(at), 0.0))
            found[mark] = first, float(at)
        return sorted((first, last, mark) for mark, (first, last) in found.items())

    @property
    def written(self) -> int:
        """Return how often any has written."""
        return len(self._witness.read_text().splitlines())

    def assert_one_at_a_time(self) -> None:
        """Fail if two incarnations have run at one time."""
        spans = self.spans()
        for (_, last, former), (first, _, later) in itertools.pairwise(spans):
            assert last < first, f"{former} and {later} have run beside each other"

    async def assert_same(self, pid: int, cut_s: float = 0.0) -> None:
        """Fail, with what has happened, if a worker answers that has another pid.

        Args:
            pid: The pid.
            cut_s: How long a partition was.
        """
        now = await self.answers()
        if now != pid:
            deaths = self.host.run("deaths", json=True).data["deaths"]
            lines = [
                f"twin has the pid {now}, not {pid}; the partition lasted {cut_s:.1f} s",
                *(str(one) for one in [*deaths, *self.host.events()[-40:]]),
                *(node.output for node in self.nodes),
            ]
            pytest.fail("\n".join(lines))

    def cut(self, node: NodeMachine, until_true: Callable[[], object]) -> float:
        """Cut a node off until something holds; return for how many seconds.

        A machine that is so busy that this takes as long as a lease shows nothing.
        """
        began = time.monotonic()
        node.cut()
        until(until_true)
        node.cut(False)
        length = time.monotonic() - began
        assert length < LEASE_S - 2.0, f"the partition has lasted {length:.1f} s"
        return length

    def row(self) -> dict[str, Any]:
        """Return the service's row."""
        return self.host.status("twin")


def _site(names: list[str], lease: float = LEASE_S) -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="w", dir="/tmp") as folder:
        witness = Path(folder) / "twin"
        witness.touch()
        env = {"TWIN_TOKEN": SECRET}
        tables = "\n".join(f"[engine.nodes.{name}]\nresources = {{ place = 1 }}" for name in names)
        config = CONFIG % (lease, lease, tables, names[0], WATCHDOG_S, witness)
        with (
            hosting(config, ["echo", "steady", "twin"], env=env, up=False, forked=False) as host,
            machines(host, names) as nodes,
        ):
            host.wait_for("twin", "running")
            host.wait_for("steady", "running")
            yield Site(host, nodes, witness)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Return a host with one node, which is used by all tests that leave it running."""
    yield from _site(["box"])


@pytest.fixture
def two() -> Iterator[Site]:
    """Return a host with two nodes."""
    yield from _site(["left", "right"], SHORT_S)


async def test_a_call_goes_to_another_machine_and_back(site: Site) -> None:
    """The pid is one of that machine, and its memory is measured there."""
    pid = await site.answers()
    (box,) = site.nodes
    until(lambda: site.row()["rss_bytes"], what="its memory is known")
    row = site.row()

    assert "g:twin" in box.processes()
    assert row["pid"] == pid
    assert box.outside(pid) != pid
    assert await site.host.call("twin", "echo", 7) == 7
    until(lambda: "twin got 7" in site.host.log("twin"), what="its log is on this machine")


async def test_a_killed_worker_comes_back(site: Site) -> None:
    """Its crash report has its last calls, its log, and how it ended."""
    (box,) = site.nodes
    pid = await site.answers()
    assert await site.host.call("twin", "echo", 11) == 11
    box.kill(pid)
    assert await site.answers() != pid

    death = until(lambda: site.host.run("deaths", json=True).data["deaths"])[0]
    report = site.host.run("death", death["id"], json=True).data
    text = str(report)
    assert "SIGKILL" in text
    assert "echo" in text
    assert "twin got 11" in text
    site.assert_one_at_a_time()


async def test_a_killed_node_process_finds_its_workers(site: Site) -> None:
    """They run on, and it adopts them; their log is sent once."""
    (box,) = site.nodes
    pid = await site.answers()
    await site.host.call("twin", "echo", 13)
    until(lambda: "twin got 13" in site.host.log("twin"))
    box.kill_node()
    box.start()
    until(lambda: box.output.count("in contact") > 1, what="the next one has contact")

    await site.assert_same(pid)
    await site.host.call("twin", "echo", 14)
    until(lambda: "twin got 14" in site.host.log("twin"))
    assert site.host.log("twin").count("twin got 13") == 1


async def test_workers_outlive_their_launcher(site: Site) -> None:
    """The node ends their processes, and starts another launcher."""
    (box,) = site.nodes
    pid = await site.answers()
    launcher = int(box.run("ps", "-o", "ppid=", "-p", str(pid)))
    box.kill(launcher)
    until(lambda: site.host.events("node.launcher_lost"))
    await site.assert_same(pid)

    box.kill(pid)
    assert await site.answers() != pid


@pytest.mark.parametrize("way", ["kill", "upgrade"])
async def test_workers_outlive_their_supervisor(site: Site, way: str) -> None:
    """The next one finds them: same pid, same generation."""
    before, pid = site.row(), await site.answers()
    if way == "kill":
        site.host.end(signal.SIGKILL)
        site.host.start()
        until(lambda: site.host.head() is not None)
    else:
        assert site.host.run("upgrade").code == 0

    await site.assert_same(pid)
    after = site.row()
    same = ("pid", "generation", "restarts")
    assert [after[key] for key in same] == [before[key] for key in same]


async def test_a_short_partition_ends_nothing(site: Site) -> None:
    """A call that is made meanwhile is answered after it."""
    (box,) = site.nodes
    pid, before = await site.answers(), len(site.host.events("node.lost"))
    warned = "node box has no contact: calls to it wait"

    def is_lost() -> bool:
        lost = len(site.host.events("node.lost")) > before
        return lost and warned in site.row()["warnings"]

    length = site.cut(box, is_lost)
    await site.assert_same(pid, length)
    until(lambda: warned not in site.row()["warnings"], what="it has contact again")


async def test_a_partition_after_an_adoption_ends_nothing(site: Site) -> None:
    """The next supervisor has received no beat of the worker yet; its watchdog is over."""
    (box,) = site.nodes
    pid, before = await site.answers(), len(site.host.events("node.joined"))
    site.host.end(signal.SIGKILL)
    site.host.start()
    until(lambda: len(site.host.events("node.joined")) > before, what="the node has contact")
    await site.assert_same(pid)
    at = time.monotonic() + WATCHDOG_S + 1.0
    length = site.cut(box, lambda: time.monotonic() > at)
    await site.assert_same(pid, length)


async def test_a_worker_that_hangs_is_ended(site: Site) -> None:
    """Its machine reports that its loop does not turn."""
    (box,) = site.nodes
    pid = await site.answers()
    box.kill(pid, signal.SIGSTOP)
    assert await site.answers() != pid

    def is_recorded() -> bool:
        deaths = site.host.run("deaths", json=True).data["deaths"]
        return any(one["kind"] == "watchdog" and one["node"] == "box" for one in deaths)

    until(is_recorded, what="its death is recorded")


async def test_secrets_are_in_the_worker_alone(site: Site) -> None:
    """In no file of either machine, no argument, and no environment but the worker's."""
    (box,) = site.nodes
    await site.answers()
    needles = [SECRET.encode()]
    needles.append(_secret_of(box.key).encode())
    keys = {box.key, *(site.host.home / "node-keys").glob("*.key")}
    for folder in (site.host.folder, box.folder):
        for path in folder.rglob("*"):
            if path.is_file() and path not in keys:
                content = path.read_bytes()
                assert not any(needle in content for needle in needles), path
    assert_no_process_has(needles, {box.outside(await site.pid()), os.getpid()})


def assert_no_process_has(needles: list[bytes], others: set[int]) -> None:
    """Fail if a secret is in the arguments or the environment of a process, or of others alone.

    The service's own is in the environment of the supervisor, from which it is taken.
    """
    for path in Path("/proc").glob("[0-9]*"):
        try:
            content = (path / "cmdline").read_bytes() + (path / "environ").read_bytes()
        except OSError:
            continue
        content = content.replace(b"TWIN_TOKEN=" + needles[0], b"")
        assert int(path.name) in others or not any(one in content for one in needles), path


def _secret_of(path: Path) -> str:
    from garrison.supervisor.state.node_keys import read_key

    return read_key(path).secret


async def test_a_partition_moves_a_service_after_the_lease(two: Site) -> None:
    """Both machines go on, and never do two incarnations run: the former has ended before."""
    await two.answers()
    there = until(lambda: two.row()["node"])
    lost, other = sorted(two.nodes, key=lambda one: one.name != there)
    lost.cut()
    until(lambda: two.row()["node"] == other.name and two.row()["state"] == "running")
    await two.answers()
    assert "g:twin" not in lost.processes()
    two.assert_one_at_a_time()

    lost.cut(False)
    until(lambda: len(two.host.events("node.joined")) > 2, what="it has contact again")
    written = two.written
    until(lambda: two.written > written + 10, what="what has come back would have written, too")
    two.assert_one_at_a_time()
    assert len(two.spans()) == 2


async def test_a_stopped_node_ends_its_workers(two: Site) -> None:
    """The kernel does it: the node's process is stopped, and so is the worker's loop."""
    pid = await two.answers()
    there = until(lambda: two.row()["node"])
    stopped, other = sorted(two.nodes, key=lambda one: one.name != there)
    node = stopped.pid
    os.kill(node, signal.SIGSTOP)
    stopped.kill(pid, signal.SIGSTOP)
    until(lambda: two.row()["node"] == other.name and two.row()["state"] == "running")
    assert not stopped.outside(pid)
    two.assert_one_at_a_time()
    os.kill(node, signal.SIGCONT)


async def test_a_node_that_is_ordered_to_end_is_emptied(two: Site) -> None:
    """Its services move, in order; then its process ends by itself."""
    await two.answers()
    there = until(lambda: two.row()["node"])
    leaving, other = sorted(two.nodes, key=lambda one: one.name != there)
    before = two.row()["restarts"]
    leaving.terminate()
    assert leaving.wait(PATIENCE) == 0
    until(lambda: two.row()["node"] == other.name and two.row()["state"] == "running")
    assert two.row()["restarts"] == before, two.host.events("", "twin")
    two.assert_one_at_a_time()


async def test_a_bound_service_waits_for_its_node(two: Site) -> None:
    """It stops in order when its node is ordered to end, and runs again when that is back."""
    left, _ = two.nodes
    left.terminate()
    assert left.wait(PATIENCE) == 0
    row = two.host.status("steady")
    assert (row["state"], row["last_exit"], row["restarts"]) == ("queued", "exited with code 0", 0)
    assert "node left" in row["reason"]

    left.start()
    two.host.wait_for("steady", "running")
