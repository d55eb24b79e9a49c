"""Measure services on nodes, beside Ray's actors in the same run, and print a table.

    .venv/bin/python benchmarks/nodes.py [--quick] [--ray PYTHON]

A host and two nodes on this machine, over TCP with keys on loopback. Calls go from a service on the
supervisor's machine to one on a node. A worker is killed, and then all processes of a node. `--ray`
is a Python with Ray: its actor is measured by turns with the calls. Nothing else should run.
"""

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import psutil

# Run as a file, the path starts with this folder; modules here are named from the one above.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import machine
from benchmarks.host import SERVICES, START_S, Host, running
from benchmarks.peer_calls import CALL_PEERS, WIDTH, Caller, PeerFailed, peer_caller

from garrison.ipc import GarrisonError, with_timeout
from garrison.supervisor.state.node_keys import make_keys

NODE = (sys.executable, "-P", "-m", "garrison.supervisor.cli", "node")
NAMES = ("box", "far")
LEASE_S, LONG_S, END_S = 6.0, 60.0, 30.0
CONFIG = """
[host]
orphan_grace = 5.0
[engine]
kind = "nodes"
listen = "127.0.0.1:0"
lease = 6.0
[engine.nodes.box]
resources = { place = 1 }
[engine.nodes.far]
resources = { place = 1 }
[plugins.caller]
[plugins.echo]
[services.here]
plugin = "echo"
type = "echo"
[services.there]
plugin = "echo"
type = "echo"
resources = { place = 1 }
"""


class Size(NamedTuple):
    """How much is measured: rounds, calls of each kind in one, kills, losses of a node."""

    rounds: int
    call: int
    flight: int
    kills: int
    losses: int


FULL, QUICK = Size(9, 1000, 6_400, 9, 3), Size(2, 300, 1_280, 2, 1)


class Site:
    """A host with nodes.

    Args:
        host: The host.
        folder: Has the nodes' homes.
    """

    def __init__(self, host: Host, folder: Path) -> None:
        self.host, self._folder = host, folder
        self._nodes: dict[str, asyncio.subprocess.Process] = {}

    async def start(self, name: str) -> None:
        """Start a node."""
        listens = msgspec.json.decode((self.host.home / "run" / "engine.json").read_bytes())
        make_keys(self.host.home, [name], listens["engine"])
        key = self.host.home / "node-keys" / f"{name}.key"
        words = ("--key", str(key), "--home", str(self._folder / name))
        self._nodes[name] = await asyncio.create_subprocess_exec(
            *(*NODE, *words, "--folder", str(self._folder)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )

    async def lose(self, name: str) -> None:
        """Kill every process of a node, as the loss of a machine does."""
        process = self._nodes.pop(name)
        for one in [*psutil.Process(process.pid).children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        process.kill()
        await process.wait()

    async def row(self, name: str) -> tuple[str, int]:
        """Return a service's node, and its pid."""
        data = await self.host.client.order("status", (name,))
        row = data["services"][0]
        return str(row["node"]), int(row["pid"] or 0)

    async def until_answered(self) -> float:
        """Return how long it takes until the service on a node answers."""
        began = time.perf_counter()
        while time.perf_counter() - began < LONG_S:
            with contextlib.suppress(GarrisonError, TimeoutError):
                service = await self.host.client.get_service_load_promise("there", LONG_S)
                await with_timeout(service, 1.0).echo("x")
                return time.perf_counter() - began
        raise TimeoutError("the service did not come back")

    async def end(self) -> None:
        """End the nodes."""
        for name in list(self._nodes):
            await self.lose(name)


@contextlib.asynccontextmanager
async def site() -> AsyncIterator[Site]:
    """Run a host with two nodes."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as name:
        folder = Path(name)
        config = folder / "config.toml"
        config.write_text(CONFIG)
        for plugin in ("caller", "echo"):
            shutil.copy(SERVICES / f"{plugin}.py", folder)
        async with running(config, ["caller", "here"]) as host:
            made = Site(host, folder)
            try:
                for one in NAMES:
                    await made.start(one)
                async with asyncio.timeout(START_S):
                    await made.host.client.get_service_load_promise("there", START_S)
                yield made
            finally:
                await made.end()


async def measure_calls(size: Size, site: Site, ray: Caller | None) -> dict[str, dict[str, float]]:
    """Measure calls by turns: to a service here, to one on a node, to Ray's actor."""
    service = site.host.client.get_service("caller")
    assert service is not None
    patient = with_timeout(service, LONG_S)
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(size.rounds):
        for title, name in (("this machine", "here"), ("a node", "there")):
            figures = found.setdefault(title, {"call": [], "flight": []})
            figures["call"].append(statistics.median(await patient.small(name, size.call)))
            took = await patient.small_side_by_side(name, size.flight, WIDTH)
            figures["flight"].append(size.flight / took)
        if ray is not None:
            figures = found.setdefault("Ray's actor", {"call": [], "flight": []})
            figures["call"].append(await ray("call", size.call))
            figures["flight"].append(await ray("flight", size.flight))
    return {
        title: {what: statistics.median(values) for what, values in figures.items()}
        for title, figures in found.items()
    }


async def measure_kills(size: Size, site: Site) -> tuple[list[float], list[float]]:
    """Return how long the service did not answer: its worker was killed, and its node was lost."""
    kills, losses = list[float](), list[float]()
    for _ in range(size.kills):
        _, pid = await site.row("there")
        os.kill(pid, signal.SIGKILL)
        kills.append(await site.until_answered())
        await asyncio.sleep(0.2)
    for _ in range(size.losses):
        node, _ = await site.row("there")
        await site.lose(node)
        losses.append(await site.until_answered())
        await asyncio.sleep(LEASE_S)  # until the lost node is forgotten, and takes the next
        await site.start(node)
        await asyncio.sleep(LEASE_S)
    return kills, losses


@contextlib.asynccontextmanager
async def ray_caller(python: str) -> AsyncIterator[Caller | None]:
    """Run Ray's actor, if there is a Python for it."""
    if not python:
        yield None
        return
    peer = next(one for one in CALL_PEERS if one.program == "ray_peer.py")
    async with peer_caller(peer, python) as caller:
        yield caller


async def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--ray", default="", metavar="PYTHON")
    given = parser.parse_args()
    size = QUICK if given.quick else FULL
    print(machine.line(machine.describe()))
    async with site() as there:
        try:
            async with ray_caller(given.ray) as ray:
                calls = await measure_calls(size, there, ray)
        except PeerFailed as error:
            print(f"Ray was left out: {error}", file=sys.stderr)
            calls = await measure_calls(size, there, None)
        kills, losses = await measure_kills(size, there)
    for title, figures in calls.items():
        print(f"call, {title}: p50 {figures['call'] * 1e6:.0f} µs, ", end="")
        print(f"{figures['flight']:,.0f} a second with {WIDTH} in flight")
    print(f"worker on a node killed, to the next answer: {statistics.median(kills) * 1000:.0f} ms")
    print(f"node lost, to the next answer: {statistics.median(losses):.1f} s (lease {LEASE_S:g} s)")


if __name__ == "__main__":
    asyncio.run(main())
