"""The socket at which a launcher waits for the next supervisor, and who may connect to it.

The socket is bound anew if it is removed. Times are monotonic seconds.
"""

import contextlib
import errno
import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

from garrison.ipc.system.file_id import NO_FILE, file_at

LOOK_S = 0.5  # between two looks at the path
BACKLOG = 64  # supervisors that were killed while this process was stopped queue here
REFUSED_LOGGED = 10  # connections that were refused


class LauncherSocket:
    """A listening socket at a path.

    Args:
        path: Its folder has the lock of the supervisor.

    Attributes:
        due: When to call `restore_if_lost`.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._lock = self._path.with_name("supervisor.lock")
        self._locked = self._lock.exists()  # a node has none
        self._refused = 0
        self._identity = NO_FILE
        self._listener = self._bind()
        self.due = time.monotonic() + LOOK_S

    def fileno(self) -> int:
        """Return the descriptor of the socket."""
        return self._listener.fileno()

    def _bind(self) -> socket.socket:
        """Return a socket that listens at the path; before it listens, it is not there."""
        # Of this process alone: a launcher whose home was moved may bind at the same path.
        name = self._path.with_name(f".{os.getpid()}")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            name.unlink(missing_ok=True)
            listener.bind(str(name))
            name.chmod(0o600)
            listener.listen(BACKLOG)
            listener.setblocking(False)
            identity = file_at(name)
            name.rename(self._path)
        except BaseException:
            listener.close()
            with contextlib.suppress(OSError):
                name.unlink(missing_ok=True)
            raise
        self._identity = identity
        return listener

    def restore_if_lost(self, supervisor: Callable[[], int]) -> None:
        """Bind anew if the socket is no longer at its path, unless another process listens there.

        That is looked at every `LOOK_S`. Without its folder it is tried again at the next look.
        While its supervisor lives, that one's lock is there first: where another host takes the
        path of a home that was moved, it would take this launcher for its own.

        Args:
            supervisor: Returns the pid of the supervisor; 0 if it is gone.
        """
        now = time.monotonic()
        if now < self.due:
            return
        self.due = now + LOOK_S
        self._locked = self._locked or self._lock.exists()
        if file_at(self._path) == self._identity or is_listening(self._path):
            return
        if self._locked and (pid := supervisor()) and not self._has_lock(pid):
            return
        try:
            listener = self._bind()
        except OSError:
            return
        self._listener.close()
        self._listener = listener
        _say(f"{self._path} was removed; it is restored")

    def _has_lock(self, pid: int) -> bool:
        """Return whether a process has the lock; if that cannot be known, whether there is one."""
        holds = has_open(pid, self._lock)
        return self._lock.exists() if holds is None else holds

    def unlink(self) -> None:
        """Remove the socket from its path, unless it is another process's."""
        if file_at(self._path) == self._identity:
            self._path.unlink(missing_ok=True)

    # --- who connects -----------------------------------------------------------------------

    def accept(self, has_supervisor: bool) -> socket.socket | None:
        """Return the connection of the next supervisor; None if it is none, or if it is gone.

        The supervisor is the process that has the lock. Without a lock file, it is any process of
        this user while no other is connected.
        """
        try:
            connection, _ = self._listener.accept()
        except OSError:  # the peer is gone, or no descriptor is left
            return None
        pid, uid = peer_of(connection)
        holds = has_open(pid, self._lock)
        is_supervisor = not has_supervisor if holds is None else holds
        if is_supervisor and uid in {os.geteuid(), 0}:
            return connection
        connection.close()
        self._refused += 1
        if self._refused <= REFUSED_LOGGED:
            _say(f"a connection of process {pid} (uid {uid}) was refused: it is no supervisor")
        return None


def peer_of(connection: socket.socket) -> tuple[int, int]:
    """Return the pid and uid of the process at the other end."""
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid, uid, _ = struct.unpack("3i", peer)
    return pid, uid


def is_listening(path: Path) -> bool:
    """Return True if a process listens at a launcher's path."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:  # its backlog is full
            return True
        except OSError as error:
            return error.errno == errno.EPROTOTYPE  # it listens, for another type of socket
        return True


def has_open(pid: int, path: Path) -> bool | None:
    """Return whether a process has a file open; None if that cannot be known."""
    try:
        wanted = path.stat()
        opened = os.listdir(f"/proc/{pid}/fd")  # noqa: PTH208
    except FileNotFoundError:
        return None if not path.exists() else False
    except OSError:
        return None
    for number in opened:
        with contextlib.suppress(OSError):  # closed meanwhile
            if os.path.samestat(os.stat(f"/proc/{pid}/fd/{number}"), wanted):  # noqa: PTH116
                return True
    return False


def _say(text: str) -> None:
    print(f"launcher: {text}", file=sys.stderr, flush=True)
