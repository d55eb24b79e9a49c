"""The data plane's ROUTER: carries batches, hands back what cannot be delivered, tells of ends."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import zmq

from garrison.ipc import sockets
from garrison.ipc.messages import FULL, GONE, SUPERVISOR, Ended, Token, encode
from garrison.ipc.system.idle import IdleTrimmer

from .endpoints import RouterSet
from .routes import Frames, PeerTable, route

TURN_S = 0.002  # of one turn, so that deaths and orders are heard under any flood
SETTLE_S = 0.001  # after a death: what it still sent is read by then, if the bus falls silent
DEPARTED = 256  # former members whose last messages are no reason for a warning
TELL_BY_S = 0.015  # after a death: its end is told by then, whatever the bus does
WAITING_BYTES = 64 * 1024 * 1024  # for one peer that does not read; one larger message may wait
ALL_WAITING_BYTES = 4 * WAITING_BYTES  # for all such peers together
MESSAGE_BYTES = 256  # that a waiting message takes besides its frames: of tiny ones it is the most
AGAIN_S = 0.005  # until a peer that had no room is tried again


class SendQueue:
    """What waits for one peer, in order: libzmq's own queue for it is full."""

    def __init__(self) -> None:
        self.messages: deque[tuple[Any, ...]] = deque()  # of bytes: the collector passes over it
        self.bytes = 0


class BusRouter:
    """The ROUTERs of the bus and who may speak on it.

    Args:
        plane: Bound.
        refuse: Told of each message that is none of ours, in words.
        most: Bytes of one message with all its frames.
    """

    def __init__(self, plane: RouterSet, refuse: Callable[[str], None], most: int) -> None:
        self._plane = plane
        self._most = most
        self._own, self._of = plane.own, plane.of
        self._refuse = refuse
        self.live: set[Token] = set()
        self.connected: set[Token] = set()
        self.carried = 0
        self.pairs = PeerTable()
        self._departed: deque[Token] = deque(maxlen=DEPARTED)
        self._dying: dict[Token, tuple[float, str]] = {}  # since when, and the cause once known
        self._silent_at = 0.0  # when the bus was last seen empty
        self._waiting: dict[Token, SendQueue] = {}
        self.waiting_bytes = 0
        self.quiet = IdleTrimmer()

    def admit(self, token: Token) -> None:
        """Let a member speak and be spoken to."""
        self.live.add(token)

    @property
    def settling(self) -> bool:
        """Tell whether an end waits to be told."""
        return bool(self._dying)

    @property
    def waiting(self) -> bool:
        """Tell whether anybody has no room for what is his."""
        return bool(self._waiting)

    def turn(self) -> set[Token]:
        """Carry what has come, for a bounded time; return who is newly connected."""
        new: set[Token] = set()
        for token in list(self._waiting):
            self._try_again(token)
        until = time.monotonic() + TURN_S
        own = self._own
        while True:
            silent = True
            for socket in self._plane.all:  # one message each, so that none keeps others waiting
                try:
                    frames = sockets.receive_for_forwarding(socket)
                except zmq.Again:
                    continue
                silent = False
                if len(frames) > 3:
                    self.quiet.passed(time.monotonic())
                if socket is not own and not self._plane.speaks(frames[0], socket):
                    if not self._plane.was_here(frames[0]):
                        self._refuse("another user's address on the bus")
                elif len(frames) == 2 and not frames[1]:
                    new.add(frames[0])
                else:
                    self._pass_on(frames)
            if silent:
                self._silent_at = time.monotonic()
                break
            if time.monotonic() >= until:
                break
        if new:
            self.connected |= new & self.live
        return new

    def _pass_on(self, frames: Frames) -> None:
        source = frames[0]
        onward = route(frames, self.live, self._most)
        if onward is None:
            if source in self.live:
                self._refuse(f"{len(frames)} frames with {sum(map(len, frames))} bytes")
            elif source not in self._departed:  # what a former member still sent is ordinary
                self._refuse("a stranger on the bus")
            return
        if onward[1] is not GONE:
            self.pairs.count(source, onward[0])
        self._carry(onward)

    def _carry(self, frames: Frames) -> None:
        """Send without waiting; what finds no room waits within a bound, and what finds none there
        or nobody goes back to its sender."""
        destination = frames[0]
        if destination in self._waiting:
            self._let_wait(frames)
            return
        try:
            sockets.send(self._of.get(destination, self._own), frames)
        except zmq.ZMQError as error:
            if error.errno == zmq.EAGAIN:
                self._let_wait(frames)
            elif error.errno == zmq.EHOSTUNREACH:
                self._hand_back(frames, GONE)
            else:
                raise
        else:
            self.carried += 1

    def _let_wait(self, frames: Frames) -> None:
        size = _size(frames)
        waiting = self._waiting.get(frames[0])
        if waiting is None:
            waiting = self._waiting[frames[0]] = SendQueue()
        fits = waiting.bytes + size <= WAITING_BYTES
        if (not fits and waiting.messages) or self.waiting_bytes + size > ALL_WAITING_BYTES:
            self._hand_back(frames, FULL)
            return
        waiting.messages.append(tuple(frames))
        waiting.bytes += size
        self.waiting_bytes += size

    def _try_again(self, token: Token) -> None:
        waiting = self._waiting[token]
        while waiting.messages:
            frames = waiting.messages[0]
            try:
                sockets.send(self._of.get(token, self._own), frames)
            except zmq.ZMQError as error:
                if error.errno == zmq.EAGAIN:
                    return
                if error.errno != zmq.EHOSTUNREACH:
                    raise
                self._forget_waiting(token)
                for unsent in waiting.messages:
                    self._hand_back(unsent, GONE)
                return
            size = _size(frames)
            waiting.messages.popleft()
            waiting.bytes -= size
            self.waiting_bytes -= size
            self.carried += 1
        del self._waiting[token]

    def _forget_waiting(self, token: Token) -> None:
        waiting = self._waiting.pop(token, None)
        if waiting is not None:
            self.waiting_bytes -= waiting.bytes

    def _hand_back(self, frames: Sequence[Any], why: Token) -> None:
        """Return a message to its sender; what is handed back already goes no further."""
        destination, source, batch = frames[:3]
        if source not in {GONE, FULL, SUPERVISOR}:
            self._carry([source, why, destination, batch])

    # --- ends -------------------------------------------------------------------------------

    def died(self, token: Token) -> None:
        """Note that a member's process ended; it is told once what it sent has been carried."""
        if token in self.live:
            self._dying.setdefault(token, (time.monotonic(), ""))

    def cause(self, token: Token, cause: str) -> None:
        """Note how it ended."""
        if token in self._dying:
            self._dying[token] = (self._dying[token][0], cause)

    def tell_ends(self) -> None:
        """Tell of every end that is ripe: the notice travels behind what the dead still sent."""
        now = time.monotonic()
        for token, (since, cause) in list(self._dying.items()):
            read = self._silent_at >= since + SETTLE_S
            if (read and cause) or now >= since + TELL_BY_S:
                del self._dying[token]
                self.drop(token, cause or "its process ended")

    def drop(self, token: Token, cause: str) -> None:
        """Take a member's address away, and tell everyone whom it concerns."""
        self.live.discard(token)
        self._departed.append(token)
        self.connected.discard(token)
        self._forget_waiting(token)
        notice = encode([Ended(token, cause)])
        for partner in self.pairs.forget(token):
            if partner in self.live:
                self._carry([partner, SUPERVISOR, notice])
        self._plane.forget(token)


def _size(frames: Sequence[Any]) -> int:
    return MESSAGE_BYTES + sum(map(len, frames))
