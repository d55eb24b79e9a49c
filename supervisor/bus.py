"""The data plane's ROUTER: carries batches, hands back what cannot be delivered, tells of ends."""

import time
from collections import deque
from collections.abc import Callable

import zmq

from garrison.ipc import sockets
from garrison.ipc.messages import FULL, GONE, SUPERVISOR, Ended, Token, encode

from .routes import Frames, Pairs, route

TURN_S = 0.002  # of one turn, so that deaths and orders are heard under any flood
SETTLE_S = 0.001  # after a death: what it still sent is read by then, if the bus falls silent
DEPARTED = 256  # former members whose last messages are no reason for a warning
TELL_BY_S = 0.015  # after a death: its end is told by then, whatever the bus does


class Bus:
    """The ROUTER of `bus.sock` and who may speak on it.

    Args:
        socket: Bound.
        refuse: Told of each message that is none of ours, in words.
    """

    def __init__(self, socket: zmq.Socket[bytes], refuse: Callable[[str], None]) -> None:
        self.socket = socket
        self._refuse = refuse
        self.live: set[Token] = set()
        self.connected: set[Token] = set()
        self.carried = 0
        self.pairs = Pairs()
        self._departed: deque[Token] = deque(maxlen=DEPARTED)
        self._dying: dict[Token, tuple[float, str]] = {}  # since when, and the cause once known
        self._silent_at = 0.0  # when the bus was last seen empty

    def admit(self, token: Token) -> None:
        """Let a member speak and be spoken to."""
        self.live.add(token)

    @property
    def settling(self) -> bool:
        """Tell whether an end waits to be told."""
        return bool(self._dying)

    def turn(self) -> set[Token]:
        """Carry what has come, for a bounded time; return who is newly connected."""
        new: set[Token] = set()
        until = time.monotonic() + TURN_S
        while True:
            try:
                frames = sockets.receive(self.socket)
            except zmq.Again:
                self._silent_at = time.monotonic()
                break
            if len(frames) == 2 and not frames[1]:
                new.add(frames[0])
            else:
                self._pass_on(frames)
            if time.monotonic() >= until:
                break
        if new:
            self.connected |= new & self.live
        return new

    def _pass_on(self, frames: Frames) -> None:
        source = frames[0]
        onward = route(frames, self.live)
        if onward is None:
            if source in self.live:
                self._refuse(f"{len(frames)} frames")
            elif source not in self._departed:  # what a former member still sent is ordinary
                self._refuse("a stranger on the bus")
            return
        if onward[1] is not GONE:
            self.pairs.count(source, onward[0])
        self._carry(onward)

    def _carry(self, frames: Frames) -> None:
        """Send without waiting; what finds no room or nobody goes back to its sender."""
        try:
            sockets.send(self.socket, frames)
        except zmq.ZMQError as error:
            if error.errno not in {zmq.EAGAIN, zmq.EHOSTUNREACH}:
                raise
            destination, source, batch = frames[:3]
            if source not in {GONE, FULL, SUPERVISOR}:
                why = FULL if error.errno == zmq.EAGAIN else GONE
                self._carry([source, why, destination, batch])
        else:
            self.carried += 1

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
        notice = encode([Ended(token, cause)])
        for partner in self.pairs.forget(token):
            if partner in self.live:
                self._carry([partner, SUPERVISOR, notice])
