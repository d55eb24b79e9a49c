"""Answers libzmq's question whether a key may connect (ZAP), in the supervisor's own loop.

libzmq asks at each handshake of a socket with a ZAP domain. A peer with an unknown key is sent no
refusal: after one, libzmq's client would never try again, and the key may become known.
"""

import time
from collections.abc import Callable
from math import inf
from typing import Any

import zmq

from garrison.ipc.errors import GarrisonError

from .admission import ENGINE, Admission

ADDRESS = "inproc://zeromq.zap.01"
FRAMES = (
    9  # of a question: routing id, empty, version, id, domain, address, identity, mechanism, key
)
LOG_S = 60.0  # between two events about refused handshakes
READ_S = 1.0  # between two looks for new keys of nodes


def check_curve() -> None:
    """Raise GarrisonError if this libzmq cannot encrypt."""
    if not zmq.has("curve"):
        raise GarrisonError(
            f"nodes need a libzmq with CURVE, and this one ({zmq.zmq_version()}) was built without "
            "it: install pyzmq from PyPI, or a libzmq that is built with libsodium"
        )


class ZapHandler:
    """The ZAP handler of a context.

    Args:
        context: Of the sockets that it admits to.
        admission: Decides.
        read_nodes: Reads the keys of the nodes again, if they have changed.
        record: Records an event.

    Attributes:
        refused: How many handshakes were refused.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        admission: Admission,
        read_nodes: Callable[[], None],
        record: Callable[..., Any],
    ) -> None:
        self._admission, self._read_nodes, self._record = admission, read_nodes, record
        self._socket = context.socket(zmq.ROUTER)
        self._socket.set(zmq.LINGER, 0)
        self._socket.bind(ADDRESS)
        self.refused = 0
        self._logged = 0
        self._log_at = self._read_at = 0.0

    def fileno(self) -> int:
        """Return a descriptor that is readable when `turn` has something to do."""
        return int(self._socket.get(zmq.FD))

    def turn(self) -> float:
        """Answer libzmq's requests; return when to call this at the latest: never."""
        while int(self._socket.get(zmq.EVENTS)) & zmq.POLLIN:
            self._answer(self._socket.recv_multipart(zmq.NOBLOCK))
        return inf

    def look(self) -> None:
        """Read the keys of the nodes, if that was not done lately: one may be new, or removed."""
        if time.monotonic() >= self._read_at:
            self._read_at = time.monotonic() + READ_S
            self._read_nodes()

    def close(self) -> None:
        """Admit no peer any more."""
        self._socket.close()

    def _answer(self, frames: list[bytes]) -> None:
        if len(frames) != FRAMES:  # of a mechanism without a key
            self._refuse(frames)
            return
        if frames[4] == ENGINE:
            self.look()
        holder = self._admission.holder(frames[4], frames[7], frames[8])
        if holder:
            self._send(frames, b"200", b"OK", holder.encode())
        else:
            self._refuse(frames)

    def _refuse(self, frames: list[bytes]) -> None:
        self.refused += 1
        self._send(frames, b"300", b"unknown key", b"")
        now = time.monotonic()
        if now >= self._log_at:
            self._log_at = now + LOG_S
            address = frames[5].decode("ascii", "replace")[:64] if len(frames) > 5 else ""
            what = frames[4].decode("ascii", "replace")[:16] if len(frames) > 4 else ""
            self._record("node.refused", address=address, socket=what, count=self.refused)

    def _send(self, frames: list[bytes], code: bytes, text: bytes, user: bytes) -> None:
        answer = [*frames[:2], b"1.0", *frames[3:4], code, text, user, b""]
        try:
            self._socket.send_multipart(answer, zmq.NOBLOCK)
        except zmq.ZMQError as error:  # that connection has ended meanwhile
            if error.errno not in {zmq.EAGAIN, zmq.EHOSTUNREACH}:
                raise
