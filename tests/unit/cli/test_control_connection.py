"""A command's connection: it is opened again, and what ends it is noticed."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zmq

from garrison.ipc import socket_paths, zmtp
from garrison.ipc.errors import SupervisorGone
from garrison.ipc.messages import SUPERVISOR, Answer, Identify, encode
from garrison.ipc.socket_paths import new_token
from garrison.supervisor.cli import client, control_connection
from garrison.supervisor.cli.control_connection import ControlConnection

LONG_S = 10.0


class Host:
    """A ROUTER, as a supervisor has one; it can be replaced by a next one."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.start()

    def start(self) -> None:
        """Bind a new ROUTER."""
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.router = self.context.socket(zmq.ROUTER)
        self.router.set(zmq.RCVTIMEO, int(LONG_S * 1000))
        self.router.bind(f"ipc://{self.path}")

    def end(self) -> None:
        """Close everything; nothing listens any more."""
        self.context.destroy(linger=0)
        Path(self.path).unlink(missing_ok=True)


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Host]:
    """A host that listens."""
    made = Host(tmp_path / "control.sock")
    yield made
    made.end()


def answered(there: Host, connection: ControlConnection, text: bytes) -> list[list[bytes]]:
    """Have the host answer the probe of a connection that is being opened; return what arrives."""

    def answer() -> None:
        token, probe = there.router.recv_multipart()
        assert probe == b""
        there.router.send_multipart([token, b"", text])

    thread = threading.Thread(target=answer)
    thread.start()
    found = connection.receive(LONG_S)
    thread.join()
    return found


def test_a_next_supervisor_is_connected_to(there: Host) -> None:
    """It sees a probe of the same routing id, and nothing of what the former one was sent."""
    token = new_token()
    connection = ControlConnection(there.path, token)
    connection.open()
    assert answered(there, connection, b"first") == [[b"", b"first"]]
    connection.send([b"", b"order"])
    assert there.router.recv_multipart() == [token, b"", b"order"]
    there.end()
    assert connection.receive(0.1) == []
    assert not connection.is_open
    connection.send([b"", b"lost"])
    there.start()
    assert answered(there, connection, b"second") == [[b"", b"second"]]
    connection.send([b"", b"again"])
    assert there.router.recv_multipart() == [token, b"", b"again"]
    connection.close()


def test_that_no_supervisor_listens_is_reported(there: Host) -> None:
    """Also just after an attempt to connect."""
    there.end()
    connection = ControlConnection(there.path, new_token())
    for _ in range(3):
        with pytest.raises(SupervisorGone):
            connection.open()
    assert connection.receive(0.1) == []


def test_a_connection_that_ends_at_once_is_not_tried_without_a_pause(tmp_path: Path) -> None:
    """Another process at the path may close each connection."""
    path = str(tmp_path / "s.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(128)
        listener.settimeout(LONG_S)
        seen = list[float]()

        def close_all() -> None:
            while len(seen) < 4:
                listener.accept()[0].close()
                seen.append(time.monotonic())

        thread = threading.Thread(target=close_all)
        thread.start()
        connection = ControlConnection(path, new_token())
        connection.open()
        assert connection.receive(0.3) == []
        connection.close()
        thread.join()
    assert seen[3] - seen[0] > 2 * control_connection.RECONNECT_S


def test_another_descriptor_ends_the_wait(there: Host) -> None:
    """As the pidfd of a supervisor that is ending."""
    reader, writer = os.pipe()
    os.write(writer, b"x")
    connection = ControlConnection(there.path, new_token())
    connection.open()
    began = time.monotonic()
    assert connection.receive(LONG_S, reader) == []
    assert time.monotonic() - began < LONG_S / 2
    connection.close()
    os.close(reader)
    os.close(writer)


def test_what_finds_no_room_is_sent_later(there: Host) -> None:
    """A supervisor that is busy reads it when it can; nothing blocks."""
    token = new_token()
    connection = ControlConnection(there.path, token)
    connection.open()
    assert answered(there, connection, b"")
    large = os.urandom(8_000_000)
    connection.send([b"", large])
    received = list[list[bytes]]()
    thread = threading.Thread(target=lambda: received.append(there.router.recv_multipart()))
    thread.start()
    until = time.monotonic() + LONG_S
    while connection.has_unsent and time.monotonic() < until:
        connection.receive(0.02)
    thread.join()
    assert received == [[token, b"", large]]
    connection.close()


def test_an_answer_before_the_end_is_read_though_writing_fails(tmp_path: Path) -> None:
    """A supervisor answers and ends; a command that writes then takes the answer for all that."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "control.sock"))
        listener.listen()
        connection = ControlConnection(str(tmp_path / "control.sock"), new_token())
        connection.open()
        peer, _ = listener.accept()
        with peer:
            peer.sendall(zmtp.opening(b""))
            assert connection.receive(0.1) == []
            peer.sendall(zmtp.encode([b"", b"the answer"]))
    connection.send([b"", b"a look"])
    connection.send([b"", b"another"])
    assert connection.receive(LONG_S) == [[b"", b"the answer"]]
    assert connection.receive(0.1) == []
    assert not connection.is_open
    connection.close()


def test_what_is_followed_is_read_while_it_is_not_printed(short_path: Path) -> None:
    """The supervisor keeps few answers for a connection, and forgets one that does not read."""
    count = 3000
    (short_path / "run").mkdir()
    there = Host(Path(socket_paths.control_path(socket_paths.run_folder(short_path))))
    there.router.set(zmq.SNDHWM, 64)
    there.router.set(zmq.SNDTIMEO, int(LONG_S * 1000))
    there.router.set(zmq.ROUTER_MANDATORY, 1)

    def supervise() -> None:
        token, _ = there.router.recv_multipart()  # the probe
        there.router.send_multipart([token, SUPERVISOR, encode([Identify()])])
        token, _, orders = there.router.recv_multipart()
        number = msgspec.msgpack.decode(orders)[0]["id"]
        for one in range(count):
            answer = Answer(number, True, {"number": one, "text": "x" * 200}, more=True)
            there.router.send_multipart([token, SUPERVISOR, encode([answer])])
        sent.set()

    sent, thread = threading.Event(), threading.Thread(target=supervise)
    thread.start()
    followed = client.follow(short_path, "events")
    assert next(followed)["number"] == 0
    assert sent.wait(2 * LONG_S)  # although nothing takes them
    assert [next(followed)["number"] for _ in range(count - 1)] == list(range(1, count))
    thread.join()
    there.end()
