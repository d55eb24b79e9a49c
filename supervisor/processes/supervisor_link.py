"""The launcher's connection to its supervisor: commands come in, reports go out; never blocks."""

import os
import select
import socket
import struct
from collections import deque

from .protocol import FRAME_BYTES, Report, encode

UNSENT_MOST = 4096  # reports that are kept for a supervisor that does not read


class SupervisorLink:
    """The connection, and the reports that have not been sent yet.

    Args:
        connection: To the supervisor that started the launcher.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection: socket.socket | None = None
        self._unsent: deque[tuple[bytes, int]] = deque(maxlen=UNSENT_MOST)  # with a descriptor
        self.replace(connection)

    @property
    def connected(self) -> bool:
        """Return whether there is a supervisor."""
        return self._connection is not None

    def has_peer(self) -> bool:
        """Return whether the supervisor is still at the other end, as of now."""
        if self._connection is None:
            return False
        poll = select.poll()
        poll.register(self._connection, select.POLLRDHUP)
        return not poll.poll(0)

    def live_peer(self) -> int:
        """Return the supervisor's pid; 0 if it is gone."""
        return self.peer_pid() if self.has_peer() else 0

    def fileno(self) -> int:
        """Return the descriptor of the connection."""
        assert self._connection is not None
        return self._connection.fileno()

    def events(self) -> int:
        """Return what to poll the connection for."""
        return select.POLLIN | (select.POLLOUT if self._unsent else 0)

    def replace(self, connection: socket.socket) -> None:
        """Serve a new supervisor; drop the reports for the old one."""
        self.disconnect()
        connection.setblocking(False)
        self._connection = connection
        for _, fd in self._unsent:
            if fd >= 0:
                os.close(fd)
        self._unsent.clear()

    def disconnect(self) -> None:
        """Close the connection; reports are kept."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def peer_pid(self) -> int:
        """Return the supervisor's pid; this process's own if there is none."""
        if self._connection is None:
            return os.getpid()
        option = self._connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid: int = struct.unpack("3i", option)[0]
        return pid

    def receive(self) -> tuple[bytes, list[int]]:
        """Return a command with its descriptors; empty data if the supervisor is gone.

        Raises:
            BlockingIOError: There is none yet.
        """
        if self._connection is None:
            return b"", []
        try:
            data, fds, _, _ = socket.recv_fds(self._connection, FRAME_BYTES, 4)
        except BlockingIOError:
            raise
        except OSError:
            return b"", []
        return data, fds

    def report(self, report: Report, fd: int = -1) -> None:
        """Queue a report, with a descriptor that the queue owns; the oldest one may be dropped."""
        if len(self._unsent) == UNSENT_MOST and self._unsent[0][1] >= 0:
            os.close(self._unsent[0][1])
        self._unsent.append((encode(report), fd))

    def send(self) -> bool:
        """Send queued reports as far as possible; return False if the supervisor is gone."""
        while self._unsent and self._connection is not None:
            data, fd = self._unsent[0]
            try:
                socket.send_fds(self._connection, [data], [fd] if fd >= 0 else [])
            except BlockingIOError:
                return True
            except OSError:
                return False
            self._unsent.popleft()
            if fd >= 0:
                os.close(fd)
        return True
