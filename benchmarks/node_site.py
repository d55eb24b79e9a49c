"""A host with two nodes, each on a machine of namespaces; needs root. Times are monotonic seconds.

The machines are connected by a bridge, over which nothing else goes.
"""

import asyncio
import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
from tests.support.namespaces import OWN, Machine, Network

from garrison.ipc import GarrisonError, with_timeout
from garrison.supervisor.state.node_keys import make_keys

from .host import SERVICES, START_S, Host, running

NODE = (sys.executable, "-P", "-m", "garrison.supervisor.cli", "node")
NAMES = ("box", "far")
LONG_S, ASK_S = 240.0, 1.0
CONFIG = """
[engine]
kind = "nodes"
listen = "%s:0"
[engine.nodes.box]
resources = { place = 1 }
[engine.nodes.far]
resources = { place = 1 }
[plugins.caller]
[plugins.echo]
[plugins.seen]
[services.here]
plugin = "echo"
type = "echo"
[services.there]
plugin = "seen"
type = "seen"
resources = { place = 1 }
env = { SEEN_FILE = "%s" }
"""


class Site:
    """A host and its nodes.

    Args:
        host: The host.
        network: Of the supervisor's machine.
        machines: The nodes' machines, by their NAMEs.
        seen: The file in which the service writes that it runs.
    """

    def __init__(
        self, host: Host, network: Network, machines: dict[str, Machine], seen: Path
    ) -> None:
        self.host, self.network, self.machines, self.seen = host, network, machines, seen

    async def where(self) -> tuple[str, int]:
        """Return the node of the service on a node, and its pid there."""
        row = (await self.host.client.order("status", ("there",)))["services"][0]
        return str(row["node"]), int(row["pid"] or 0)

    async def answered(self) -> float:
        """Return when the service on a node answers next."""
        until = time.monotonic() + LONG_S
        while time.monotonic() < until:
            with contextlib.suppress(GarrisonError, TimeoutError):
                service = await self.host.client.get_service_load_promise("there", LONG_S)
                await with_timeout(service, ASK_S).value("x")
                return time.monotonic()
        raise TimeoutError("the service on a node did not come back")


@contextlib.asynccontextmanager
async def site() -> AsyncIterator[Site]:
    """Run a host with two nodes, and yield once the service on a node runs."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as name, _machines() as made:
        folder, (network, machines) = Path(name), made
        config, seen = folder / "config.toml", folder / "seen"
        config.write_text(CONFIG % (OWN, seen))
        for plugin in ("caller", "echo", "seen"):
            shutil.copy(SERVICES / f"{plugin}.py", folder)
        async with running(config, ["caller", "here"], network.prefix) as host:
            listens = msgspec.json.decode((host.home / "run" / "engine.json").read_bytes())
            make_keys(host.home, list(machines), listens["engine"])
            nodes = [await _start(host, folder, *one) for one in machines.items()]
            async with asyncio.timeout(START_S):
                await host.client.get_service_load_promise("there", START_S)
            yield Site(host, network, machines, seen)
        for machine in machines.values():
            machine.close()
        for node in nodes:
            await node.wait()


@contextlib.contextmanager
def _machines() -> Iterator[tuple[Network, dict[str, Machine]]]:
    network, hidden = Network(), Path(tempfile.mkdtemp(prefix="hidden-", dir="/tmp"))
    machines = dict[str, Machine]()
    try:
        for name in NAMES:
            machines[name] = Machine(network, hidden)
        yield network, machines
    finally:
        for machine in machines.values():
            machine.close()
        network.close()
        hidden.rmdir()


async def _start(
    host: Host, folder: Path, name: str, machine: Machine
) -> asyncio.subprocess.Process:
    key = host.home / "node-keys" / f"{name}.key"
    words = ("--key", str(key), "--home", str(machine.folder / "node"), "--folder", str(folder))
    return await asyncio.create_subprocess_exec(
        *(*machine.prefix, *NODE, *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
    )
