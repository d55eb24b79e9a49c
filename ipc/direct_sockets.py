"""Creates the sockets of direct routes; their paths and addresses.

A caller's own socket has the address of its route as its name, in the abstract namespace. So its
callee knows at once which route a connection is, and no two have the same. Sizes are bytes.
"""

import os
import re
import socket
import struct
from pathlib import Path

from .errors import GarrisonError
from .messages import DIRECT_MARK, TOKEN_BYTES, Token
from .socket_paths import check_length
from .system.file_id import FileId, file_at

NAMES = re.compile(r"(d[0-9a-f]{12}\.sock)(\.\d+)?")  # of sockets, and of one about to be put there
NEW = ".0"  # ends the name of such a one
BACKLOG = 64  # connections that wait to be accepted; a callee has fewer callers
PACKET = 64 << 10  # the largest packet; a socket's buffer holds several
SEND_BUFFER = 1 << 20  # the kernel gives what it permits
PRIVATE = 0o600  # mode of a socket
SEND_LEAST = 4 * PACKET  # of the kernel's buffer; a packet that does not fit could never be sent

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


def new_address() -> Token:
    """Return the address of a route: the name that its caller connects under."""
    return DIRECT_MARK + os.urandom(TOKEN_BYTES - 1)


def direct_path(run: Path, token: Token) -> Path:
    """Return where an incarnation listens for its callers; no other ever listens there."""
    return run / f"d{token[1:7].hex()}.sock"


def listen(path: str) -> tuple[socket.socket, FileId]:
    """Return a socket that listens at a path for processes of its own user, and its identity there.
    It takes the place of another at once. Raises OSError, GarrisonError."""
    check_length(path + NEW)
    new = Path(path + NEW)
    new.unlink(missing_ok=True)
    listener = _new_socket()
    try:
        listener.bind(str(new))
        new.chmod(PRIVATE)
        listener.listen(BACKLOG)
        identity = file_at(str(new))
        new.rename(path)
    except BaseException:
        listener.close()
        new.unlink(missing_ok=True)
        raise
    return listener, identity


def accept(listener: socket.socket) -> tuple[socket.socket, Token]:
    """Return the next connection and its address, which is empty if it is of another user.

    Raises:
        BlockingIOError: There is none.
        OSError: It ended meanwhile, or this process may open no more files.
    """
    connection, name = listener.accept()
    try:
        credentials = connection.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
        )
        address = name[1:] if isinstance(name, bytes) else b""
        is_own = _CREDENTIALS.unpack(credentials)[1] == os.geteuid()
    except BaseException:
        connection.close()
        raise
    return connection, address if is_own else b""


def connect(path: str, address: Token) -> socket.socket:
    """Connect to a callee, under the address of the route. Raises OSError, GarrisonError."""
    connection = _new_socket()
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        if connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) < SEND_LEAST:
            raise GarrisonError("the kernel's net.core.wmem_max is less than 128 KiB")
        connection.bind(b"\0" + address)
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return connection


def _new_socket() -> socket.socket:
    kind = socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK
    return socket.socket(socket.AF_UNIX, kind)
