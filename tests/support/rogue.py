"""Members that break the protocol, and mutations of real traffic.

Everything here is raw: sockets without a client, and bytes without ZeroMQ.
"""

import contextlib
import os
import random
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Self

import zmq
from tests.support.host import Host

from garrison.ipc import messages, socket_paths
from garrison.ipc.messages import SUPERVISOR, WIRE, Token, encode

PATIENCE_MS = 20_000


@contextlib.contextmanager
def dealer(
    host: Host, name: str, token: Token = b"", unread: int = 0, identify: bool = True
) -> Iterator[zmq.Socket[bytes]]:
    """Connect to one of the supervisor's sockets as anyone could.

    Args:
        host: Whose.
        name: "control" or "bus".
        token: The routing id.
        unread: So many messages at most are kept for one that does not read; 0 is as usual.
        identify: Whether to answer the control plane's request to identify.
    """
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    path = str(host.home / "run" / f"{name}.sock")
    one = context.socket(zmq.DEALER)
    one.set(zmq.ROUTING_ID, token or socket_paths.new_token())
    one.set(zmq.IMMEDIATE, 1)
    one.set(zmq.PROBE_ROUTER, 1)
    one.set(zmq.RECONNECT_IVL, 20)
    one.set(zmq.LINGER, 5000)
    one.set(zmq.SNDTIMEO, PATIENCE_MS)
    one.set(zmq.RCVTIMEO, PATIENCE_MS)
    if unread:
        one.set(zmq.RCVHWM, unread)
    one.connect(f"ipc://{path}")
    try:
        if name == "control" and identify:
            assert messages.decode_downward(one.recv_multipart()[1]) == [messages.Identify()]
        yield one
    finally:
        one.close()
        context.term()


class Rogue:
    """A program that has joined, and sends arbitrary messages."""

    def __init__(self, token: Token, control: zmq.Socket[bytes], bus: zmq.Socket[bytes]) -> None:
        self.token, self.control, self.bus = token, control, bus

    def join(self) -> Self:
        """Join, or join again."""
        self.tell(messages.Join(WIRE, os.getpid()))
        return self

    def tell(self, *batch: messages.Upward) -> None:
        """Send a batch to the supervisor."""
        self.control.send_multipart([SUPERVISOR, encode(list(batch))])

    def send(self, destination: Token, *batch: messages.Data) -> None:
        """Send a batch to a member."""
        self.bus.send_multipart([destination, encode(list(batch))])

    def answer(self) -> messages.Downward:
        """Return the first of the supervisor's next messages."""
        return messages.decode_downward(self.control.recv_multipart()[1])[0]

    def received(self) -> tuple[Token, list[messages.Data]]:
        """Return the next message on the bus and its source."""
        source, batch = self.bus.recv_multipart()[:2]
        return source, messages.decode_data(batch)


@contextlib.contextmanager
def joined(host: Host, unread: int = 0) -> Iterator[Rogue]:
    """Join as a program."""
    token = socket_paths.new_token()
    with dealer(host, "control", token) as control, dealer(host, "bus", token, unread) as bus:
        rogue = Rogue(token, control, bus).join()
        assert isinstance(rogue.answer(), messages.Welcome)
        try:
            yield rogue
        finally:
            rogue.tell(messages.Leave())


# --- real traffic with something wrong in it ------------------------------------------------


