"""Notices the end of the supervisor's process, wherever it runs.

In this PID namespace by a pidfd, in another one by its socket, on another machine by the end of its
connections.
"""

import asyncio
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from . import socket_paths
from .path_watch import PathWatch
from .system import process_tree

if TYPE_CHECKING:  # it imports libzmq, which others need not
    from .remote import RemoteSupervisor


class SupervisorWatch:
    """Watches one supervisor after the other.

    Args:
        loop: The loop of the session.
        on_end: Called once the process has ended.

    Attributes:
        pid: In its own PID namespace.
        path: Of its control socket.
        remote: The connections to another machine; None: it runs on this one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_end: Callable[[], None]) -> None:
        self._loop, self._on_end = loop, on_end
        self.pid = 0
        self.path = ""
        self.remote: RemoteSupervisor | None = None
        self._pidfd = -1
        self._elsewhere = False  # in another PID namespace, where its pid means nothing here
        self._path_watch = PathWatch(loop, on_end)

    def welcomed(self, pid: int, namespace: object) -> None:
        """Take note of which process has sent a Welcome."""
        self.pid = pid
        self._elsewhere = not process_tree.is_pid_namespace(namespace)

    def start(self) -> None:
        """Watch the process that has sent the last Welcome."""
        self.stop()
        if self.remote is not None:
            return
        if self._elsewhere:
            self._path_watch.path = self.path
            self._path_watch.start()
            return
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except OSError:
            self._on_end()
            return
        self._loop.add_reader(self._pidfd, self._on_end)

    def stop(self) -> None:
        """Watch no process."""
        self._path_watch.stop()
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def answered(self, plane: str, boot: str) -> None:
        """Take note of an answer by a supervisor process, on a plane's connection."""
        if self.remote is not None:
            self.remote.answered(plane, boot)

    def close(self) -> None:
        """Watch nothing any more."""
        self.stop()
        if self.remote is not None:
            self.remote.close()

    def leave(self) -> None:
        """Return when what was sent to another machine has left; the connections are closed."""
        if self.remote is not None:
            self.remote.leave()

    @property
    def has_pidfd(self) -> bool:
        """Return whether a process is watched that has not ended, as far as was noticed."""
        return self._pidfd >= 0

    @property
    def has_ended(self) -> bool:
        """Return whether the supervisor that this process joined has ended."""
        if self.remote is not None:
            return not self.remote.is_connected
        if self._elsewhere:
            return not socket_paths.has_supervisor(self.path)
        return self._pidfd < 0 or process_tree.ended(self._pidfd, 0)
