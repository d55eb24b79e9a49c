"""Creates ZeroMQ sockets and sets their options; paths of sockets; tokens."""

import contextlib
import hashlib
import os
import resource
import secrets
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zmq

from .errors import GarrisonError, SocketMissing, SupervisorGone
from .messages import TOKEN_BYTES, Token
from .system.locks import is_locked

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
NAME_ANSWER_BYTES = 16 * 1024  # of a supervisor at an abstract address
PEER_QUEUE = 20_000  # messages to one peer; in practice callers' windows are the bound
DESCRIPTORS_LEAST = 128  # with fewer, the supervisor has none left for connections
DESCRIPTORS_BASE, DESCRIPTORS_EACH = 112, 5  # of the supervisor itself, and for each service
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


def raise_descriptor_limit() -> int:
    """Raise the limit of descriptors to the hard limit: libzmq aborts if an accept finds none.

    Returns:
        The former limit, if it was lower; else 0.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ceiling = 65_536 if hard == resource.RLIM_INFINITY else hard
    if soft >= ceiling:
        return 0
    resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling, hard))
    return soft


def check_descriptor_limit(services: int) -> None:
    """Raise GarrisonError if this process may open too few files to supervise so many services."""
    needed = max(DESCRIPTORS_LEAST, DESCRIPTORS_BASE + DESCRIPTORS_EACH * services)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise GarrisonError(
            f"this process may open {hard} files, and a host with {services} services needs "
            f"{needed} or more: raise the hard limit, with ulimit -Hn {max(needed, 1024)} as root, "
            "with LimitNOFILE= in a systemd unit, or with --ulimit nofile= in docker run"
        )


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
            What was not sent goes to the next router, so that router must recognise it.
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


def run_name(run: Path) -> bytes:
    """Return the abstract address that the supervisor of a run folder has, as of this user."""
    folder = os.fsencode(os.path.realpath(run))
    digest = hashlib.sha256(f"{os.geteuid()}\0run\0".encode() + folder).hexdigest()
    return b"\0garrison-" + digest.encode()


def name_holder(name: bytes, answer_s: float = 0.0) -> tuple[int, bytes] | None:
    """Return the pid of the process of this user that has an abstract address, and its answer.

    None: no process of this user has it. The pid is 0 in another PID namespace.

    Args:
        name: The address.
        answer_s: Seconds to wait for the answer; 0: none is wanted.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(answer_s or PROBE_S)
        try:
            connection.connect(name)
            peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        except TimeoutError:  # its backlog is full
            return 0, b""
        except OSError:
            return None
        pid, uid, _ = struct.unpack("3i", peer)
        if uid != os.geteuid():
            return None
        answer = b""
        if answer_s:
            with contextlib.suppress(OSError):
                answer = connection.recv(NAME_ANSWER_BYTES)
        return pid, answer


def is_starting(path: str) -> bool:
    """Return True if a supervisor has the run folder but does not listen yet, as in an upgrade.

    It has the lock, and an address that cannot be removed.
    """
    run = Path(path).parent
    return is_locked(run / "supervisor.lock") or name_holder(run_name(run)) is not None


def has_supervisor(path: str) -> bool:
    """Return True if a supervisor listens at a control socket's path, or is about to."""
    try:
        check_listening(path)
    except SupervisorGone:
        return is_starting(path)
    return True


def socket_missing(path: str) -> SocketMissing:
    """Return the error for a path where a supervisor that `is_starting` does not listen in time."""
    run = Path(path).parent
    pid, _ = name_holder(run_name(run)) or (0, b"")
    shown = str(pid or "")
    with contextlib.suppress(OSError):
        shown = shown or (run / "supervisor.lock").read_text("ascii", "replace").strip()
    return SocketMissing(path, shown or "?")


def check_length(path: str) -> None:
    """Raise GarrisonError if a path is too long for a socket."""
    length = len(os.fsencode(path))
    if length > LONGEST_PATH:
        raise GarrisonError(
            f"{path} has {length} bytes, and a Unix socket's path at most {LONGEST_PATH}: "
            "choose a shorter one with --home, or with run = … under [host]"
        )
