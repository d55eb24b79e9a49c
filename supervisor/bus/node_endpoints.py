"""The supervisor's sockets for other machines: TCP, encrypted and authenticated by CURVE.

The engine socket is for nodes; the twins of the control socket and of the bus are for the workers
on them. All three admit known keys alone.
"""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import zmq

from garrison.ipc import sockets
from garrison.ipc.errors import GarrisonError
from garrison.ipc.messages import CurveKeys, Token
from garrison.supervisor.config.host_spec import HostSpec
from garrison.supervisor.processes.node_lease import SILENCE_LEASES
from garrison.supervisor.state.atomic import write_atomic
from garrison.supervisor.state.node_keys import NodeKeys, own_key

from .admission import ENGINE, MEMBER, Admission
from .curve import ZapHandler, check_curve
from .tcp_listeners import TcpListeners

FILE = "engine.json"  # in the run folder: where nodes and their workers connect


class Addresses(msgspec.Struct, frozen=True):
    """Where to connect."""

    engine: str
    control: str
    bus: str


class RemotePaths(NamedTuple):
    """What an incarnation on a node needs to connect."""

    control: str
    bus: str
    keys: CurveKeys


class NodeEndpoints:
    """The sockets for other machines.

    Args:
        context: Of the sockets.
        host: The host, whose home is locked, and whose [engine] says where to listen.
        control_bytes: The largest frame of the control plane.
        record: Records an event.

    Attributes:
        engine: The ROUTER of nodes.
        control, bus: The ROUTERs of the workers on nodes.
        zap: Admits to them.
        listeners: Have them listen while descriptors are free.
        file: Says where they are.

    Raises:
        GarrisonError: They cannot be opened.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        host: HostSpec,
        control_bytes: int,
        record: Callable[..., Any],
    ) -> None:
        check_curve()
        spec, self._record, self.file = host.engine, record, host.run / FILE
        silence = SILENCE_LEASES * spec.lease
        own = own_key(host.home)
        self._admission = Admission(own.secret, silence)
        self._keys = NodeKeys(host.home)
        self._read_nodes()
        self.zap = ZapHandler(context, self._admission, self._read_nodes, record)
        self.engine, self.control, self.bus = (
            sockets.tcp_router(context, own.secret, domain, size, silence)
            for domain, size in (
                (ENGINE, host.max_message),
                (MEMBER, control_bytes),
                (MEMBER, host.max_message),
            )
        )
        self.engine.set(zmq.ROUTER_HANDOVER, 1)  # a node connects anew where nothing arrives
        self.listeners = TcpListeners(record)
        try:
            self.addresses = self._bind(spec.listen)
        except BaseException:
            self.close()
            for socket in (self.control, self.bus):
                socket.close(linger=0)
            raise

    def admit(self, token: Token) -> RemotePaths:
        """Let an incarnation on a node connect."""
        keys = self._admission.admit(token)
        return RemotePaths(self.addresses.control, self.addresses.bus, keys)

    def forget(self, token: Token) -> None:
        """Let an incarnation connect no longer."""
        self._admission.forget(token)

    def node_of(self, frame: zmq.Frame) -> str:
        """Return the node that a frame is from; empty: its key is known no more."""
        self.zap.look()
        return self._admission.node_of(sockets.key_holder(frame))

    def disconnect(self, frame: zmq.Frame) -> None:
        """End the connection that a frame has come by."""
        sockets.disconnect(frame, int(self.addresses.engine.rpartition(":")[2]))

    def close(self) -> None:
        """Close what no plane has."""
        self.zap.close()
        self.listeners.close()
        self.engine.close(linger=sockets.LINGER_MS)

    def _read_nodes(self) -> None:
        nodes = self._keys.read()
        if nodes is not None:
            self._admission.nodes = nodes
            for problem in self._keys.problems:
                self._record("node.key_unusable", problem=problem)

    def _bind(self, listen: str) -> Addresses:
        """Bind all three; with port 0 those that a former supervisor had, if they are free."""
        host, _, port = listen.rpartition(":")
        first = int(port)
        ports = [first, first + 1, first + 2] if first else [0, 0, 0]
        if not first:
            with contextlib.suppress(OSError, msgspec.MsgspecError, ValueError):
                former = msgspec.json.decode(self.file.read_bytes(), type=Addresses)
                ports = [
                    int(one.rpartition(":")[2])
                    for one in (former.engine, former.control, former.bus)
                ]
        bound = [
            self._bind_one(socket, host, port, may_differ=not first)
            for socket, port in zip((self.engine, self.control, self.bus), ports, strict=True)
        ]
        addresses = Addresses(*bound)
        write_atomic(self.file, msgspec.json.encode(addresses))
        return addresses

    def _bind_one(self, socket: "zmq.Socket[bytes]", host: str, port: int, may_differ: bool) -> str:
        try:
            return self.listeners.bind(socket, host, port)
        except (zmq.ZMQError, OSError) as error:
            if may_differ and port:
                return self._bind_one(socket, host, 0, may_differ)
            raise GarrisonError(
                f"the supervisor cannot listen for nodes at {host}:{port}: {error.strerror}; "
                "change listen under [engine], or end what has that port"
            ) from error
