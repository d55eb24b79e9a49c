"""Accepts connections only while descriptors are free: libzmq aborts if an accept finds none.

The listening sockets are created here, and the one at the path is not handed to libzmq: its backlog
fills, and the kernel makes further clients wait. Whenever a client waits there, descriptors are
counted; the loop has just raised the limit again if another program had lowered it. If there is
room for a whole backlog, a new socket replaces the one at the path by a rename, and the former is
handed to libzmq. No client can reach it any more, so libzmq cannot accept more connections than
were counted. Its connections belong to libzmq's listener, so it is unbound only after they have
closed.
"""

import os
import resource
import select
import socket
import struct
import time
from collections.abc import Callable, Iterable
from math import inf
from pathlib import Path
from typing import TypeAlias

import msgspec
import zmq

from garrison.ipc.system.descriptors import free_descriptors
from garrison.ipc.system.file_id import NO_FILE, file_at

RESERVED = 32  # descriptors for this process itself: pidfds, files, a launcher's socket
PLENTY = 1024  # free descriptors; with as many, a whole burst of connections may wait
WIDE_BACKLOG = 128  # waiting connections while descriptors are plenty; the kernel takes one more
BACKLOG = 8  # the same while they are few
RACING = 4  # may have found the old socket just before another replaced it
RETRY_S = 0.02  # before the next check for free descriptors
REAP_S = 0.5  # before the next check for listeners without connections
REAP_MOST_S = 30.0  # the same, after checks that found none
NAMES = 100_000  # numbers of sockets' names, then again from the first
CONNECTIONS = 512  # of another user at one listener; or an eighth of all descriptors, if fewer
PRIVATE = 0o600  # mode of a socket
EVENT = struct.Struct("=HI")  # of libzmq's monitors: event, descriptor


def batch(backlog: int) -> int:
    """Return how many connections libzmq may accept from a socket with a backlog, at most."""
    return backlog + 1 + RACING


def has_room(free: int, promised: int, backlog: int = BACKLOG) -> bool:
    """Return True if a whole backlog may be accepted.

    Args:
        free: Descriptors that this process may still open.
        promised: Those that connections will take which were handed to libzmq already.
        backlog: Of the socket that would be handed to it.
    """
    return free - promised - 1 >= RESERVED + batch(backlog)  # the next listener takes one


def connections_most() -> int:
    """Return how many connections another user may have at one listener."""
    return min(CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 8)


ListenSocket: TypeAlias = socket.socket


class HandedToZmq(msgspec.Struct):
    """A listening socket that libzmq has."""

    name: str  # the path that it was bound to
    fd: int
    endpoint: str  # libzmq's name of it
    most: int  # connections that libzmq may accept from it
    drained: bool = False  # no connection waits in it, and no client can reach it
    seen_empty: bool = False  # nor has it an open connection, as of the last check


