"""The lock on a platform's credential: an abstract Unix socket, whose name is made of the secret.

It spans the homes and the users of one network namespace: a machine, not its containers. The kernel
releases it with the process. The name is an HMAC, which does not reveal the secret.
"""

import contextlib
import errno
import hashlib
import hmac
import os
import socket
import struct
from pathlib import Path
from typing import NamedTuple

LABEL = b"garrison: the credential of a platform, 1"
CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid
WAITING = 128  # connections; the holder closes each one at once
LOCK_SUFFIX = ".service.lock"  # of the file that the worker of an exclusive service has open


class Holder(NamedTuple):
    """The process that has a credential, as far as this one may see it."""

    pid: int  # 0: not known, as in another PID namespace
    uid: int  # -1: not known
    service: str  # NAME; "" if it cannot be read
    run: Path | None  # folder of the home's sockets and locks; None if it cannot be read

    def words(self) -> str:
        """Return who it is."""
        pid = f"pid {self.pid}" if self.pid > 0 else "a process of another container"
        if self.run is None:
            return pid if self.uid in {-1, os.geteuid()} else f"{pid} of user {self.uid}"
        return f"{pid}, the service {self.service} of {self.run.parent}"


def socket_name(secret: str) -> bytes:
    """Return the name of a secret's socket."""
    key = secret.encode("utf-8", "surrogatepass")
    return b"\0garrison-" + hmac.new(key, LABEL, hashlib.sha256).hexdigest().encode("ascii")


def take(secret: str) -> socket.socket | None:
    """Return the socket that is the lock of a secret; None if another process has it."""
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)  # CLOEXEC
    try:
        lock.bind(socket_name(secret))
        lock.listen(WAITING)
        lock.setblocking(False)
    except OSError as error:
        lock.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    return lock


def holder_of(secret: str) -> Holder | None:
    """Return the process that has a secret's lock; None if there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        try:
            connection.connect(socket_name(secret))
        except ConnectionRefusedError:
            return None
        except BlockingIOError:  # it is stopped, and its backlog is full
            return Holder(0, -1, "", None)
        packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    pid, uid, _ = CREDENTIALS.unpack(packed)
    service, run = _service_of(pid)
    return Holder(pid, uid, service, run)


def _service_of(pid: int) -> tuple[str, Path | None]:
    """Return the NAME and the home's folder of a worker, by the lock that it has open."""
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = entry.readlink()
                if target.name.endswith(LOCK_SUFFIX):
                    return target.name.removesuffix(LOCK_SUFFIX), target.parent
    return "", None
