"""Who has joined: each is told the directory and its changes, over the control plane.

Workers are known by their incarnation's token; programs join by their pid, and leave with it.
"""

import errno
import os
import select
import time
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

import zmq

from garrison.ipc import messages, sockets
from garrison.ipc.directory import accepts_calls
from garrison.ipc.messages import SUPERVISOR, WIRE, WIRES, State, Token, encode
from garrison.supervisor.bus.endpoints import RouterSet

if TYPE_CHECKING:
    from garrison.supervisor.loop import Supervisor

PROGRAMS_MOST = 512
HELD_S = 0.05  # so long a change is held back that no call depends on
EACH_S = 0.0002  # per member: a telling wakes them all, so tellings are no more frequent than that
AHEAD_S = 0.05  # by so much, after some rest: what a lone restart has to tell goes at once
STALE_S = 0.25  # until a member that did not read is tried again
ON_THE_WAY = frozenset({State.QUEUED, State.INITIALIZING, State.STARTING})


class DirectoryPublisher:
    """Everyone who is told of the directory.

    Args:
        host: Whose directory it is.
        control: The control plane.
        left: Told of each program that has left.
    """

    def __init__(
        self, host: "Supervisor", control: RouterSet, left: Callable[[Token], None]
    ) -> None:
        self._host = host
        self._control = control
        self._left = left
        self._programs: dict[Token, int] = {}  # pidfds
        self._dirty: dict[str, None] = {}  # NAMEs whose state is to be told
        self._listed: dict[str, None] = {}  # NAMEs whose whole entry is to be told
        self._stale: set[Token] = set()  # members that missed a change of the directory
        self._tell_at = inf  # when what is held back is told
        self._paid_until = 0.0  # by when the last tellings would have been due at that pace
        self._turned_away = 0
        self._waited_for: dict[str, bool] = {}  # NAME → whether calls to it wait, as was told
        self.leavers = select.epoll()  # every program's pidfd: ready when it ended

    def send(self, token: Token, message: messages.Downward) -> bool:
        """Send to one connection; False where it is gone, or does not read."""
        return self._post(token, encode([message])) == 0

    def _post(self, token: Token, batch: bytes) -> int:
        """Send without waiting; return 0, or why it was not sent."""
        try:
            self._control.at(token).send_multipart([token, SUPERVISOR, batch], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in {zmq.EAGAIN, zmq.EHOSTUNREACH}:
                raise
            return error.errno
        return 0

    # --- coming and going -------------------------------------------------------------------

    def speaks(self, token: Token, wire: int) -> bool:
        """Tell whether a newcomer's version is spoken here; turn it away where it is not."""
        if wire in WIRES:
            return True
        spoken = ", ".join(map(str, sorted(WIRES)))
        self.turn_away(token, f"wire version {wire}; spoken here: {spoken}")
        return False

    def turn_away(self, token: Token, reason: str) -> None:
        """Refuse a newcomer, and write that down."""
        self._turned_away += 1
        if messages.should_log(self._turned_away):
            said, count = token.hex()[:12], self._turned_away
            self._host.journal.record("member.turned_away", token=said, count=count, reason=reason)
        self.send(token, messages.Rejected(reason))

    def join(self, token: Token, wire: int, pid: int) -> bool:
        """Take in a program; it is to be welcomed once the directory is there."""
        if not self.speaks(token, wire):
            return False
        if not sockets.is_token(token):  # one of GONE's name could say what only the router says
            self.turn_away(token, "a member's routing id is a token of 16 bytes")
            return False
        if len(self._programs) >= PROGRAMS_MOST:
            self.turn_away(token, f"{PROGRAMS_MOST} programs are connected already")
            return False
        try:
            pidfd = os.pidfd_open(pid)
        except (OSError, OverflowError) as error:
            full = getattr(error, "errno", 0) in {errno.EMFILE, errno.ENFILE}
            why = "no descriptor is left here" if full else f"there is no process {pid}"
            self.turn_away(token, why)
            return False
        self.leave(token)
        self._programs[token] = pidfd
        self.leavers.register(pidfd, select.EPOLLIN)
        return True

    def has_program(self, token: Token) -> bool:
        """Tell whether a program has joined, and not left."""
        return token in self._programs

    def leave(self, token: Token) -> None:
        """Let a program go."""
        pidfd = self._programs.pop(token, None)
        if pidfd is not None:
            self.leavers.unregister(pidfd)
            os.close(pidfd)
            self._left(token)

    def see_who_left(self) -> None:
        """Let those programs go whose processes have ended."""
        gone = {fd for fd, _ in self.leavers.poll(0)}
        for token in [token for token, pidfd in self._programs.items() if pidfd in gone]:
            self.leave(token)

    def close(self) -> None:
        """Close what is open."""
        for pidfd in self._programs.values():
            os.close(pidfd)
        self.leavers.close()

    # --- the directory ----------------------------------------------------------------------

    def welcome(self, token: Token) -> bool:
        """Tell a member the whole directory."""
        host = self._host
        default = host.config.default_spec
        told = messages.Welcome(
            WIRE,
            host.boot,
            os.getpid(),
            tuple(post.entry() for post in host.roster),
            default.calls.timeout,
            default.calls.window,
            default.calls.window_bytes,
            host.config.host.max_message,
            host.config.host.orphan_grace,
        )
        return self.send(token, told)

    def tell_anew(self, token: Token) -> None:
        """Have a member told the whole directory once more, at the end of the turn."""
        self._stale.add(token)

    def farewell(self) -> None:
        """Tell every program that the supervisor ends for good."""
        for token in self._programs:
            self.send(token, messages.Farewell())

    def changed(self, name: str) -> None:
        """Have everyone told of a service's state, at the end of the turn."""
        self._dirty[name] = None

    def listed(self, name: str) -> None:
        """Have everyone told of a new or altered entry, at the end of the turn."""
        self._listed[name] = None

    def publish(self, at_once: bool = False) -> float:
        """Tell everyone what has changed; return when to be called again, at the latest.

        Args:
            at_once: Whether what could be held back is told as well: somebody is about to be
                answered who may ask for it.
        """
        if not (self._dirty or self._listed or self._stale):
            return inf
        now = time.monotonic()
        if now < self._tell_at and not at_once:
            wait = self._paid_until - AHEAD_S - now if self._is_urgent() else HELD_S
            if wait > 0:
                self._tell_at = min(self._tell_at, now + wait)
                return self._tell_at
        self._tell_at = inf
        posts = self._host.roster.posts
        batch: list[messages.Downward] = [
            messages.Listed(posts[name].entry()) for name in self._listed if name in posts
        ]
        for name in self._dirty:
            if name in posts and name not in self._listed:
                batch.append(posts[name].changed())
        for name in (name for name in (*self._listed, *self._dirty) if name in posts):
            self._waited_for[name] = accepts_calls(posts[name].state, posts[name].child.wanted)
        self._dirty.clear()
        self._listed.clear()
        workers = [
            post.current.token
            for post in posts.values()
            if post.current.welcomed and not post.current.ended
        ]
        encoded = encode(batch)
        for token in [*workers, *self._programs]:
            if token in self._stale:
                if self.welcome(token):
                    self._stale.discard(token)
            elif batch:
                self._tell(token, encoded)
        self._stale &= {*workers, *self._programs}
        cost = min(EACH_S * (len(workers) + len(self._programs)), HELD_S)
        self._paid_until = max(self._paid_until, now) + cost
        return now + STALE_S if self._stale else inf

    def _is_urgent(self) -> bool:
        """Tell whether anyone's calls depend on what is to be told.

        Every member wakes up for a change: on the way to RUNNING they cost more than the start.
        """
        if self._listed or self._stale:
            return True
        posts = self._host.roster.posts
        changed = [posts[name] for name in self._dirty if name in posts]
        return any(
            post.state not in ON_THE_WAY or not self._waited_for.get(post.name) for post in changed
        )

    def _tell(self, token: Token, encoded: bytes) -> None:
        why = self._post(token, encoded)
        if why == zmq.EAGAIN:  # it does not read: tell it the whole once it does
            self._stale.add(token)
        elif why:
            self.leave(token)
