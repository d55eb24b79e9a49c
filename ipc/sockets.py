"""Creates ZeroMQ sockets and sets their options; sends and receives."""

import contextlib
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import zmq

from .messages import CurveKeys, Token
from .queue_limits import LINGER_S, PEER_QUEUE

NOBLOCK, RCVMORE, EVENTS, POLLIN = (
    int(zmq.NOBLOCK),
    int(zmq.RCVMORE),
    int(zmq.EVENTS),
    int(zmq.POLLIN),
)
MORE_NOBLOCK = NOBLOCK | int(zmq.SNDMORE)
HANDSHAKE_MS = 2000  # over TCP; a peer with an unknown key connects again after it
# The same, at the peer: longer, so that the router never has its address from a connection that the
# peer has given up, since it would ignore the next one under that address.
PEER_HANDSHAKE_MS = 10_000
SILENCE_MOST_MS = 2**31 - 1  # of the kernel
KEEPALIVE_MOST_S = 3600
LINGER_MS = int(LINGER_S * 1000)
OPERATORS_MESSAGE = 64 * 1024  # bytes of a frame that an operator sends
OPERATORS_MODE = 0o666  # of their socket: the kernel says who connects, and others are refused
ROUTED = 64  # messages in libzmq to and from one peer; `BusRouter` bounds the rest by bytes


class PlainSocket(zmq.Socket[bytes]):
    """A socket without pyzmq's wrapper of `send` for draft types, which costs as much as sending
    does."""

    send = zmq.backend.Socket.send  # type: ignore[assignment]


class Peer(msgspec.Struct, frozen=True):
    """The user of a connected process; -1 where that is not known."""

    uid: int = -1
    gid: int = -1


UNKNOWN_PEER = Peer()


def router(
    context: "zmq.Context[zmq.Socket[bytes]]", max_message: int, uid: int = -1
) -> zmq.Socket[bytes]:
    """Return a ROUTER for the supervisor's own user or for another; `ListenerSet` binds it."""
    socket = context.socket(zmq.ROUTER, socket_class=PlainSocket)
    socket.set(zmq.ROUTER_MANDATORY, 1)  # without it, undeliverable messages are dropped silently
    socket.set(zmq.LINGER, LINGER_MS)
    socket.set(zmq.HANDSHAKE_IVL, 500)
    socket.set(zmq.MAXMSGSIZE, max_message)
    socket.set(zmq.SNDHWM, ROUTED)
    socket.set(zmq.RCVHWM, ROUTED)
    with contextlib.suppress(zmq.ZMQError, AttributeError):  # a build without the uid filter
        for one in {os.getuid(), 0, uid} - {-1}:  # root is not restricted anyway
            socket.set(zmq.IPC_FILTER_UID, one)
    return socket


def operators_router(
    context: "zmq.Context[zmq.Socket[bytes]]", uids: Iterable[int], gids: Iterable[int]
) -> zmq.Socket[bytes]:
    """Return a ROUTER that accepts these users and the members of these groups alone."""
    socket = router(context, OPERATORS_MESSAGE)
    for uid in uids:
        socket.set(zmq.IPC_FILTER_UID, uid)
    for gid in gids:
        socket.set(zmq.IPC_FILTER_GID, gid)
    return socket


def dealer(
    context: "zmq.Context[zmq.Socket[bytes]]",
    address: str,
    token: Token,
    max_message: int,
    *,
    keep: bool = False,
    curve: CurveKeys | None = None,
    watch: Callable[[zmq.Socket[bytes]], None] | None = None,
) -> zmq.Socket[bytes]:
    """Connect to one of the supervisor's sockets, under a token.

    Args:
        context: Of the socket.
        address: The path of the supervisor's socket, or tcp://HOST:PORT.
        token: The routing id.
        max_message: Bytes of a frame.
        keep: Keep messages over a disconnect: what was received and not yet read is lost otherwise.
            What was not sent goes to the next router, so that router must recognise it.
        curve: The keys, for an address of TCP.
        watch: Called with the socket before it connects.
    """
    socket = context.socket(zmq.DEALER, socket_class=PlainSocket)
    socket.set(zmq.ROUTING_ID, token)
    socket.set(zmq.IMMEDIATE, not keep)
    socket.set(zmq.PROBE_ROUTER, 1)  # the router sees each connection
    socket.set(zmq.RECONNECT_IVL, 20)
    socket.set(zmq.LINGER, LINGER_MS)
    socket.set(zmq.MAXMSGSIZE, max_message)
    socket.set(zmq.SNDHWM, PEER_QUEUE)
    socket.set(zmq.RCVHWM, PEER_QUEUE)
    if curve is not None:
        socket.set(zmq.CURVE_SERVERKEY, curve.server.encode())
        socket.set(zmq.CURVE_PUBLICKEY, curve.public.encode())
        socket.set(zmq.CURVE_SECRETKEY, curve.secret.encode())
        socket.set(zmq.HANDSHAKE_IVL, PEER_HANDSHAKE_MS)
        socket.set(zmq.IPV6, "[" in address)
        notice_silence(socket, curve.silence)
    if watch is not None:
        watch(socket)
    socket.connect(address if "://" in address else f"ipc://{address}")
    return socket


