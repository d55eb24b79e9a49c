"""Paths, addresses and routing ids of a host's sockets; whether a supervisor listens there.

Commands import this: it imports no ZeroMQ.
"""

import contextlib
import os
import socket
import struct
from pathlib import Path

from .errors import GarrisonError, NotAdmitted, SocketMissing, SupervisorGone
from .messages import TOKEN_BYTES, Token
from .system.locks import is_locked

LONGEST_PATH = 107  # bytes of a Unix socket's path
PROBE_S = 5.0  # for a plain connect to be accepted or refused
NAME_ANSWER_BYTES = 16 * 1024  # of a supervisor at an abstract address
OPERATOR_MARK = b"o"  # first byte of a routing id at the operators' socket


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


def connected(path: str) -> socket.socket | None:
    """Return a socket that is connected to a path; None: a process listens, but its backlog is
    full.

    Raises:
        SupervisorGone: No process listens there.
        NotAdmitted: This user may give orders at the operators' socket alone.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(PROBE_S)
        connection.connect(path)
    except BlockingIOError:
        connection.close()
        return None
    except OSError as error:
        connection.close()
        if isinstance(error, PermissionError):
            if os.access(operators_path(Path(path).parent), os.W_OK):
                raise NotAdmitted(
                    path, "its operators give orders, they call no service"
                ) from error
            raise SupervisorGone(path, "it belongs to another user") from error
        raise SupervisorGone(path) from error
    return connection


def check_listening(path: str) -> None:
    """Raise SupervisorGone if no process listens at a socket's path."""
    if (connection := connected(path)) is not None:
        connection.close()


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
