"""Who may connect, by how many descriptors are free: libzmq aborts when an accept finds none.

The listening sockets are made here and given to libzmq. While descriptors are plenty, the one at
the path is libzmq's, which accepts from it as fast as others connect. Where they are few, the one
at the path is nobody's: its backlog fills and the kernel holds back who comes after that. Once
there is room for a whole backlog, another one takes its place at the path, by a rename, and the
full one is given away: nobody can connect to it any more, so that no more can be accepted from it
than were counted. Its connections are libzmq's children: it is taken back when they are gone.
"""

import os
import resource
import select
import socket
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TypeAlias

import zmq

PLENTY = 1024  # free descriptors; an accept takes 30 µs, so that many last longer than any turn
KEPT = 32  # descriptors for what this process opens itself: pidfds, files, a launcher's socket
BACKLOG = 8  # connections that wait while descriptors are few; the kernel takes one more
RACING = 4  # may have found the old listener just before another took its place
WIDE_BACKLOG = 128  # connections that wait while descriptors are plenty
RETRY_S = 0.02  # until a look whether there is room again
REAP_S = 0.5  # until a look whether listeners have lost their last connection
NAMES = 100_000  # of listeners, then from the first
CONNECTIONS = 512  # of another user at one way in; or an eighth of all descriptors, where few
EVENT = struct.Struct("=HI")  # of libzmq's monitors: what happened, to which descriptor


def room(free: int, promised: int) -> bool:
    """Tell whether a whole backlog may be accepted.

    Args:
        free: Descriptors that this process may still open.
        promised: Those that will be taken by connections given away already.
    """
    batch = BACKLOG + 1 + RACING
    return free - promised - 1 >= KEPT + batch  # the next listener takes one


def connections_most() -> int:
    """Return how many connections another user may have at one way in."""
    return min(CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 8)


def free_descriptors() -> int:
    """Return how many descriptors this process may still open."""
    taken = os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))  # noqa: PTH116, PTH208
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] - taken


ListenSocket: TypeAlias = socket.socket


@dataclass(slots=True)
class HandedToZmq:
    """A listener that libzmq has."""

    name: str  # the path that it was bound to
    fd: int
    endpoint: str  # as libzmq calls it
    most: int  # connections that may wait in it, once nobody can find it any more
    drained: bool = False  # nobody waits in it, and nobody can find it
    seen_empty: bool = False  # nor has it a connection, as far as the last look could tell


class Listener:
    """The way in to one ROUTER.

    Args:
        socket: Not bound; this gate binds it.
        path: Where others connect; the home's lock is held by now.
        uid: The only user who can, besides root; negative: the host's own.
    """

    def __init__(self, socket: zmq.Socket[bytes], path: str, uid: int = -1) -> None:
        self.socket = socket
        self._path = path
        self.uid = uid
        self.connections: set[int] = set()  # of another user: descriptors, as libzmq tells of them
        self._number = 0
        self._given: list[HandedToZmq] = []
        self.front: ListenSocket | None = None  # at the path and nobody's
        self.open = False  # what is at the path is libzmq's
        for stale in Path(path).parent.glob(f"{Path(path).name}.*"):
            stale.unlink(missing_ok=True)  # of one that was killed in the middle of `_put_front`
        self._put_front()

    def _put_front(self) -> None:
        """Put a new listener at the path; nobody finds the former one from here on."""
        taken = {given.name for given in self._given}
        while (name := f"{self._path}.{self._number % NAMES}") in taken:
            self._number += 1
        self._number += 1
        Path(name).unlink(missing_ok=True)
        front = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            front.bind(name)
            Path(name).chmod(0o600)
            if self.uid >= 0:
                os.chown(name, self.uid, -1)
            front.listen(BACKLOG)  # until here nobody can connect
            Path(name).rename(self._path)
        except BaseException:
            front.close()
            Path(name).unlink(missing_ok=True)
            raise
        self.front, self.open = front, False

    def _give(self, front: ListenSocket, backlog: int) -> None:
        """Let libzmq accept from a listener."""
        name, fd = front.getsockname(), front.detach()
        self.socket.set(zmq.USE_FD, fd)
        self.socket.bind(f"ipc://{self._path}")
        endpoint = str(self.socket.get_string(zmq.LAST_ENDPOINT))
        self._given.append(HandedToZmq(name, fd, endpoint, backlog + 1 + RACING))

    def let_all_in(self) -> None:
        """Give away what is at the path, and leave it there."""
        assert self.front is not None
        self.front.listen(WIDE_BACKLOG)
        self._give(self.front, WIDE_BACKLOG)
        self.front, self.open = None, True

    def hold_back(self) -> None:
        """Put a listener at the path that nobody accepts from."""
        self._put_front()

    def let_in(self) -> None:
        """Give away those who wait, and have the next ones wait."""
        former = self.front
        assert former is not None
        self._put_front()
        self._give(former, BACKLOG)

    @property
    def listening(self) -> set[int]:
        """Return the descriptors of this gate's listeners."""
        front = {self.front.fileno()} if self.front is not None else set[int]()
        return {given.fd for given in self._given} | front

    @property
    def former(self) -> list[HandedToZmq]:
        """Return libzmq's listeners that nobody can find any more."""
        return self._given[:-1] if self.open else self._given

    def promised(self) -> int:
        """Return how many connections at most are yet to be accepted, of those given away."""
        for given in self.former:
            given.drained = given.drained or not _somebody_waits(given.fd)
        return sum(given.most for given in self.former if not given.drained)

    def reap(self, in_use: set[str]) -> None:
        """Take those listeners back that have had no connection at the last look either."""
        for given in list(self.former):
            if not given.drained or given.name in in_use:
                given.seen_empty = False
            elif given.seen_empty:
                self._given.remove(given)
                self.socket.unbind(given.endpoint)
            else:  # one that is accepted just now may have no descriptor yet
                given.seen_empty = True

    def close(self) -> None:
        """Close what libzmq has not."""
        if self.front is not None:
            self.front.close()
            self.front = None


