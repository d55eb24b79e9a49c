"""Creates ZeroMQ sockets and sets their options; paths of sockets; tokens."""

import contextlib
import os
import resource
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zmq

from .errors import GarrisonError, SupervisorGone
from .messages import TOKEN_BYTES, Token

LONGEST_PATH = 107  # bytes of a Unix socket's path
NOBLOCK, RCVMORE, EVENTS, POLLIN = (
    int(zmq.NOBLOCK),
    int(zmq.RCVMORE),
    int(zmq.EVENTS),
    int(zmq.POLLIN),
)
MORE_NOBLOCK = NOBLOCK | int(zmq.SNDMORE)
LINGER_MS = 500  # how long a closing socket goes on sending
PROBE_S = 5.0  # for a plain connect to be accepted or refused
PEER_QUEUE = 20_000  # messages to one peer; in practice callers' windows are the bound
ROUTED = 64  # messages in libzmq to and from one peer; `BusRouter` bounds the rest by bytes


def new_token() -> Token:
    """Return a routing id that no other incarnation ever has."""
    return b"g" + secrets.token_bytes(TOKEN_BYTES - 1)  # libzmq reserves ids with a leading 0


def is_token(routing_id: bytes) -> bool:
    """Return True for a routing id of the form that `new_token` returns; not GONE or FULL."""
    return len(routing_id) == TOKEN_BYTES and routing_id[:1] == b"g"


def control_path(run: Path, uid: int = -1) -> str:
    """Return the path of the control socket, for the supervisor's own user or for another."""
    return str(run / ("control.sock" if uid < 0 else f"c{uid}.sock"))


def bus_path(run: Path, uid: int = -1) -> str:
    """Return the path of the bus, for the supervisor's own user or for another."""
    return str(run / ("bus.sock" if uid < 0 else f"b{uid}.sock"))


def run_folder(home: Path) -> Path:
    """Return the folder of a home's sockets and locks: `run`, or the target of that link."""
    return Path(os.path.realpath(home / "run"))


def raise_descriptor_limit() -> None:
    """Raise the limit of descriptors to the hard limit: libzmq aborts if an accept finds none."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ceiling = 65_536 if hard == resource.RLIM_INFINITY else hard
    if soft < ceiling:
        resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling, hard))


def router(
    context: "zmq.Context[zmq.Socket[bytes]]", max_message: int, uid: int = -1
) -> zmq.Socket[bytes]:
    """Return a ROUTER for the supervisor's own user or for another; `bus.listeners` binds it."""
    socket = context.socket(zmq.ROUTER)
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


def dealer(
    context: "zmq.Context[zmq.Socket[bytes]]",
    path: str,
    token: Token,
    max_message: int,
    *,
    keep: bool = False,
) -> zmq.Socket[bytes]:
    """Connect to one of the supervisor's two sockets, under a token.

    Args:
        context: Of the socket.
        path: Of the supervisor's socket.
        token: The routing id.
        max_message: Bytes of a frame.
        keep: Keep messages over a disconnect: what was received and not yet read is lost otherwise.
            What was not sent goes to the next router, so that must be one that tells it apart.
    """
    socket = context.socket(zmq.DEALER)
    socket.set(zmq.ROUTING_ID, token)
    socket.set(zmq.IMMEDIATE, not keep)
    socket.set(zmq.PROBE_ROUTER, 1)  # the router sees each connection
    socket.set(zmq.RECONNECT_IVL, 20)
    socket.set(zmq.LINGER, LINGER_MS)
    socket.set(zmq.MAXMSGSIZE, max_message)
    socket.set(zmq.SNDHWM, PEER_QUEUE)
    socket.set(zmq.RCVHWM, PEER_QUEUE)
    socket.connect(f"ipc://{path}")
    return socket


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
    frames = [socket.recv(NOBLOCK)]
    while socket.getsockopt(RCVMORE):
        frames.append(socket.recv(NOBLOCK))
    return frames


def receive_for_forwarding(socket: zmq.Socket[bytes]) -> list[Any]:
    """Receive a message to be forwarded: as `receive`, but large frames are not copied."""
    frames: list[Any] = [socket.recv(NOBLOCK)]
    while socket.getsockopt(RCVMORE):
        if len(frames) < 3:
            frames.append(socket.recv(NOBLOCK))
        else:
            frames.append(socket.recv(NOBLOCK, copy=False))
    return frames


def check_listening(path: str) -> None:
    """Raise SupervisorGone if no process listens at a socket's path."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_S)
        try:
            probe.connect(path)
        except BlockingIOError:
            return  # a process listens, but its backlog is full
        except OSError as error:
            if isinstance(error, PermissionError):
                raise SupervisorGone(path, "it belongs to another user") from error
            raise SupervisorGone(path) from error


def is_starting(path: str) -> bool:
    """Return True if a supervisor has the run folder but does not listen yet, as in an upgrade.

    The holder of the lock has its file open, and its pid is in the file. An attempt to lock could
    make a starting supervisor fail, and `/proc/locks` omits lines while other processes change it.
    """
    lock = Path(path).with_name("supervisor.lock")
    try:
        found, pid = lock.stat(), int(lock.read_text("ascii"))
        opened = list(Path(f"/proc/{pid}/fd").iterdir())
    except (OSError, ValueError):
        return False
    for descriptor in opened:
        with contextlib.suppress(OSError):  # closed meanwhile
            if os.path.samestat(descriptor.stat(), found):
                return True
    return False


def check_length(path: str) -> None:
    """Raise GarrisonError if a path is too long for a socket."""
    length = len(os.fsencode(path))
    if length > LONGEST_PATH:
        raise GarrisonError(
            f"{path} has {length} bytes, and a Unix socket's path at most {LONGEST_PATH}: "
            "choose a shorter one with --home, or with run = … under [host]"
        )
