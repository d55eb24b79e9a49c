"""The ways in to this host: a pair of ROUTERs for its own user, and one more for each other user
that a service runs as.

Another user's sockets are that user's alone, by their owner and mode, and only the incarnations
that run as that user speak through them. So whose word a message is, the kernel has settled before
it is read; and since an address is known to one ROUTER alone, nobody can wait at another ROUTER for
what is sent to it.
"""

import contextlib
import os
import re
from collections import deque

import zmq

from garrison.ipc import sockets
from garrison.ipc.messages import Token
from garrison.supervisor.config.spec import HostSpec
from garrison.supervisor.state.home import grant_access

from .listeners import ListenerSet

USERS = re.compile(r"[bc]\d+\.sock(\.\d+)?")  # sockets' names, see `sockets.control_path`
USERS_MOST = 250
FORMER = 256  # addresses of those who have ended, whose last messages are no reason for a warning
SOCKETS_MOST = 4 * 1024  # of libzmq, which counts a gate's monitor as two


class RouterSet:
    """The ROUTERs of one plane, and which of them an address is at.

    Args:
        own: That of the host's own user.

    Attributes:
        own: The same.
        all: It and the others.
        of: Which one an address is at, where that is not `own`; for who reads it often.
    """

    def __init__(self, own: "zmq.Socket[bytes]") -> None:
        self.own = own
        self.all: tuple[zmq.Socket[bytes], ...] = (own,)
        self._users: dict[int, zmq.Socket[bytes]] = {}
        self.of: dict[Token, zmq.Socket[bytes]] = {}
        self._former: deque[Token] = deque(maxlen=FORMER)

    def add(self, uid: int, router: "zmq.Socket[bytes]") -> None:
        """Take in another user's ROUTER."""
        self._users[uid] = router
        self.all = (*self.all, router)

    def admit(self, token: Token, uid: int) -> None:
        """Have an address be at a user's ROUTER, whose way is open."""
        self.of[token] = self._users[uid]

    def forget(self, token: Token) -> None:
        """Have nobody there speak under an address any more."""
        if self.of.pop(token, None) is not None:
            self._former.append(token)

    def at(self, token: Token) -> "zmq.Socket[bytes]":
        """Return the ROUTER that an address is at."""
        return self.of.get(token, self.own)

    def was_here(self, token: Token) -> bool:
        """Tell whether an address was somebody's lately: what that still sent is ordinary."""
        return token in self._former

    def speaks(self, token: Token, router: "zmq.Socket[bytes]") -> bool:
        """Tell whether an address may be spoken under at a ROUTER: at its own one. What comes by
        the host's own user is believed: who is that user, or root, can do anything here."""
        return router is self.own or self.of.get(token) is router


class Endpoints:
    """Every ROUTER of this host.

    Args:
        context: Of the sockets.
        host: Whose they are; its home's lock is held.
        control_bytes: The largest frame of the control plane.
    """

    def __init__(
        self, context: "zmq.Context[zmq.Socket[bytes]]", host: HostSpec, control_bytes: int
    ) -> None:
        self._context, self._host, self._control_bytes = context, host, control_bytes
        context.set(zmq.MAX_SOCKETS, SOCKETS_MOST)
        for stale in host.run.glob("[bc][0-9]*.sock*"):
            if USERS.fullmatch(stale.name):  # a former supervisor's; those in need are made anew
                stale.unlink(missing_ok=True)
        self._uids: set[int] = set()
        self.control = RouterSet(sockets.router(context, control_bytes))
        self.bus = RouterSet(sockets.router(context, host.max_message))
        control, bus = sockets.control_path(host.run), sockets.bus_path(host.run)
        self.gates = ListenerSet([(self.control.own, control), (self.bus.own, bus)])

    def __len__(self) -> int:
        """Return how many users there are besides the host's own."""
        return len(self._uids)

    def admit(self, token: Token, uid: int) -> None:
        """Let an incarnation in that runs as a user; a negative one is the host's own.

        Raises:
            OSError: That user cannot be let in.
        """
        if uid < 0:
            return
        self._open(uid)
        self.control.admit(token, uid)
        self.bus.admit(token, uid)

    def paths(self, uid: int) -> tuple[str, str]:
        """Return where a user's workers find control plane and bus."""
        run = self._host.run
        return sockets.control_path(run, uid), sockets.bus_path(run, uid)

    def _open(self, uid: int) -> None:
        if uid in self._uids:
            return
        if len(self._uids) >= USERS_MOST:
            raise OSError(f"{USERS_MOST} users are let in already")
        grant_access(self._host)
        planes = (self.control, self.bus)
        limits = (self._control_bytes, self._host.max_message)
        made: list[zmq.Socket[bytes]] = []
        try:
            for path, most in zip(self.paths(uid), limits, strict=True):
                router = sockets.router(self._context, most, uid)
                made.append(router)
                self.gates.add(router, path, uid)
        except BaseException:
            for router in made:
                self.gates.remove(router)
                router.close(linger=0)
            self._unlink(uid)
            raise
        for plane, router in zip(planes, made, strict=True):
            plane.add(uid, router)
        self._uids.add(uid)

    def close(self) -> None:
        """Close everything; the sockets' files stay."""
        self.gates.close()
        for plane in (self.control, self.bus):
            for router in plane.all:
                router.close()

    def unlink(self) -> None:
        """Take the sockets' files away."""
        for uid in (-1, *self._uids):
            self._unlink(uid)

    def _unlink(self, uid: int) -> None:
        for path in self.paths(uid):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108