def notice_silence(socket: zmq.Socket[bytes], seconds: float) -> None:
    """Have a connection over TCP end that was silent for so long: the other machine may be off.

    A shorter silence loses nothing, because TCP sends again what was not confirmed. The kernel does
    it, and not libzmq's heartbeats: these abort the process when they are due on a connection that
    has ended after it was told to read no more (`!_io_error` in `stream_engine_base.cpp`). That
    happens where its queue is full, or where another connection has taken its address.
    """
    longest = min(max(int(seconds * 1000), 1), SILENCE_MOST_MS)
    between = min(max(longest // 4000, 1), KEEPALIVE_MOST_S)
    socket.set(zmq.TCP_KEEPALIVE, 1)
    socket.set(zmq.TCP_KEEPALIVE_IDLE, between)
    socket.set(zmq.TCP_KEEPALIVE_INTVL, between)
    socket.set(zmq.TCP_MAXRT, longest)  # TCP_USER_TIMEOUT: also while something is unconfirmed


def tcp_router(
    context: "zmq.Context[zmq.Socket[bytes]]",
    secret: str,
    domain: bytes,
    max_message: int,
    silence: float,
) -> zmq.Socket[bytes]:
    """Return a ROUTER for other machines, not bound. It admits only what the ZAP handler admits.

    Args:
        context: Of the socket, and of the ZAP handler.
        secret: The supervisor's secret key, in Z85.
        domain: What the ZAP handler knows it by.
        max_message: Bytes of a frame.
        silence: Seconds, see `notice_silence`.
    """
    socket = context.socket(zmq.ROUTER, socket_class=PlainSocket)
    socket.set(zmq.ROUTER_MANDATORY, 1)
    socket.set(zmq.LINGER, LINGER_MS)
    socket.set(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.set(zmq.MAXMSGSIZE, max_message)
    socket.set(zmq.SNDHWM, ROUTED)
    socket.set(zmq.RCVHWM, ROUTED)
    socket.set(zmq.CURVE_SERVER, 1)
    socket.set(zmq.CURVE_SECRETKEY, secret.encode())
    socket.set(zmq.ZAP_DOMAIN, domain)
    socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)  # without a handler, no peer is admitted
    notice_silence(socket, silence)
    return socket


def key_holder(frame: zmq.Frame) -> str:
    """Return whose key the sender of a frame has, as the ZAP handler found; empty: unknown."""
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:
        return ""


def disconnect(frame: zmq.Frame, port: int) -> None:
    """End the TCP connection that a frame has come by.

    Args:
        frame: As it was received.
        port: Of this side. A connection that has ended by itself may have left its descriptor to
            another one, which then either is none of this port, or connects again.
    """
    with (
        contextlib.suppress(OSError, zmq.ZMQError),
        socket.socket(fileno=os.dup(int(frame.get(zmq.SRCFD)))) as connection,
    ):
        is_internet = connection.family in {socket.AF_INET, socket.AF_INET6}
        if is_internet and connection.getsockname()[1] == port:
            connection.shutdown(socket.SHUT_RDWR)


def send(socket: zmq.Socket[bytes], frames: Sequence[Any]) -> None:
    """Send a message without blocking. Raises zmq.Again if the queue is full.

    Replaces `send_multipart`, whose enum flags cost more than the sending.
    """
    *first, last = frames
    for frame in first:
        socket.send(frame, MORE_NOBLOCK)
    socket.send(last, NOBLOCK)


def receive(socket: zmq.Socket[bytes]) -> list[bytes]:
    """Receive a message without blocking. Raises zmq.Again if there is none."""
    frame = socket.recv(NOBLOCK, copy=False)  # with `more`, which takes pyzmq long to look up
    frames = [frame.bytes]
    while frame.more:
        frame = socket.recv(NOBLOCK, copy=False)
        frames.append(frame.bytes)
    return frames


def receive_with_peer(socket: zmq.Socket[bytes]) -> tuple[list[bytes], Peer]:
    """Receive a message without blocking, and whose process has sent it.

    Raises:
        zmq.Again: There is none.
    """
    first, frames = _receive_all(socket)
    return frames, peer_of(first)


def receive_with_holder(socket: zmq.Socket[bytes]) -> tuple[list[bytes], str]:
    """Receive a message without blocking, and whose key its sender has, see `key_holder`.

    Raises:
        zmq.Again: There is none.
    """
    first, frames = _receive_all(socket)
    return frames, key_holder(first)


def _receive_all(socket: zmq.Socket[bytes]) -> tuple[zmq.Frame, list[bytes]]:
    """Return the first frame, which knows its sender, and what all frames have."""
    first = socket.recv(NOBLOCK, copy=False)
    frame, frames = first, [first.bytes]
    while frame.more:
        frame = socket.recv(NOBLOCK, copy=False)
        frames.append(frame.bytes)
    return first, frames


def peer_of(frame: zmq.Frame) -> Peer:
    """Return whose process has sent a frame, as the kernel knows it (`SO_PEERCRED`)."""
    try:
        _, uid, gid, _ = str(frame.get("Peer-Address")).rsplit(":", 3)
        return Peer(int(uid), int(gid))
    except (ValueError, zmq.ZMQError):  # a libzmq without it
        return UNKNOWN_PEER
