"""The connection of a node's process to the supervisor."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from garrison.supervisor.node.link import NodeLink
from garrison.supervisor.processes import node_protocol
from garrison.supervisor.processes.node_lease import NodeLease
from garrison.supervisor.processes.node_protocol import NO_SESSION, Header, NodeHello

FIRST, SECOND = b"1" * 8, b"2" * 8


class Peer:
    """A supervisor that a test plays, with the link to it."""

    def __init__(self, folder: Path) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._address = f"ipc://{folder}/engine.sock"
        self._router.bind(self._address)
        self.lease = NodeLease()
        hello = NodeHello("box", node_protocol.VERSION, b"i", b"p")
        self.link = NodeLink(self._connect, hello, self.lease)

    def _connect(self) -> "zmq.Socket[bytes]":
        socket = self._context.socket(zmq.DEALER)
        socket.set(zmq.ROUTING_ID, b"node")
        socket.connect(self._address)
        return socket

    def received(self) -> tuple[Header, node_protocol.Upward]:
        """Return the next message of the node."""
        assert self._router.poll(10_000)
        _, header, body = self._router.recv_multipart()
        return node_protocol.decode_header(header), node_protocol.decode_upward(body)

    def send(self, header: Header, message: node_protocol.Downward) -> list[node_protocol.Downward]:
        """Send a message; return what the node makes of it."""
        frames = [b"node", node_protocol.encode(header), node_protocol.encode(message)]
        self._router.send_multipart(frames)
        poller = zmq.Poller()
        poller.register(self.link.fileno(), zmq.POLLIN)
        assert self.link.has_message or poller.poll(10_000)
        return self.link.receive()

    def adopt(self, session: bytes) -> list[node_protocol.Downward]:
        """Begin a session."""
        return self.send(Header(session), node_protocol.Adopt(10.0, 5.0, True, 1 << 20))

    def close(self) -> None:
        """Close everything."""
        self.link.close(0)
        self._router.close(linger=0)
        self._context.term()


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Peer]:
    """Return a supervisor to which a node has reported in."""
    peer = Peer(tmp_path)
    peer.link.turn()
    assert isinstance(peer.received()[1], NodeHello)
    yield peer
    peer.close()


def test_the_lease_is_renewed_at_once(peer: Peer) -> None:
    """As soon as a session has begun; the answer extends it."""
    peer.adopt(FIRST)
    peer.link.turn()
    header, renew = peer.received()
    assert isinstance(renew, node_protocol.Renew)
    assert header.session == FIRST

    peer.send(Header(FIRST), node_protocol.Renewed(renew.number))
    assert peer.lease.until > 0


def test_a_question_about_a_former_session_ends_no_later_one(peer: Peer) -> None:
    """It was sent because of a message that was on its way; one about this session ends it."""
    peer.adopt(FIRST)
    peer.adopt(SECOND)

    peer.send(Header(FIRST), node_protocol.Identify())
    assert peer.link.joined
    peer.send(Header(SECOND), node_protocol.Identify())
    assert not peer.link.joined


def test_a_supervisor_that_knows_no_session_is_answered(peer: Peer) -> None:
    """It is another one."""
    peer.adopt(FIRST)
    peer.send(Header(NO_SESSION), node_protocol.Identify())
    peer.link.turn()
    assert isinstance(peer.received()[1], NodeHello)


def test_commands_of_another_session_are_dropped(peer: Peer) -> None:
    """So are those that come twice; what was not received is kept over a new session."""
    command = node_protocol.Report(b"key")
    peer.adopt(FIRST)
    assert peer.send(Header(SECOND, 1), command) == []
    assert peer.send(Header(FIRST, 1), command) == [command]
    assert peer.send(Header(FIRST, 1), command) == []

    peer.link.send(node_protocol.Leaving())
    peer.adopt(SECOND)
    assert peer.link.former == [node_protocol.encode(node_protocol.Leaving())]
