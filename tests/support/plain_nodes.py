"""A node's process on this machine, without keys, and the engine that it is a node of."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import zmq

from garrison.ipc import sockets
from garrison.supervisor.processes.engine import Engine
from garrison.supervisor.processes.node_set import NodeSettings
from garrison.supervisor.processes.nodes import NodesEngine

NODE = "box"
LEASE_S = 60.0
PLAIN_NODE = Path(__file__).with_name("plain_node.py")
END_S = 30.0


class PlainNode:
    """A node, and the socket that it connects to.

    Args:
        lease: Seconds.
    """

    def __init__(self, lease: float = LEASE_S) -> None:
        self._folder, self._lease = tempfile.TemporaryDirectory(prefix="n"), lease
        self.folder = Path(self._folder.name)
        (self.folder / "idle.py").write_text("import time\n\ntime.sleep(600)\n")
        self.home = self.folder / "node"
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket: zmq.Socket[bytes] | None = None
        self._address = f"ipc://{self.folder}/engine.sock"
        self.output = self.folder / "node.out"
        self._process = self.begin(self.home)

    def begin(self, home: Path) -> subprocess.Popen[bytes]:
        """Start a process that has the name of this node."""
        words = [str(home) + ".pid", NODE, str(home), str(self.folder), self._address]
        with self.output.open("ab") as out:
            return subprocess.Popen(
                [sys.executable, str(PLAIN_NODE), *words],
                env={"PATH": os.environ["PATH"]},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    @property
    def keeper(self) -> int:
        """Return the pid of the process above the node's."""
        return self._process.pid

    def engine(self, local: Engine, home: Path) -> NodesEngine:
        """Return an engine that the node connects to.

        Args:
            local: Runs the workers that are not on the node.
            home: Of the supervisor, with its folders.
        """
        (home / "state").mkdir(exist_ok=True)
        settings = NodeSettings(
            lease=self._lease,
            orphan_grace=60.0,
            cgroups=False,
            log_bytes=1 << 20,
            state=home / "state",
            logs=home / "logs",
            shared={},
        )
        self._socket = self._context.socket(zmq.ROUTER, socket_class=sockets.PlainSocket)
        self._socket.set(zmq.ROUTER_MANDATORY, 1)
        self._socket.set(zmq.ROUTER_HANDOVER, 1)
        self._socket.bind(self._address)
        engine = NodesEngine(local, settings)
        engine.attach(self._socket)
        return engine

    def disconnect(self) -> None:
        """Close the socket of an engine that was closed."""
        if self._socket is not None:
            self._socket.close(linger=0)

    def signal(self, number: int) -> None:
        """Signal the node's process; a killed one is started again."""
        os.kill(int((self.folder / "node.pid").read_text()), number)

    def close(self) -> None:
        """End it."""
        for _ in range(2):  # the second one does not wait for services to move
            self._process.send_signal(signal.SIGTERM)
        self._process.wait(END_S)
        self._context.term()
        self._folder.cleanup()
