"""Machines that a test or a benchmark makes: network, PID and mount namespaces on a bridge.

Needs root. Times are seconds.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

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
    for tool in ("ip", "bridge", "unshare", "nsenter"):
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

    def set_forwarding(self, link: str, forwards: bool) -> None:
        """Have the bridge pass the packets of a link, or drop them.

        A link that is down would be noticed at both ends: there, TCP does not double its pauses.
        """
        state = "3" if forwards else "0"  # include/uapi/linux/if_bridge.h: forwarding, disabled
        self.run("bridge", "link", "set", "dev", link, "state", state)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class Machine:
    """A machine with processes and mounts of its own.

    Args:
        network: It is connected to that.
        hidden: A folder of which it sees nothing.
    """

    def __init__(self, network: Network, hidden: Path) -> None:
        self._network = network
        self.folder = Path(tempfile.mkdtemp(prefix="n", dir="/tmp"))
        self._process = _first("-n", "-p", "-m", "-f", "--mount-proc", "--kill-child")
        (self.first,) = until(lambda: children_of(self._process.pid))
        self._link, self.address = network.connect(self.first)
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "addr", "add", f"{self.address}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")
        self.run("mount", "-t", "tmpfs", "none", str(hidden))

    @property
    def prefix(self) -> tuple[str, ...]:
        """Return what runs a command on it."""
        return ("nsenter", "-t", str(self.first), "-n", "-p", "-m")

    def run(self, *command: str) -> str:
        """Run a command on it; return its output."""
        done = subprocess.run([*self.prefix, *command], check=True, capture_output=True, text=True)
        return done.stdout

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
        assert pid, f"the machine has no process {inside}"
        os.kill(pid, number)

    def processes(self) -> list[str]:
        """Return the names of its processes, without the first one and this command."""
        lines = self.run("ps", "-e", "-o", "pid=,comm=").splitlines()
        rows = [line.split(maxsplit=1) for line in lines]
        return [name for pid, name in rows if pid != "1" and name != "ps"]

    def cut(self, is_cut: bool = True) -> None:
        """Cut its connection, or restore it: no packet passes, and none of its ends learns it."""
        self._network.set_forwarding(self._link, not is_cut)

    def lose(self) -> None:
        """Lose it: nothing is heard of it any more, and all on it has ended."""
        self.cut()
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End everything on it."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def children_of(pid: int) -> list[int]:
    """Return the children of a process; of one that has ended, none."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(word) for word in words]
    return []