DEEP = 600  # levels, more than any decoder goes down
LENGTHS = [b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"]  # MessagePack's headers with four bytes
NUMBERS = [
    *(b"\xcb" + struct.pack(">d", n) for n in (float("nan"), float("inf"), -1.0, 0.0, 1e308)),
    *(b"\xcf" + struct.pack(">Q", n) for n in (2**64 - 1, 2**63)),
    b"\xd3" + struct.pack(">q", -(2**63)),
    b"\xff",
    b"\xc0",
    b"\xc3",
]

Mutation = Callable[[random.Random, bytes, list[bytes]], bytes]


def _flip(rng: random.Random, frame: bytes, _: list[bytes]) -> bytes:
    changed = bytearray(frame)
    for _n in range(rng.randint(1, 4)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(rng: random.Random, frame: bytes, _: list[bytes]) -> bytes:
    return frame[: rng.randrange(len(frame))]


def _splice(rng: random.Random, frame: bytes, others: list[bytes]) -> bytes:
    other = rng.choice(others)
    return frame[: rng.randrange(len(frame) + 1)] + other[rng.randrange(len(other) + 1) :]


def _put(rng: random.Random, frame: bytes, what: bytes) -> bytes:
    place = rng.randrange(len(frame))
    return frame[:place] + what + frame[place + rng.choice([0, 1, len(what)]) :]


def _long(rng: random.Random, frame: bytes, _: list[bytes]) -> bytes:
    return _put(rng, frame, rng.choice(LENGTHS) + struct.pack(">I", rng.choice([2**32 - 1, 2**31])))


def _number(rng: random.Random, frame: bytes, _: list[bytes]) -> bytes:
    return _put(rng, frame, rng.choice(NUMBERS))


def _deep(rng: random.Random, frame: bytes, _: list[bytes]) -> bytes:
    return _put(rng, frame, rng.choice([b"\x91", b"\x81\x01"]) * DEEP)


def _noise(rng: random.Random, frame: bytes, _: list[bytes]) -> bytes:
    return rng.randbytes(rng.randrange(1, 64))


def _same(rng: random.Random, frame: bytes, _: list[bytes]) -> bytes:
    return frame


MUTATIONS: list[Mutation] = [_flip, _flip, _cut, _splice, _long, _number, _deep, _noise, _same]


def mutated(rng: random.Random, corpus: list[bytes]) -> bytes:
    """Return a frame of real traffic, mutated or unchanged."""
    return rng.choice(MUTATIONS)(rng, rng.choice(corpus), corpus)


def reframed(rng: random.Random, frames: list[bytes]) -> list[bytes]:
    """Return a message's frames, sometimes with one missing, repeated or out of place."""
    match rng.randrange(12):
        case 0:
            return frames[1:]
        case 1:
            return frames[:1]
        case 2:
            return [frames[0], *frames]
        case 3:
            return [*frames, b""]
        case 4:
            return frames[::-1]
        case 5:
            return [*frames, *(b"x" for _ in range(100))]
    return frames


# --- bytes without ZeroMQ -------------------------------------------------------------------


def greeting(token: Token = b"") -> bytes:
    """Return the first bytes of a DEALER: ZMTP's greeting and READY."""
    properties = b"".join(
        bytes([len(key)]) + key + struct.pack(">I", len(value)) + value
        for key, value in ((b"Socket-Type", b"DEALER"), (b"Identity", token))
    )
    ready = b"\x05READY" + properties
    head = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
    assert len(head) == 64
    return head + b"\x04" + bytes([len(ready)]) + ready


def raw(host: Host, name: str) -> socket.socket:
    """Connect without ZeroMQ."""
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    one.settimeout(20)
    one.connect(str(host.home / "run" / f"{name}.sock"))
    return one


ABSURD = [
    b"\x02" + struct.pack(">Q", 2**63 - 1),  # a frame longer than anything
    b"\x02" + struct.pack(">Q", 2**64 - 1),
    b"\x03" + struct.pack(">Q", 2**40),
    b"\x06" + struct.pack(">Q", 2**63),  # a command of that length
    b"\x04\x00",  # a command without a name
    b"\x04\x05\x04PING",
    b"\x04\x06\x05ERROR",
    b"\x04\x07\x05READY\xff",
    b"\x01\x00" * 1000,  # frames of a message that does not end
    b"\xff" * 200,  # flags that do not exist
    b"\x00\xff",  # a frame that does not come
]
