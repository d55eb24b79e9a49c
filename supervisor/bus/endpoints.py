"""The supervisor's ROUTER sockets: a pair for its own user, for each other user, and for nodes.

The sockets of another user belong to that user by owner and mode, and only incarnations that run as
that user have an address there. So the kernel has verified the sender before a message is read. An
address is known to one ROUTER alone, so no peer at another ROUTER can receive what is sent to it.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

import zmq

from garrison.ipc import socket_paths, sockets
from garrison.ipc.listeners import ListenerSet
from garrison.ipc.messages import Token
from garrison.supervisor.config.host_spec import HostSpec
from garrison.supervisor.state.home import grant_access, grant_passage

from .stream_listener import StreamListener
from .streams import StreamRouter, Streams

if TYPE_CHECKING:
    from .node_endpoints import NodeEndpoints, RemotePaths

USERS = re.compile(r"[bc]\d+\.sock(\.\d+)?")  # names of sockets, see `socket_paths.control_path`
USERS_MOST = 250
FORMER = 256  # addresses of ended incarnations whose late messages are not logged
SOCKETS_MOST = 4 * 1024  # of libzmq, which counts the monitor of a listener as two

ZmqRouter: TypeAlias = "zmq.Socket[bytes]"
BusRouters: TypeAlias = "RouterSet[ZmqRouter | StreamRouter]"
_Router = TypeVar("_Router")


class RouterSet(Generic[_Router]):
    """The ROUTERs of one plane, and which of them each address belongs to.

    Args:
        own: The ROUTER of the supervisor's own user.

    Attributes:
        own: The same.
        all: All ROUTERs.
        router_of: The ROUTER of an address, where that is not `own`.
        operators: The ROUTER of other users who may give some orders; None: there are none.
        remote: The ROUTER of workers on nodes; None: there are no nodes.
        forgotten: Called with each address that was removed.
    """

    def __init__(self, own: _Router) -> None:
        self.own = own
        self.all: tuple[_Router, ...] = (own,)
        self._users: dict[int, _Router] = {}
        self.router_of: dict[Token, _Router] = {}
        self.operators: _Router | None = None
        self.remote: _Router | None = None
        self.forgotten: Callable[[Token], None] = lambda token: None
        self._former: deque[Token] = deque(maxlen=FORMER)

    def add(self, uid: int, router: _Router) -> None:
        """Add another user's ROUTER."""
        self._users[uid] = router
        self.all = (*self.all, router)

    def add_operators(self, router: _Router) -> None:
        """Add the ROUTER of other users who may give some orders."""
        self.operators = router
        self.all = (*self.all, router)

    def add_remote(self, router: _Router) -> None:
        """Add the ROUTER of workers on nodes."""
        self.remote = router
        self.all = (*self.all, router)

    def admit(self, token: Token, uid: int) -> None:
        """Assign an address to a user's ROUTER, which was added before."""
        self.router_of[token] = self._users[uid]

    def admit_remote(self, token: Token) -> None:
        """Assign an address to the ROUTER of nodes, which was added before."""
        assert self.remote is not None
        self.router_of[token] = self.remote

    def is_remote(self, token: Token) -> bool:
        """Return whether an address belongs to a worker on a node."""
        return self.remote is not None and self.router_of.get(token) is self.remote

    def forget(self, token: Token) -> None:
        """Remove an address: later messages from it are rejected."""
        if self.router_of.pop(token, None) is not None:
            self._former.append(token)
            self.forgotten(token)

    def at(self, token: Token) -> _Router:
        """Return the ROUTER of an address."""
        if self.operators is not None and socket_paths.is_operator_token(token):
            return self.operators
        return self.router_of.get(token, self.own)

    def is_former(self, token: Token) -> bool:
        """Return True for an address that was removed lately: a late message from it is normal."""
        return token in self._former

    def owns_address(self, token: Token, router: _Router) -> bool:
        """Return True if a message from an address may come through a ROUTER.

        The supervisor's own ROUTER is trusted: its user, and root, can do anything here.
        """
        if router is self.operators:
            return socket_paths.is_operator_token(token)
        return router is self.own or self.router_of.get(token) is router