class Listener:
    """The listening socket at one path. What accepts from it derives from this.

    Args:
        owner: What the connections are for.
        path: Where clients connect. The home's lock is held.
        uid: The only user that can connect, besides root; negative: the supervisor's own.
        mode: Of the socket; one that others can open has its connections counted too.
    """

    def __init__(self, owner: object, path: str, uid: int = -1, mode: int = PRIVATE) -> None:
        self.owner = owner
        self._path, self._mode = path, mode
        self.uid = uid
        self.is_counted = uid >= 0 or mode != PRIVATE
        self._number = 0
        self.front: ListenSocket | None = None  # the socket at the path
        self.backlog = BACKLOG  # its
        self._identity = NO_FILE  # of the socket at the path
        for stale in Path(path).parent.glob(f"{Path(path).name}.*"):
            stale.unlink(missing_ok=True)  # of a supervisor that was killed in `pause`
        self.pause()

    def pause(self) -> None:
        """Put a new socket at the path that is not accepted from; no client finds the former."""
        name = self._next_name()
        Path(name).unlink(missing_ok=True)
        front = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            front.bind(name)
            Path(name).chmod(self._mode)
            if self.uid >= 0:
                os.chown(name, self.uid, -1)
            self.backlog = WIDE_BACKLOG if free_descriptors() >= PLENTY else BACKLOG
            front.listen(self.backlog)  # before this no client can connect
            identity = file_at(name)
            Path(name).rename(self._path)
        except BaseException:
            front.close()
            Path(name).unlink(missing_ok=True)
            raise
        self.front, self._identity = front, identity

    def _next_name(self) -> str:
        """Return where the next socket is bound first."""
        self._number += 1
        return f"{self._path}.{(self._number - 1) % NAMES}"

    @property
    def count(self) -> int:
        """Return how many connections there are, where they are counted."""
        raise NotImplementedError

    def accept_batch(self) -> None:
        """Accept the connections that wait."""
        raise NotImplementedError

    @property
    def listening(self) -> set[int]:
        """Return the descriptors of all listening sockets."""
        return {self.front.fileno()} if self.front is not None else set[int]()

    @property
    def former(self) -> list[HandedToZmq]:
        """Return libzmq's listening sockets; they are no longer at the path."""
        return []

    def promised(self) -> int:
        """Return how many connections libzmq may still accept from former sockets, at most."""
        return 0

    def reap(self, in_use: set[str]) -> bool:
        """Unbind the former sockets that have had no connection at the last check either.

        Returns:
            Whether any has none.
        """
        return False

    @property
    def path(self) -> str:
        """Return where clients connect."""
        return self._path

    def is_at_path(self) -> bool:
        """Return True if clients find this listener; its socket may have been removed or moved."""
        return file_at(self._path) == self._identity

    def restore(self) -> None:
        """Put a new socket at the path in place of one that was removed.

        Raises:
            OSError: That is not possible now.
        """
        former = self.front
        self.pause()
        if former is not None:  # what waits there connects again
            former.close()

    def unlink(self) -> None:
        """Remove the socket at the path, unless it is another process's."""
        if self.is_at_path():
            Path(self._path).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the socket at the path."""
        if self.front is not None:
            self.front.close()
            self.front = None


class ZmqListener(Listener):
    """The listening sockets of one ROUTER.

    Args:
        socket: The ROUTER, not bound; this listener binds it.
        path, uid, mode: See `Listener`.
    """

    def __init__(
        self, socket: zmq.Socket[bytes], path: str, uid: int = -1, mode: int = PRIVATE
    ) -> None:
        self.socket = socket
        self.connections: set[int] = set()  # of another user: descriptors, as libzmq reports them
        self._handed: list[HandedToZmq] = []
        super().__init__(socket, path, uid, mode)

    @property
    def count(self) -> int:
        """Return how many connections libzmq has reported."""
        return len(self.connections)

    def _next_name(self) -> str:
        taken = {handed.name for handed in self._handed}
        while (name := super()._next_name()) in taken:
            pass
        return name

    def accept_batch(self) -> None:
        """Hand the connections that wait to libzmq, and make the next ones wait."""
        former, backlog = self.front, self.backlog
        assert former is not None
        self.pause()
        self._hand_to_zmq(former, batch(backlog))

    def _hand_to_zmq(self, front: ListenSocket, most: int) -> None:
        name, fd = front.getsockname(), front.detach()
        self.socket.set(zmq.USE_FD, fd)
        self.socket.bind(f"ipc://{self._path}")
        endpoint = str(self.socket.get_string(zmq.LAST_ENDPOINT))
        self._handed.append(HandedToZmq(name, fd, endpoint, most))

    @property
    def listening(self) -> set[int]:
        """Return the descriptors of all listening sockets."""
        return {handed.fd for handed in self._handed} | super().listening

    @property
    def former(self) -> list[HandedToZmq]:
        """Return libzmq's listening sockets; they are no longer at the path."""
        return self._handed

    def promised(self) -> int:
        """Return how many connections libzmq may still accept from former sockets, at most."""
        for handed in self.former:
            handed.drained = handed.drained or not _has_pending(handed.fd)
        return sum(handed.most for handed in self.former if not handed.drained)

    def reap(self, in_use: set[str]) -> bool:
        """Unbind the former sockets that have had no connection at the last check either.

        Returns:
            Whether any has none.
        """
        empty = False
        for handed in list(self.former):
            if not handed.drained or handed.name in in_use:
                handed.seen_empty = False
                continue
            empty = True
            if handed.seen_empty:
                self._handed.remove(handed)
                self.socket.unbind(handed.endpoint)
            else:  # a connection that is being accepted may have no descriptor yet
                handed.seen_empty = True
        return empty


