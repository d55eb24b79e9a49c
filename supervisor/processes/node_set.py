"""All nodes, as the supervisor knows them: their connections, sessions and leases.

What one side commands and the other reports is repeated until it has arrived. Times are monotonic
seconds.
"""

import contextlib
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TypeAlias, assert_never

import zmq

from garrison.ipc import sockets
from garrison.ipc.errors import WireError

from . import engine, node_protocol
from .engine import Happened, Key
from .node_lease import GRACE_S, NodeContact
from .node_logs import NodeLogs
from .node_protocol import NO_SESSION, Header
from .node_record import NodeRecord, RecordedWorker, write_record
from .node_stream import StreamOverflow
from .node_table import NodeState, NodeView, Session

READ_MOST = 500  # messages of one turn
REFUSED_S = 60.0  # between two events that a process was refused; it asks again every two seconds
HELLO_AGAIN_S = 1.0  # within which a repeated NodeHello is answered with the same session

# Returns the node that a frame's connection belongs to, by its key; empty: it is unknown.
NodeOf: TypeAlias = Callable[[zmq.Frame], str]
Disconnect: TypeAlias = Callable[[zmq.Frame], None]  # ends the connection of a frame


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """What holds on all nodes."""

    lease: float
    orphan_grace: float
    cgroups: bool
    log_bytes: int
    state: Path  # the folder of the record
    logs: Path
    shared: Mapping[str, str]  # variables that every process of this machine has