class Endpoints:
    """All ROUTERs of this host.

    Args:
        context: Of the sockets.
        host: The host, whose home is locked.
        control_bytes: The largest frame of the control plane.
    """

    def __init__(
        self, context: "zmq.Context[zmq.Socket[bytes]]", host: HostSpec, control_bytes: int
    ) -> None:
        self._context, self._host, self._control_bytes = context, host, control_bytes
        context.set(zmq.MAX_SOCKETS, SOCKETS_MOST)
        for stale in host.run.glob("[bc][0-9]*.sock*"):
            if USERS.fullmatch(stale.name):  # of a former supervisor; created again when needed
                stale.unlink(missing_ok=True)
        Path(socket_paths.operators_path(host.run)).unlink(missing_ok=True)  # likewise
        self._uids: set[int] = set()
        self.nodes: NodeEndpoints | None = None
        self.operators = False
        self.streams = Streams()
        bus = StreamRouter(self.streams, host.max_message)
        self.control = RouterSet[ZmqRouter](sockets.router(context, control_bytes))
        self.bus: BusRouters = RouterSet(bus)
        control = socket_paths.control_path(host.run)
        self.listeners = ListenerSet([(self.control.own, control)])
        self._listen(bus, socket_paths.bus_path(host.run))
        self.listeners.add_other([], self.streams.end_late)

    def open_nodes(self, record: Callable[..., Any]) -> None:
        """Create the sockets for other machines.

        Args:
            record: Records an event.

        Raises:
            GarrisonError: They cannot be created.
        """
        from .node_endpoints import NodeEndpoints  # not loaded by a host of one machine

        self.nodes = nodes = NodeEndpoints(self._context, self._host, self._control_bytes, record)
        self.control.add_remote(nodes.control)
        self.bus.add_remote(nodes.bus)
        self.control.forgotten = nodes.forget
        self.listeners.add_other([nodes.zap.fileno()], nodes.zap.turn)
        self.listeners.add_other(nodes.listeners.filenos(), nodes.listeners.turn)

    def admit_remote(self, token: Token) -> "RemotePaths":
        """Give an incarnation on a node an address; return what it needs to connect."""
        assert self.nodes is not None
        self.control.admit_remote(token)
        self.bus.admit_remote(token)
        return self.nodes.admit(token)

    def __len__(self) -> int:
        """Return the number of users besides the supervisor's own."""
        return len(self._uids)

    def open_operators(self, uids: Iterable[int], gids: Iterable[int]) -> None:
        """Create the socket of the users who may give some orders, and let them reach it.

        Raises:
            OSError: It cannot be created.
        """
        self.operators = True
        grant_passage(self._host)
        router = sockets.operators_router(self._context, uids, gids)
        try:
            path = socket_paths.operators_path(self._host.run)
            self.listeners.add(router, path, mode=sockets.OPERATORS_MODE)
        except BaseException:
            self.listeners.remove(router)
            router.close(linger=0)
            raise
        self.control.add_operators(router)

    def restore_access(self) -> None:
        """Let other users reach their sockets again, in folders that were made anew."""
        if self._uids:
            grant_access(self._host)
        if self.operators:
            grant_passage(self._host)

    def admit(self, token: Token, uid: int) -> None:
        """Give an incarnation an address at its user's ROUTERs; a negative uid is our own user.

        Raises:
            OSError: The sockets of that user cannot be created.
        """
        if uid < 0:
            return
        self._open(uid)
        self.control.admit(token, uid)
        self.bus.admit(token, uid)

    def paths(self, uid: int) -> tuple[str, str]:
        """Return the paths of the control plane's and the bus's socket for a user's workers."""
        run = self._host.run
        return socket_paths.control_path(run, uid), socket_paths.bus_path(run, uid)

    def _open(self, uid: int) -> None:
        if uid in self._uids:
            return
        if len(self._uids) >= USERS_MOST:
            raise OSError(f"{USERS_MOST} users have sockets already, which is the maximum")
        grant_access(self._host)
        control_path, bus_path = self.paths(uid)
        control = sockets.router(self._context, self._control_bytes, uid)
        bus = StreamRouter(self.streams, self._host.max_message, uid)
        try:
            self.listeners.add(control, control_path, uid)
            self._listen(bus, bus_path, uid)
        except BaseException:
            self.listeners.remove(control)
            self.listeners.remove(bus)
            control.close(linger=0)
            raise
        self.control.add(uid, control)
        self.bus.add(uid, bus)
        self._uids.add(uid)

    def _listen(self, router: StreamRouter, path: str, uid: int = -1) -> None:
        listener = StreamListener(router, path, self.listeners.look_soon, uid)
        self.listeners.add_listener(listener)

    def close(self) -> None:
        """Close all sockets; their files stay."""
        self.listeners.close()
        if self.nodes is not None:
            self.nodes.close()
        for plane in (self.control, self.bus):
            for router in plane.all:
                router.close()
        self.streams.close()

    def unlink(self) -> None:
        """Remove the sockets' files, apart from those of other processes."""
        self.listeners.unlink()
        if self.nodes is not None:
            self.nodes.file.unlink(missing_ok=True)