class ListenerSet:
    """Every way in to this host.

    Args:
        ways: Each ROUTER and its path.
    """

    def __init__(self, ways: Iterable[tuple[zmq.Socket[bytes], str]]) -> None:
        self._ready = select.epoll()
        self._gates: list[Listener] = []
        self._monitors: dict[zmq.Socket[bytes], zmq.Socket[bytes]] = {}
        self._watched: dict[int, Listener] = {}
        self.due = inf  # when `turn` has something to do though nothing is ready
        self._reap_at = inf
        self.held_back = 0  # how often there was no room
        for router, path in ways:
            self._add(router, path, -1)
        self.turn()

    def add(self, router: zmq.Socket[bytes], path: str, uid: int) -> None:
        """Open one more way in, for one user alone."""
        self._add(router, path, uid)
        self.turn()

    def _add(self, router: zmq.Socket[bytes], path: str, uid: int) -> None:
        gate = Listener(router, path, uid)
        events = zmq.EVENT_ACCEPTED | (zmq.EVENT_DISCONNECTED if uid >= 0 else 0)
        monitor = router.get_monitor_socket(events)
        self._monitors[router] = monitor
        self._ready.register(int(monitor.get(zmq.FD)), select.EPOLLIN)
        self._gates.append(gate)

    def remove(self, router: zmq.Socket[bytes]) -> None:
        """Take back a way that could not be opened as a whole."""
        for gate in [gate for gate in self._gates if gate.socket is router]:
            self._unwatch(gate)
            self._gates.remove(gate)
            gate.close()
            monitor = self._monitors.pop(router)
            self._ready.unregister(int(monitor.get(zmq.FD)))
            monitor.close()

    def fileno(self) -> int:
        """Return what is readable when `turn` has something to do."""
        return self._ready.fileno()

    def turn(self) -> None:
        """Let in whom there is room for."""
        now = time.monotonic()
        self._hear()
        self.due = inf
        if now >= self._reap_at:
            self._reap()
        for gate in self._gates:
            self._see_to(gate, now)
        if any(gate.former for gate in self._gates):
            if self._reap_at == inf:
                self._reap_at = now + REAP_S
            self.due = min(self.due, self._reap_at)
        else:
            self._reap_at = inf

    def _hear(self) -> None:
        """Read that somebody was accepted: it is time to count. Another user's are counted here."""
        for gate in self._gates:
            monitor = self._monitors[gate.socket]
            while int(monitor.get(zmq.EVENTS)) & zmq.POLLIN:
                said = monitor.recv_multipart(zmq.NOBLOCK)[0]
                if gate.uid >= 0:
                    event, fd = EVENT.unpack(said)
                    came = event == zmq.EVENT_ACCEPTED
                    (gate.connections.add if came else gate.connections.discard)(fd)

    def _see_to(self, gate: Listener, now: float) -> None:
        free = free_descriptors()
        promised = sum(gate.promised() for gate in self._gates)
        crowded = gate.uid >= 0 and len(gate.connections) >= connections_most()
        if gate.open:
            if crowded or free - promised < PLENTY:
                gate.hold_back()
                self._watch(gate)
            return
        if crowded:  # until one of them ends, which the monitor tells
            self._unwatch(gate)
            return
        if free - promised >= 2 * PLENTY:
            self._unwatch(gate)
            gate.let_all_in()
            return
        assert gate.front is not None
        if not _somebody_waits(gate.front.fileno()):
            self._watch(gate)
            return
        self._unwatch(gate)
        if room(free, promised):
            gate.let_in()
            self._watch(gate)
        else:
            self.held_back += 1
            self.due = min(self.due, now + RETRY_S)

    def _watch(self, gate: Listener) -> None:
        assert gate.front is not None
        fd = gate.front.fileno()
        if fd not in self._watched:
            self._ready.register(fd, select.EPOLLIN)
            self._watched[fd] = gate

    def _unwatch(self, gate: Listener) -> None:
        """Wake no more for who waits: a full backlog is readable all the time."""
        for fd in [fd for fd, watched in self._watched.items() if watched is gate]:
            self._ready.unregister(fd)
            del self._watched[fd]

    def _reap(self) -> None:
        began = time.monotonic()
        in_use = _names({fd for gate in self._gates for fd in gate.listening})
        for gate in self._gates:
            gate.reap(in_use)
        now = time.monotonic()
        self._reap_at = now + max(REAP_S, 100 * (now - began))

    def close(self) -> None:
        """Close what is open; the ROUTERs are closed by whoever made them."""
        self._ready.close()
        for gate in self._gates:
            gate.close()
        for monitor in self._monitors.values():
            monitor.close()


def _somebody_waits(listener: int) -> bool:
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    return bool(poll.poll(0))


def _names(listening: set[int]) -> set[str]:
    """Return the names of those listeners that this process's connections have come in through.

    Asked of each descriptor: /proc/net/unix leaves lines out while others open and close theirs.
    """
    names: set[str] = set()
    for fd in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208
        if fd in listening:
            continue
        try:
            one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fd)
        except OSError:  # no socket, or closed by now
            continue
        try:
            if isinstance(name := one.getsockname(), str):
                names.add(name)
        except OSError:
            pass
        finally:
            one.detach()  # it is libzmq's, or another's
    return names
