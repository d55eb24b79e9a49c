"""Machines that a test makes: network, PID and mount namespaces, connected by a bridge.

The supervisor's machine has a network of its own and shares files and processes with the test. A
node's machine has its own processes too, and does not see the supervisor's folder. Needs root.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from garrison.supervisor.state import node_keys

from .host import Host
from .namespaces import Machine, Network, children_of, may_make_machines
from .waiting import until


class NodeMachine(Machine):
    """A machine with a node.

    Args:
        name: The node's.
        network: It is connected to that.
        host: The host of the supervisor.
    """

    def __init__(self, name: str, network: Network, host: Host) -> None:
        super().__init__(network, host.folder)
        self.name, self._host = name, host
        for plugin in host.folder.glob("*.py"):
            shutil.copy(plugin, self.folder)
        self.key = self.folder / f"{name}.key"
        self._node: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Start `garrison node`."""
        if not self.key.exists():
            made = self._host.home / "node-keys" / f"{self.name}.key"
            shutil.copy(made, self.key)
        words: tuple[str, ...] = ("-P", "-m", "garrison.supervisor.cli", "node")
        words += ("--key", str(self.key), "--home", str(self.home))
        words += ("--folder", str(self.folder), *options)
        with (self.folder / "node.out").open("ab") as out:
            self._node = subprocess.Popen(
                [*self.prefix, sys.executable, *words],
                cwd=self.folder,
                env=self._host.environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    @property
    def output(self) -> str:
        """Return what `garrison node` has printed."""
        return (self.folder / "node.out").read_text("utf-8", "replace")

    @property
    def home(self) -> Path:
        """Return the node's home."""
        return self.folder / ".garrison-node"

    @property
    def pid(self) -> int:
        """Return the pid of the node's process, outside."""
        assert self._node is not None
        found = until(lambda: children_of(self._node.pid))  # type: ignore[union-attr]
        return found[0]

    def kill_node(self) -> None:
        """Kill the node's process."""
        os.kill(self.pid, signal.SIGKILL)
        assert self._node is not None
        self._node.wait()

    def wait(self, timeout: float) -> int:
        """Return the exit code of the node's process, once it has ended."""
        assert self._node is not None
        return self._node.wait(timeout)

    def terminate(self) -> None:
        """Order the node's process to end."""
        os.kill(self.pid, signal.SIGTERM)

    def close(self) -> None:
        """End everything on it."""
        super().close()
        if self._node is not None:  # `nsenter`, which stops when its child is stopped
            self._node.kill()
            self._node.wait()


@contextlib.contextmanager
def machines(
    host: Host, names: Sequence[str], *, start: bool = True
) -> Iterator[list[NodeMachine]]:
    """Start a host on a machine of its own, and nodes on theirs.

    Args:
        host: Was not started yet; `listen` in its config is `10.77.0.1:0`.
        names: Of the nodes.
        start: Whether to start the nodes.
    """
    if problem := may_make_machines():
        if os.environ.get("CI") == "true":
            pytest.fail(problem)
        pytest.skip(problem)
    network, made = Network(), list[NodeMachine]()
    try:
        host.prefix = network.prefix
        host.start()
        until(lambda: host.head() is not None or ended(host), what="the supervisor answers")
        make_keys(host, names)
        made += [NodeMachine(name, network, host) for name in names]
        for one in made if start else ():
            one.start()
        yield made
    finally:
        host.end()
        for one in made:
            one.close()
        network.close()


def ended(host: Host) -> bool:
    """Fail if a supervisor has ended."""
    assert host.process is not None
    if host.process.poll() is not None:
        pytest.fail(f"the supervisor ended at once:\n{host.output}")
    return False


def make_keys(host: Host, names: Sequence[str]) -> None:
    """Make the keys of nodes."""
    listens = msgspec.json.decode((host.home / "run" / "engine.json").read_bytes())
    node_keys.make_keys(host.home, names, listens["engine"])
