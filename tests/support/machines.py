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
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from garrison.supervisor.state import node_keys

from .host import Host
from .waiting import until

# The first process of a machine: it reaps what is re-parented to it
FIRST = (
    "import os,signal;signal.signal(signal.SIGCHLD,signal.SIG_IGN);os.write(1,b'.');signal.pause()"
)
BRIDGE = "br0"
OWN = "10.77.0.1"  # the supervisor's machine


def may_make_machines() -> str:
    """Return why this process cannot make machines; empty: it can."""
    if os.geteuid() != 0:
        return "needs root"
    for tool in ("ip", "unshare", "nsenter"):
        if shutil.which(tool) is None:
            return f"needs {tool}"
    link = ("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1")
    apart = ("unshare", "-n", "-p", "-m", "-f", "--mount-proc")
    tried = subprocess.run([*apart, *link], capture_output=True, check=False)
    return "" if tried.returncode == 0 else f"no namespaces: {tried.stderr.decode().strip()}"


def _first(*options: str) -> subprocess.Popen[bytes]:
    """Start the first process of a machine; return `unshare`, whose child it is."""
    command = ["unshare", *options, sys.executable, "-S", "-c", FIRST]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.read(1) == b"."
    return process


class Network:
    """The network of the supervisor's machine, to which nodes are connected."""

    def __init__(self) -> None:
        self._process = _first("-n")
        self._count = 1
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "link", "add", BRIDGE, "type", "bridge")
        self.run("ip", "addr", "add", f"{OWN}/24", "dev", BRIDGE)
        self.run("ip", "link", "set", BRIDGE, "up")

    @property
    def prefix(self) -> tuple[str, ...]:
        """Return what runs a command in this network."""
        return ("nsenter", "-t", str(self._process.pid), "-n")

    def run(self, *command: str) -> None:
        """Run a command in it."""
        subprocess.run([*self.prefix, *command], check=True, capture_output=True)

    def connect(self, pid: int) -> tuple[str, str]:
        """Connect the network of a process; return the link on this side, and its address."""
        self._count += 1
        link, address = f"v{self._count}", f"10.77.0.{self._count}"
        self.run(
            "ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(pid)
        )
        self.run("ip", "link", "set", link, "master", BRIDGE)
        self.run("ip", "link", "set", link, "up")
        return link, address

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class NodeMachine:
    """A machine with a node.

    Args:
        name: The node's.
        network: It is connected to that.
        host: The host of the supervisor.
    """

    def __init__(self, name: str, network: Network, host: Host) -> None:
        self.name, self._network, self._host = name, network, host
        self.folder = Path(tempfile.mkdtemp(prefix="n", dir="/tmp"))
        self._process = _first("-n", "-p", "-m", "-f", "--mount-proc", "--kill-child")
        (self.first,) = until(lambda: _children(self._process.pid))
        self._link, address = network.connect(self.first)
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "addr", "add", f"{address}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")
        self.run("mount", "-t", "tmpfs", "none", str(host.folder))  # it sees nothing of that
        for plugin in host.folder.glob("*.py"):
            shutil.copy(plugin, self.folder)
        self.key = self.folder / f"{name}.key"
        self._node: subprocess.Popen[bytes] | None = None

    @property
    def prefix(self) -> tuple[str, ...]:
        """Return what runs a command on it."""
        return ("nsenter", "-t", str(self.first), "-n", "-p", "-m")

    def run(self, *command: str) -> str:
        """Run a command on it; return its output."""
        done = subprocess.run([*self.prefix, *command], check=True, capture_output=True, text=True)
        return done.stdout

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
        found = until(lambda: _children(self._node.pid))  # type: ignore[union-attr]
        return found[0]

    def outside(self, inside: int) -> int:
        """Return the pid outside of a process of this machine; 0: there is none."""
        for path in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError, IndexError):
                words = path.read_text().partition("\nNSpid:")[2].splitlines()[0].split()
                if len(words) == 2 and words[1] == str(inside) and self._has(int(words[0])):
                    return int(words[0])
        return 0

    def _has(self, pid: int) -> bool:
        own = Path(f"/proc/{self.first}/ns/pid").readlink()
        return Path(f"/proc/{pid}/ns/pid").readlink() == own

    def kill(self, inside: int, number: int = signal.SIGKILL) -> None:
        """Signal a process of this machine by its pid there."""
        pid = self.outside(inside)
        assert pid, f"{self.name} has no process {inside}"
        os.kill(pid, number)

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

    def processes(self) -> list[str]:
        """Return the names of its processes, without the first one and this command."""
        lines = self.run("ps", "-e", "-o", "pid=,comm=").splitlines()
        rows = [line.split(maxsplit=1) for line in lines]
        return [name for pid, name in rows if pid != "1" and name != "ps"]

    def cut(self, is_cut: bool = True) -> None:
        """Cut its connection, or restore it: no packet passes, and none of its ends learns it."""
        self._network.run("ip", "link", "set", self._link, "down" if is_cut else "up")

    def close(self) -> None:
        """End everything on it."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        if self._node is not None:  # `nsenter`, which stops when its child is stopped
            self._node.kill()
            self._node.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(word) for word in words]
    return []


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