class ListenerSet:
    """The listeners of all ROUTERs.

    Args:
        routers: Each ROUTER and its path.

    Attributes:
        due: When to call `turn`, even if `fileno` is not readable.
        paused: How often connections had to wait for free descriptors.
    """

    def __init__(self, routers: Iterable[tuple[zmq.Socket[bytes], str]]) -> None:
        self._ready = select.epoll()
        self._listeners: list[Listener] = []
        self._monitors: dict[zmq.Socket[bytes], zmq.Socket[bytes]] = {}
        self._watched: dict[int, Listener] = {}
        self._others: list[Callable[[], float]] = []
        self.due = inf
        self._reap_at = inf
        self._reap_gap = REAP_S
        self.paused = 0
        for router, path in routers:
            self._add(router, path)
        self.turn()

    def add(self, router: zmq.Socket[bytes], path: str, uid: int = -1, mode: int = PRIVATE) -> None:
        """Add a listener for one user alone, or for those that its mode lets in."""
        self._add(router, path, uid, mode)
        self.turn()

    def _add(
        self, router: zmq.Socket[bytes], path: str, uid: int = -1, mode: int = PRIVATE
    ) -> None:
        listener = ZmqListener(router, path, uid, mode)
        events = zmq.EVENT_ACCEPTED | (zmq.EVENT_DISCONNECTED if listener.is_counted else 0)
        monitor = router.get_monitor_socket(events)
        self._monitors[router] = monitor
        self._ready.register(int(monitor.get(zmq.FD)), select.EPOLLIN)
        self._listeners.append(listener)

    def add_other(self, fds: Iterable[int], turn: Callable[[], float]) -> None:
        """Have `turn` called, with that of this set, when a descriptor is readable; it returns when
        to call it at the latest."""
        for fd in fds:
            self._ready.register(fd, select.EPOLLIN)
        self._others.append(turn)

    def add_listener(self, listener: Listener) -> None:
        """Add a listener that needs no ROUTER of libzmq."""
        self._listeners.append(listener)
        self.turn()

    def look_soon(self) -> None:
        """Have `turn` called: a connection has ended."""
        self.due = 0.0

    def remove(self, owner: object) -> None:
        """Remove a listener whose user's sockets could not all be created."""
        for listener in [one for one in self._listeners if one.owner is owner]:
            self._unwatch(listener)
            self._listeners.remove(listener)
            listener.unlink()
            listener.close()
            if isinstance(listener, ZmqListener):
                monitor = self._monitors.pop(listener.socket)
                self._ready.unregister(int(monitor.get(zmq.FD)))
                monitor.close()

    def restore(self) -> list[str]:
        """Bind anew what was removed from its path; return the paths.

        Raises:
            OSError: A socket cannot be bound now.
        """
        lost = [listener for listener in self._listeners if not listener.is_at_path()]
        for listener in lost:
            self._unwatch(listener)
            try:
                listener.restore()
            finally:
                if listener.front is not None:
                    self._watch(listener)
        if lost:
            self.turn()
        return [listener.path for listener in lost]

    def unlink(self) -> None:
        """Remove the sockets from their paths, apart from those of other processes."""
        for listener in self._listeners:
            listener.unlink()

    def fileno(self) -> int:
        """Return a descriptor that is readable when `turn` has something to do."""
        return self._ready.fileno()

    def turn(self) -> None:
        """Accept the connections for which there is room."""
        now = time.monotonic()
        self._read_monitors()
        self.due = inf
        if now >= self._reap_at:
            self._reap()
        for listener in self._listeners:
            self._adjust(listener, now)
        if any(listener.former for listener in self._listeners):
            self.due = min(self.due, self._reap_at)
        else:
            self._reap_at = inf
        self.due = min(self.due, *(other() for other in self._others), inf)  # after what came

    def _read_monitors(self) -> None:
        """Read libzmq's events. They wake this process to count, and count other users' own."""
        for listener in self._listeners:
            if not isinstance(listener, ZmqListener):
                continue
            monitor = self._monitors[listener.socket]
            while int(monitor.get(zmq.EVENTS)) & zmq.POLLIN:
                frame = monitor.recv_multipart(zmq.NOBLOCK)[0]
                if listener.is_counted:
                    event, fd = EVENT.unpack(frame)
                    if event == zmq.EVENT_ACCEPTED:
                        listener.connections.add(fd)
                    else:
                        listener.connections.discard(fd)

    def _adjust(self, listener: Listener, now: float) -> None:
        free = free_descriptors()
        promised = sum(one.promised() for one in self._listeners)
        crowded = listener.is_counted and listener.count >= connections_most()
        if crowded:  # until a connection closes, which the monitor reports
            self._unwatch(listener)
            return
        assert listener.front is not None
        if not _has_pending(listener.front.fileno()):
            self._watch(listener)
            return
        self._unwatch(listener)
        if has_room(free, promised, listener.backlog):
            listener.accept_batch()
            self._watch(listener)
            self._reap_gap = REAP_S
            self._reap_at = min(self._reap_at, now + REAP_S)
        else:
            self.paused += 1
            self.due = min(self.due, now + RETRY_S)

    def _watch(self, listener: Listener) -> None:
        assert listener.front is not None
        fd = listener.front.fileno()
        if fd not in self._watched:
            self._ready.register(fd, select.EPOLLIN)
            self._watched[fd] = listener

    def _unwatch(self, listener: Listener) -> None:
        """Stop waking up for waiting connections: a full backlog is readable all the time."""
        for fd in [fd for fd, watched in self._watched.items() if watched is listener]:
            self._ready.unregister(fd)
            del self._watched[fd]

    def _reap(self) -> None:
        began = time.monotonic()
        in_use = _names({fd for listener in self._listeners for fd in listener.listening})
        found = [listener.reap(in_use) for listener in self._listeners]
        now = time.monotonic()
        # Long-lived connections keep their listeners: look less and less often, until one closes.
        self._reap_gap = REAP_S if any(found) else min(2 * self._reap_gap, REAP_MOST_S)
        self._reap_at = now + max(self._reap_gap, 100 * (now - began))

    def close(self) -> None:
        """Close what is open, apart from the ROUTERs."""
        self._ready.close()
        for listener in self._listeners:
            listener.close()
        for monitor in self._monitors.values():
            monitor.close()


def _has_pending(listener: int) -> bool:
    """Return True if a connection waits to be accepted."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    return bool(poll.poll(0))


def _names(listening: set[int]) -> set[str]:
    """Return the names of the listening sockets that this process's connections came through.

    Read from each descriptor: /proc/net/unix omits lines while other sockets open and close.
    """
    names: set[str] = set()
    for fd in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208
        if fd in listening:
            continue
        try:
            one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fd)
        except OSError:  # no socket, or closed meanwhile
            continue
        try:
            if isinstance(name := one.getsockname(), str):
                names.add(name)
        except OSError:
            pass
        finally:
            one.detach()  # the descriptor belongs to libzmq, or to another object
    return names
