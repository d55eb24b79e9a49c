"""Creates ZeroMQ sockets and sets their options; paths of sockets; tokens."""

import contextlib
import os
import resource
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import zmq

from .errors import GarrisonError, NotAdmitted, SocketMissing, SupervisorGone
from .messages import TOKEN_BYTES, CurveKeys, Token
from .system.locks import is_locked

LONGEST_PATH = 107  # bytes of a Unix socket's path
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
SILENCE_MOST_MS = 6_553_500  # of libzmq
LINGER_MS = 500  # how long a closing socket goes on sending
PROBE_S = 5.0  # for a plain connect to be accepted or refused
NAME_ANSWER_BYTES = 16 * 1024  # of a supervisor at an abstract address
PEER_QUEUE = 20_000  # messages to one peer; in practice callers' windows are the bound
DESCRIPTORS_LEAST = 128  # with fewer, the supervisor has none left for connections
DESCRIPTORS_BASE, DESCRIPTORS_EACH = 112, 5  # of the supervisor itself, and for each service
OPERATOR_MARK = b"o"  # first byte of a routing id at the operators' socket
OPERATORS_MESSAGE = 64 * 1024  # bytes of a frame that an operator sends
OPERATORS_MODE = 0o666  # of their socket: the kernel says who connects, and others are refused
ROUTED = 64  # messages in libzmq to and from one peer; `BusRouter` bounds the rest by bytes


class PlainSocket(zmq.Socket[bytes]):
    """A socket without pyzmq's wrapper of `send` for draft types, which costs as much as sending
    does."""

    send = zmq.backend.Socket.send  # type: ignore[assignment]


class Peer(NamedTuple):
    """The user of a connected process; -1 where that is not known."""

    uid: int = -1
    gid: int = -1


UNKNOWN_PEER = Peer()


def new_token() -> Token:
    """Return a routing id that no other incarnation ever has."""
    return b"g" + os.urandom(TOKEN_BYTES - 1)  # libzmq reserves ids with a leading 0


def is_token(routing_id: bytes) -> bool:
    """Return True for a routing id of the form that `new_token` returns; not GONE or FULL."""
    return len(routing_id) == TOKEN_BYTES and routing_id[:1] == b"g"


def control_path(run: Path, uid: int = -1) -> str:
    """Return the path of the control socket, for the supervisor's own user or for another."""
    return str(run / ("control.sock" if uid < 0 else f"c{uid}.sock"))


def operators_path(run: Path) -> str:
    """Return the path of the control socket of other users who may give some orders."""
    return str(run / "operators.sock")


def new_operator_token() -> Token:
    """Return a routing id for that socket. Its first byte shows which socket it belongs to."""
    return OPERATOR_MARK + os.urandom(TOKEN_BYTES - 1)


def is_operator_token(routing_id: bytes) -> bool:
    """Return True for a routing id of the form that `new_operator_token` returns."""
    return len(routing_id) == TOKEN_BYTES and routing_id[:1] == OPERATOR_MARK


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

    A shorter silence loses nothing, because TCP sends again what was not confirmed.
    """
    longest = min(int(seconds * 1000), SILENCE_MOST_MS)
    socket.set(zmq.HEARTBEAT_IVL, max(longest // 4, 1))
    socket.set(zmq.HEARTBEAT_TIMEOUT, longest)
    socket.set(zmq.HEARTBEAT_TTL, longest)


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
                if os.access(operators_path(Path(path).parent), os.W_OK):
                    raise NotAdmitted(
                        path, "its operators give orders, they call no service"
                    ) from error
                raise SupervisorGone(path, "it belongs to another user") from error
            raise SupervisorGone(path) from error


def check_admitted(path: str) -> None:
    """Raise NotAdmitted if the operators' socket at a path closes this user's connections.

    A connection that is admitted is greeted at once.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_S)
        with contextlib.suppress(OSError):  # a supervisor that is busy is waited for elsewhere
            probe.connect(path)
            if not probe.recv(1):
                raise NotAdmitted(path)


def is_refused(error: SupervisorGone) -> bool:
    """Return True if a supervisor may listen, but not for this user."""
    return isinstance(error.__cause__, PermissionError)


def run_name(run: Path) -> bytes:
    """Return the abstract address that the supervisor of a run folder has, as of this user."""
    folder = os.fsencode(os.path.realpath(run))
    import hashlib  # slow to import, and few commands come here

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
