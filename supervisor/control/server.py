"""The control plane's sockets: reads frames, rejects malformed ones, and yields the messages."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple, TypeVar

import msgspec
import zmq

from garrison.ipc import messages, sockets
from garrison.ipc.call_counts import ROWS_MOST
from garrison.ipc.errors import WireError
from garrison.ipc.messages import Token
from garrison.ipc.sockets import EVENTS, POLLIN, UNKNOWN_PEER, Peer
from garrison.supervisor.bus.endpoints import RouterSet, ZmqRouter
from garrison.supervisor.logs.events import EventLog

from .shares import Shares

# Messages that only a peer of the host's own user may send
OWN_USER_ONLY = (messages.Order, messages.Join, messages.Leave)
OPERATORS_SEND = (messages.Order, messages.Leave)  # all that they may send
CONTROL_S = 0.002  # of one turn, for the control plane
SENDER_S, SENDER_RATE = 0.05, 0.1  # of work for one sender at once, then in each second
CONTROL_BYTES = 4 * 1024 * 1024  # of one message
BATCH_MOST = 1000  # messages in one batch
PENDING_MOST = 2 * BATCH_MOST  # messages that were read and not handled: no more are read then
FACTS_MOST = 16  # of one service
COUNTS_MOST = 2 * ROWS_MOST  # rows of calls, and services that calls are awaited of
WARNINGS_MOST = 16  # likewise
WARNING_MOST = 200  # characters
INCIDENTS_MOST, FIELDS_MOST = 32, 8  # of one heartbeat, and fields of each
INCIDENT_MOST = 500  # characters of its reason
REASON_MOST = 4000  # characters of a reason that a worker reports
TRACEBACK_MOST = 100_000

V = TypeVar("V")


class Input(NamedTuple):
    """One message, and whose process has sent it."""

    token: Token
    message: messages.Upward | None  # None: a peer has connected
    peer: Peer = UNKNOWN_PEER


class ControlServer:
    """Reads the control plane.

    Args:
        control: Its sockets.
        log: Where rejected frames are recorded.

    Attributes:
        rejected: How many frames were no message of this host, those of the bus included.
        overdrawn: A sender that the last call of `receive` has served had used more than its share
            of the supervisor's time.
    """

    def __init__(self, control: RouterSet[ZmqRouter], log: EventLog) -> None:
        self._control, self._log = control, log
        self.rejected = 0
        self.overdrawn = False
        self._shares = Shares(SENDER_S, SENDER_RATE)
        self._pending: dict[Token, deque[Input]] = {}  # of each sender; the next one's first
        self._held = 0  # messages in all of them

    @property
    def pending(self) -> int:
        """Return how many messages were read and not yielded yet."""
        return self._held

    def receive(self, seconds: float = CONTROL_S) -> Iterator[Input]:
        """Yield what has arrived, for a bounded time that includes the caller's work.

        Senders take turns, with one message each. The rest is left for the next turn of the loop;
        while that is much, nothing more is read from the sockets.

        Args:
            seconds: The time.
        """
        now = time.monotonic()
        until = now + seconds
        silent = self.overdrawn = False
        while now < until:
            if not silent and self._held < PENDING_MOST:
                silent = not self._read()
            if self._pending:
                token = next(iter(self._pending))
                queue = self._pending.pop(token)
                message = queue.popleft()
                if queue:
                    self._pending[token] = queue  # behind the other senders
                self._held -= 1
                began = time.monotonic()
                yield message
                now = time.monotonic()
                self._note_work(token, now - began, now)
            elif silent:
                return
            else:
                now = time.monotonic()

    def _note_work(self, token: Token, seconds: float, now: float) -> None:
        self.overdrawn |= not self._shares.take(token, seconds, now)

    def _read(self) -> bool:
        """Read one message from each socket, so that none delays the others; return False if no
        message was there."""
        found = False
        for router in self._control.all:
            if int(router.getsockopt(EVENTS)) & POLLIN:
                found = True
                if router is self._control.remote:
                    self._take_remote(router)
                else:
                    frames, peer = sockets.receive_with_peer(router)
                    self._take(frames, router, peer)
        return found

    def _take_remote(self, router: "zmq.Socket[bytes]") -> None:
        """Take a message of a worker on a node, whose key shows which incarnation it is."""
        frames, holder = sockets.receive_with_holder(router)
        if holder == frames[0].hex():
            self._take(frames, router, UNKNOWN_PEER)
        else:
            self.reject("another incarnation's address")

    def _add(self, messages: Sequence[Input]) -> None:
        if messages:
            self._pending.setdefault(messages[0].token, deque()).extend(messages)
            self._held += len(messages)

    def _take(self, frames: list[bytes], router: "zmq.Socket[bytes]", peer: Peer) -> None:
        began = time.monotonic()
        self._read_frames(frames, router, peer)
        now = time.monotonic()
        self._note_work(frames[0], now - began, now)

    def _read_frames(self, frames: list[bytes], router: "zmq.Socket[bytes]", peer: Peer) -> None:
        token, foreign = frames[0], router is not self._control.own
        if foreign and not self._control.owns_address(token, router):
            if not self._control.is_former(token):
                self.reject("another user under an address that is none of its services'")
            return
        if len(frames) == 2 and not frames[1]:  # a probe: a peer has connected
            self._add([Input(token, None, peer)])
            return
        try:
            trusted = (self._control.own, self._control.operators, self._control.remote)
            batch = _decode(frames, router not in trusted)
            if router is self._control.remote:
                _check_remote(batch)
            if router is self._control.operators:
                _check_operator(batch)
        except WireError as error:
            self.reject(str(error))
            return
        self._add([Input(token, bounded(message), peer) for message in batch])

    def reject(self, reason: str) -> None:
        """Count a frame that is no message of this host; the first ones are recorded."""
        self.rejected += 1
        if messages.should_log(self.rejected):
            self._log.record("frame.refused", count=self.rejected, error=reason[:200])


def _decode(frames: list[bytes], foreign: bool) -> list[messages.Upward]:
    if len(frames) != 3:
        raise WireError(f"{len(frames)} frames")
    batch = messages.decode_upward(frames[2])
    if len(batch) > BATCH_MOST:
        raise WireError(f"{len(batch)} messages at once")
    if foreign and any(isinstance(message, OWN_USER_ONLY) for message in batch):
        raise WireError("another user's service that orders, or says it is a program")
    return batch


def _check_remote(batch: list[messages.Upward]) -> None:
    if any(isinstance(message, messages.Join | messages.Leave) for message in batch):
        raise WireError("a worker on a node that says it is a program")


def _check_operator(batch: list[messages.Upward]) -> None:
    if not all(isinstance(message, OPERATORS_SEND) for message in batch):
        raise WireError("an operator that sends something else than orders")


def _bounded_link(link: messages.Link) -> messages.Link:
    return msgspec.structs.replace(
        link, problem=link.problem[:WARNING_MOST], probe_problem=link.probe_problem[:WARNING_MOST]
    )


def bounded(message: messages.Upward) -> messages.Upward:
    """Return a message with its texts and figures cut to what the supervisor keeps."""
    match message:
        case messages.Failing():
            return msgspec.structs.replace(
                message,
                reason=message.reason[:REASON_MOST],
                traceback=message.traceback[-TRACEBACK_MOST:],
            )
        case messages.Stopped(reason):
            return messages.Stopped(reason[:REASON_MOST])
        case messages.Health(problem, took_s):
            return messages.Health(problem[:REASON_MOST], took_s)
        case messages.Beat():
            return _bounded_beat(message)
        case _:
            return message


def _bounded_beat(beat: messages.Beat) -> messages.Beat:
    """Return a heartbeat with what the supervisor keeps of it; most have nothing to be cut."""
    if len(beat.calls) > COUNTS_MOST or len(beat.awaiting) > COUNTS_MOST:
        beat = msgspec.structs.replace(
            beat, calls=beat.calls[:COUNTS_MOST], awaiting=_first(beat.awaiting, COUNTS_MOST)
        )
    if len(beat.facts) > FACTS_MOST or beat.warnings or beat.link:
        lines = tuple(line[:WARNING_MOST] for line in beat.warnings[:WARNINGS_MOST])
        facts, link = _first(beat.facts, FACTS_MOST), beat.link and _bounded_link(beat.link)
        beat = msgspec.structs.replace(beat, facts=facts, warnings=lines, link=link)
    if beat.incidents:
        incidents = tuple(_bounded_incident(one) for one in beat.incidents[:INCIDENTS_MOST])
        beat = msgspec.structs.replace(beat, incidents=incidents)
    return beat


def _bounded_incident(one: messages.Incident) -> messages.Incident:
    data = {key[:40]: value[:WARNING_MOST] for key, value in _first(one.data, FIELDS_MOST).items()}
    reason, service = one.reason[:INCIDENT_MOST], one.service[:WARNING_MOST]
    return messages.Incident(one.n, one.event, reason, service, data)


def _first(values: dict[str, V], most: int) -> dict[str, V]:
    return dict(islice(values.items(), most))