class NodeSet:
    """The nodes.

    Args:
        settings: What holds on all of them.

    Attributes:
        modules: What their launchers preload.
        left: The nodes that have ended everything since `leave_all`.
        refused: How many messages were not a node's.
    """

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings
        self._socket: zmq.Socket[bytes] | None = None
        self._node_of: NodeOf | None = None
        self._disconnect: Disconnect = lambda _: None
        self._nodes: dict[str, NodeState] = {}
        self._happened: list[tuple[str, Happened]] = []  # each with its node
        self._logs = NodeLogs(settings.logs)
        self.modules: tuple[str, ...] = ()
        self.left: set[str] = set()
        self.refused = 0
        self._former_lease, self._former_until = 0.0, -inf

    def __iter__(self) -> Iterator[NodeState]:
        return iter([*self._nodes.values()])

    def attach(
        self, socket: "zmq.Socket[bytes]", node_of: NodeOf | None, disconnect: Disconnect
    ) -> None:
        """Use a bound ROUTER for the connections of nodes.

        Args:
            socket: The ROUTER, which its maker closes.
            node_of: Names the node of a connection; None: any connection may be any node's.
            disconnect: Ends the connection of a node whose key was removed.
        """
        self._socket, self._node_of, self._disconnect = socket, node_of, disconnect

    def views(self) -> list[NodeView]:
        """Return every node that has reported in, or that may run something."""
        now = time.monotonic()
        return [self._nodes[name].view(now) for name in sorted(self._nodes)]

    def count_former(self, lease: float) -> None:
        """Count what a former supervisor may have granted until now, where it was longer.

        Until it is over the record has it, for a successor of this supervisor.
        """
        now = time.monotonic()
        self._former_lease = max(lease, self._settings.lease)
        self._former_until = now + self._former_lease + GRACE_S
        for node in self._nodes.values():
            node.contact.assume(now, self._former_lease)

    def get(self, name: str) -> NodeState:
        """Return a node; it is added if it is not known."""
        if name not in self._nodes:
            self._nodes[name] = NodeState(name, NodeContact(self._settings.lease))
        return self._nodes[name]

    def find(self, name: str) -> NodeState | None:
        """Return a node, if it is known."""
        return self._nodes.get(name)

    def having(self, key: Key) -> NodeState | None:
        """Return the node that has a worker."""
        return next((one for one in self._nodes.values() if key in one.workers), None)

    # --- what to poll, and what has happened ------------------------------------------------

    @property
    def due(self) -> float:
        """Return when `turn` is to be called even if no descriptor is ready."""
        due = inf
        for node in self._nodes.values():
            if node.joined:
                due = min(due, node.contact.quiet_at)
            if node.session is not None or node.workers:
                due = min(due, node.contact.fenced_at)
        return due

    @property
    def busy(self) -> bool:
        """Return whether `turn` has something to do."""
        socket = self._socket
        unread = socket is not None and int(socket.getsockopt(sockets.EVENTS)) & sockets.POLLIN
        return bool(self._happened or unread)

    def descriptors(self) -> list[int]:
        """Return the descriptors to poll for reading."""
        return [int(self._socket.get(zmq.FD))] if self._socket is not None else []

    def wait(self, seconds: float) -> None:
        """Wait for a message."""
        if self._socket is not None:
            self._socket.poll(int(seconds * 1000))

    def turn(self) -> list[tuple[str, Happened]]:
        """Return what has happened since the last call, each with the node's name."""
        self._receive()
        self._check_leases()
        happened, self._happened = self._happened, []
        return happened

    # --- leases -----------------------------------------------------------------------------

    def _check_leases(self) -> None:
        now = time.monotonic()
        for node in self:
            if node.joined and node.contact.is_quiet(now):
                node.joined, node.since = False, now
                seconds = now - node.contact.heard_at
                self._change(node, "lost", f"nothing was received of it for {seconds:.1f} s")
            if (node.session is not None or node.workers) and node.contact.is_fenced(now):
                count, had_contact = len(node.workers), node.contact.heard_at > -inf
                words = f"was lost: node {node.name} has no contact, and its lease is over"
                self._add(node, node.fence(now, words))
                if count or had_contact:
                    ended = f"its lease is over; workers that ended with it: {count}"
                    self._change(node, "fenced", ended)
                self._forget_removed(node)
                self.save()

    def _change(self, node: NodeState, change: str, reason: str = "") -> None:
        self._add(node, [engine.NodeChanged(node.name, change, reason)])

    def _add(self, node: NodeState, happened: Iterable[Happened]) -> None:
        self._happened += [(node.name, one) for one in happened]

    # --- messages of nodes ------------------------------------------------------------------

    def _receive(self) -> None:
        if self._socket is None:
            return
        for _ in range(READ_MOST):
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                break
            identity = frames[0].bytes
            name = node_protocol.name_in(identity)
            if not name or not self._is_known(name, identity, frames[-1]):
                self.refused += 1
                continue
            self._take(name, identity, [one.bytes for one in frames[1:]])
        for node in self._nodes.values():
            session = node.session
            if session is not None and session.acknowledged != session.inbox.received:
                header = Header(session.id, 0, session.inbox.received)
                self._send_to(session.identity, header, node_protocol.Received())
                session.acknowledged = session.inbox.received

    def _is_known(self, name: str, identity: bytes, frame: zmq.Frame) -> bool:
        """Return whether messages of a connection count.

        Those of a node whose key was removed still do, until all that it runs has ended: they
        report that. It is ordered to end everything, and its lease is not renewed.
        """
        found = name if self._node_of is None else self._node_of(frame)
        node = self._nodes.get(name)
        if found == name:
            if node is not None:
                node.removed = False
            return True
        if found or node is None or node.session is None or node.session.identity != identity:
            if not found:
                self._disconnect(frame)
            return False
        if not node.removed:
            node.removed, node.joined, node.since = True, False, time.monotonic()
            self._change(node, "removed", "its key was removed; all that it runs is ended")
            self.send(node, node_protocol.Leave(kill=True))
        return True

    def _forget_removed(self, node: NodeState) -> None:
        """Forget a node whose key was removed, and that runs nothing any more."""
        if node.removed:
            self._nodes.pop(node.name, None)

    def _take(self, name: str, identity: bytes, frames: list[bytes]) -> None:
        node = self.get(name)
        if len(frames) != 2:  # it has connected, and this supervisor does not know it yet
            if node.session is None or node.session.identity != identity:
                self._send_to(identity, Header(NO_SESSION), node_protocol.Identify())
            return
        try:
            header = node_protocol.decode_header(frames[0])
            message = node_protocol.decode_upward(frames[1])
        except WireError:
            self.refused += 1
            return
        session, now = node.session, time.monotonic()
        if isinstance(message, node_protocol.NodeHello):
            self._on_hello(node, identity, message, now)
        elif session is None or header.session != session.id or identity != session.identity:
            self._send_to(identity, Header(header.session), node_protocol.Identify())
        else:
            session.outbox.acknowledge(header.received, now)
            if session.inbox.take(header.number):
                self._on_message(node, session, message, now)

    def _on_hello(
        self, node: NodeState, identity: bytes, hello: node_protocol.NodeHello, now: float
    ) -> None:
        if node.removed:
            return
        reason = node.refusal(hello, now)
        if hello.version != node_protocol.VERSION:
            reason = (
                f"it speaks version {hello.version} of the nodes' protocol, and this supervisor "
                f"version {node_protocol.VERSION}: install the same garrison on both"
            )
        if reason:
            if now >= node.refused_at + REFUSED_S:
                node.refused_at = now
                self._change(node, "refused", reason)
            self._send_to(identity, Header(NO_SESSION), node_protocol.Refused(reason))
            return
        session = node.session
        same = session is not None and session.identity == identity
        if session is None or not same or now > session.began + HELLO_AGAIN_S:
            session = Session(
                secrets.token_bytes(node_protocol.SESSION_BYTES), identity, hello, now
            )
            node.begin(session)
            node.leaving = False
            node.contact.lease = self._settings.lease
            node.contact.assume(now, 0.0)  # it must renew its lease soon
            self.save()
        known = tuple(
            node_protocol.KnownWorker(key, one.name, one.handle)
            for key, one in node.workers.items()
        )
        own = self._settings
        adopt = node_protocol.Adopt(
            own.lease, own.orphan_grace, own.cgroups, own.log_bytes, self.modules, known
        )
        self._send_to(identity, Header(session.id), adopt)

    def _on_message(
        self, node: NodeState, session: Session, message: node_protocol.Upward, now: float
    ) -> None:
        match message:
            case node_protocol.Renew(number):
                self._renew(node, session, number, now)
            case node_protocol.Inventory():
                self._on_inventory(node, session, message)
            case node_protocol.Reported():
                self._on_report(node, message, now)
            case node_protocol.Sample():
                node.take_sample(message, now)
            case node_protocol.LogChunk():
                self._logs.append(message, node.name, node.instance)
            case node_protocol.Leaving():
                if not node.leaving:
                    node.leaving = True
                    self._change(node, "leaving", "its process was ordered to end")
            case node_protocol.Left():
                self._on_left(node, now)
            case node_protocol.Received() | node_protocol.NodeHello():
                pass
            case _:
                assert_never(message)

    def _renew(self, node: NodeState, session: Session, number: int, now: float) -> None:
        """Grant the lease anew, and send again what has not arrived."""
        header = Header(session.id, 0, session.inbox.received)
        if not node.removed:
            node.contact.renew(now)
            self._send_to(session.identity, header, node_protocol.Renewed(number))
        for again, body in session.outbox.late(now):
            self._send_frames(session.identity, Header(session.id, again, header.received), body)
        if session.listed and not node.joined and not node.removed:
            node.joined, node.since = True, now
            self._change(node, "joined", f"on {session.hello.host}, pid {session.hello.pid}")

    def _on_inventory(
        self, node: NodeState, session: Session, inventory: node_protocol.Inventory
    ) -> None:
        session.listed = True
        happened, unknown = node.take_inventory(inventory)
        self._add(node, happened)
        there = {one.key for one in inventory.workers} | inventory.ended
        carried, session.carried = session.carried, []
        for body in carried:
            message = node_protocol.decode_downward(body)
            if isinstance(message, node_protocol.Fork) and message.key in there:
                continue  # it was received
            self.send(node, message)
        for key in unknown:  # a supervisor before this one has given it up
            self.send(node, node_protocol.SignalWorker(key, 9, group=True))
            self.send(node, node_protocol.Discard(key))
        self.save()

    def _on_report(self, node: NodeState, message: node_protocol.Reported, now: float) -> None:
        try:
            event = node_protocol.event_of(message)
        except WireError:
            self.refused += 1
            return
        self._add(node, node.take(event, now))
        if isinstance(event, engine.Gone | engine.NotForked):
            self.save()

    def _on_left(self, node: NodeState, now: float) -> None:
        """Take that everything on a node has ended."""
        self.left.add(node.name)
        self._add(node, node.fence(now, f"ended with its node {node.name}"))
        node.contact.fenced_at = now
        self._change(node, "left", "its process has ended everything that it ran")
        self._forget_removed(node)
        self.save()

    # --- messages to nodes ------------------------------------------------------------------

    def send(self, node: NodeState, message: node_protocol.Downward) -> None:
        """Send a message that is repeated until it was received."""
        session, now = node.session, time.monotonic()
        if session is None:
            return
        body = node_protocol.encode(message)
        try:
            number = session.outbox.add(body, now)
        except StreamOverflow:
            node.session, node.joined = None, False  # it identifies itself anew
            self._change(node, "lost", "it takes nothing any more")
            return
        header = Header(session.id, number, session.inbox.received)
        self._send_frames(session.identity, header, body)

    def _send_to(self, identity: bytes, header: Header, message: node_protocol.Downward) -> None:
        self._send_frames(identity, header, node_protocol.encode(message))

    def _send_frames(self, identity: bytes, header: Header, body: bytes) -> None:
        assert self._socket is not None
        with contextlib.suppress(zmq.ZMQError):  # not connected now, or full: it is sent again
            sockets.send(self._socket, [identity, node_protocol.encode(header), body])

    def broadcast(self, message: node_protocol.Downward) -> None:
        """Send a message to each node that has a session."""
        for node in self._nodes.values():
            if node.session is not None and node.session.listed:
                self.send(node, message)

    # --- the record -------------------------------------------------------------------------

    def save(self) -> None:
        """Write the record, if that is possible."""
        with contextlib.suppress(OSError):
            self.write()

    def write(self) -> None:
        """Write the record. Raises OSError if it cannot be written."""
        nodes = self._nodes.values()
        workers = {
            key.hex(): RecordedWorker(node.name, worker.name)
            for node in nodes
            for key, worker in node.workers.items()
        }
        instances = {node.name: node.instance.hex() for node in nodes if node.instance}
        lease = self._settings.lease
        if time.monotonic() < self._former_until:
            lease = max(lease, self._former_lease)
        record = NodeRecord(lease=lease, workers=workers, instances=instances)
        write_record(self._settings.state, record)
