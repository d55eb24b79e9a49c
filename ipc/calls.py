"""Calls in flight, seen from the caller. Pure: no socket, no clock, no task.

A call leaves the table once: answered, due, cancelled, or lost with the incarnation that it was
sent to. A call that was returned unsent waits for the next incarnation; so does a lost call that is
idempotent, a few times. Times are monotonic seconds, passed in as `now`; sizes are bytes.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from math import inf
from typing import Protocol

from msgspec import Raw

from . import frames as large
from . import messages
from .call_counts import CallCounts
from .call_errors import timeout_error, unavailable
from .call_state import FORMER, QUEUED, UNKNOWN, OpenCall, Outcome, Peer
from .directory import accepts_calls
from .errors import CallError, Overloaded, ServiceLost
from .messages import LONGEST_TIMEOUT, Entry, Token, Value, is_direct
from .tracing import Producer

WAITING_CALLS = 65_536  # to one service; the next call is Overloaded at once
WAITING_WINDOWS = 16  # bytes that may wait for one service, in windows; likewise
OVERLAP_LEAST = 32  # calls in flight to a peer; with fewer, what a turn starts goes as one batch
OVERLAP_STEP = 8  # calls between two looks at what is queued
OVERLAP_PERIOD = 256  # calls after which the usual number in flight is set anew
SENT_AGAIN = 2  # times an idempotent call is sent again: it may be what crashes its callee


class CallObserver(Protocol):
    """Is notified of each call; see `flight_recorder.Recorder`."""

    def started(self, call: OpenCall) -> int:
        """Record a call that this process makes; return its number."""
        ...

    def item(self, number: int, value: Value) -> None:
        """Record the next item of a stream."""

    def settled(self, number: int, outcome: Outcome | None) -> None:
        """Record the outcome of a call; None: it was cancelled."""


class Calls:
    """All calls that this process waits for.

    Args:
        send: Queues a message to an incarnation, and returns at once.
        window: Calls in flight to one service.
        window_bytes: Bytes of their arguments; one larger call may be in flight alone.

    Attributes:
        send_queued: Sends what is queued for an incarnation now, if it is so many messages.
    """

    def __init__(
        self, send: Callable[[Token, messages.Data], None], window: int, window_bytes: int
    ) -> None:
        self._send = send
        self.window = window
        self.window_bytes = window_bytes
        self.send_queued: Callable[[Token, int], object] = lambda to, least: None
        self.observer: CallObserver | None = None
        self.counts: CallCounts | None = None  # of a worker
        self.producer: Producer | None = None  # begins the spans of posted messages
        self._calls: dict[int, OpenCall] = {}
        self._peers: dict[str, Peer] = {}
        self._deadlines: list[tuple[float, int]] = []
        self.direct: dict[Token, Token] = {}  # incarnation → address of the direct route to it
        self._routed = True  # a router can be reached, as far as is known
        self._held: set[Token] = set()  # incarnations whose calls change their way

    def __len__(self) -> int:
        return len(self._calls)

    def report(self) -> tuple[tuple[messages.CallCount, ...], dict[str, int]]:
        """Return the calls that ended since the last report, and how many have not ended, by the
        service's NAME."""
        open_calls = {
            peer.name: number
            for peer in self._peers.values()
            if (number := peer.calls + len(peer.waiting))
        }
        return self.counts.take() if self.counts is not None else (), open_calls

    @property
    def next_deadline(self) -> float:
        """Return the earliest time at which `due` may have something to do."""
        return self._deadlines[0][0] if self._deadlines else inf

    def start(self, call: OpenCall, now: float) -> None:
        """Send a call or let it wait; fail it at once if waiting cannot help."""
        try:
            peer = self._peers[call.name]
        except KeyError:
            peer = self._peer(call.name)
        call.began = now
        if self.observer is not None:
            call.note = self.observer.started(call)
        if not peer.takes:
            self._fail(call, unavailable(peer, call))
            return
        size = call.size
        fits = not peer.waiting and peer.accepts(size, self.window, self.window_bytes)
        if not fits and (
            len(peer.waiting) >= WAITING_CALLS
            or 0 < peer.waiting_bytes > WAITING_WINDOWS * self.window_bytes - size
        ):
            detail = "too many calls wait for it already"
            self._fail(call, Overloaded(call.name, call.method, detail))
            return
        calls, deadlines = self._calls, self._deadlines
        calls[call.id] = call
        heappush(deadlines, (call.deadline, call.id))
        if len(deadlines) > 2 * len(calls) + 64:
            deadlines[:] = [(c.deadline, c.id) for c in calls.values()]
            heapify(deadlines)
        if fits:
            self._dispatch(peer, call, now)
        else:
            self._park(peer, call)
            self._send_waiting(peer, now)

    def answered(self, call_id: int, source: Token, outcome: Outcome, now: float) -> bool:
        """Settle a call; return False if the answer is late or of another incarnation."""
        call = self._calls.get(call_id)
        if call is None or call.to != source:
            return False
        if (
            type(outcome) is not Raw
            and isinstance(outcome, ServiceLost)  # its callee cut it short
            and self._may_repeat(call)
        ):
            call.sent_again += 1
            call.lost = outcome.detail
            return self.returned_unsent(call_id, source, now)
        # What follows is `_leave`, inlined: each answer passes here.
        del self._calls[call_id]
        if self.observer is not None:
            self.observer.settled(call.note, outcome)
        if self.counts is not None:
            self.counts.settled(call.name, call.method, outcome, now - call.began)
        peer = self._peers[call.name]
        peer.calls -= 1
        peer.bytes -= call.size
        call.settle(outcome)
        if peer.waiting:
            self._send_waiting(peer, now)
        return True

    def _may_repeat(self, call: OpenCall) -> bool:
        return call.idempotent and call.item is None and call.sent_again < SENT_AGAIN

    def item(self, call_id: int, source: Token, value: Value, now: float) -> bool:
        """Pass on the next item of a stream, and renew its deadline."""
        call = self._calls.get(call_id)
        if call is None or call.to != source or call.item is None:
            return False
        call.deadline = now + call.timeout
        if self.observer is not None:
            self.observer.item(call.note, value)
        call.item(value)
        return True

    def grant(self, call_id: int, items: int) -> None:
        """Allow the callee of a stream to send more items."""
        call = self._calls.get(call_id)
        if call is not None and call.is_reached:
            self._send(call.to, messages.Credit(call_id, items))

    def renew(self, call_id: int, now: float) -> None:
        """Renew the deadline of a stream: a consumer begins to wait for its next item."""
        call = self._calls.get(call_id)
        if call is not None:
            call.deadline = now + call.timeout

    def cancel(self, call_id: int, now: float) -> bool:
        """Cancel a call, also at its callee, and send the next that waits."""
        call = self._calls.get(call_id)
        if call is None:
            return False
        if call.is_reached:
            self._send(call.to, messages.Cancel(call_id))
        self._leave(call, None, now)
        self._send_waiting(self._peers[call.name], now)
        return True

    def due(self, now: float) -> float:
        """Fail all calls that are past their deadline; return the next deadline."""
        freed: dict[str, Peer] = {}
        while self._deadlines and self._deadlines[0][0] <= now:
            _, call_id = heappop(self._deadlines)
            call = self._calls.get(call_id)
            if call is None:
                continue
            if call.wants_more is not None and not call.wants_more():
                call.deadline = max(call.deadline, now + call.timeout)
            if call.deadline > now:  # a stream whose deadline was renewed
                heappush(self._deadlines, (call.deadline, call_id))
                continue
            error = timeout_error(self._peers[call.name], call)
            if call.is_reached:
                self._send(call.to, messages.Cancel(call_id))
            self._leave(call, error, now)
            call.settle(error)
            freed[call.name] = self._peers[call.name]
        for peer in freed.values():  # after the loop: a call that is due as well must not be sent
            self._send_waiting(peer, now)
        return self.next_deadline

    def sends_now(self, name: str) -> bool:
        """Return True if a call to a service, unless it is large, would be sent at once."""
        peer = self._peers.get(name)
        return (
            peer is not None
            and (peer.takes and peer.is_open and not peer.waiting)
            and peer.calls < self.window
        )

    def find(self, call_id: int) -> OpenCall | None:
        """Return a call that has not ended."""
        return self._calls.get(call_id)

    def timeout_error(self, call: OpenCall) -> CallError:
        """Return the error of a call if its deadline were now."""
        return timeout_error(self._peers[call.name], call)

    def posted(self, call_ids: Iterable[int], batch: int) -> None:
        """Note in which batch to their incarnation calls were sent."""
        for call_id in call_ids:
            call = self._calls.get(call_id)
            if call is not None:
                call.batch = batch

    def unnumber(self, token: Token) -> None:
        """Forget in which batches the calls to an incarnation were sent."""
        for call in self._calls.values():
            if call.to == token and call.batch != FORMER:
                call.batch = UNKNOWN

    def ended(self, token: Token, cause: str, now: float, delivered: int = -1) -> int:
        """Fail all calls that an ended incarnation may have run; return how many.

        Idempotent calls, and those that it never read, wait for the next incarnation instead.

        Args:
            token: The incarnation.
            cause: Why it ended.
            now: Monotonic seconds.
            delivered: How many batches it may have read; -1: unknown.
        """
        for peer in self._peers.values():
            if peer.token == token:
                peer.closed = token  # the directory's change may arrive later
        had = [call for call in self._calls.values() if call.to == token]
        for call in had:
            if delivered >= 0 and (call.batch == QUEUED or call.batch > delivered):
                self._take_back(call)
        lost = self._lose([call for call in had if call.to], cause, now, blamed=True)
        for name in {call.name for call in had}:
            self._settle_waiting(
                self._peers[name], now
            )  # the next incarnation may be running already
        return lost

    def _lose(self, calls: list[OpenCall], cause: str, now: float, *, blamed: bool) -> int:
        """Fail calls that may have run, or let them wait if they are idempotent.

        Args:
            calls: They were sent.
            cause: Why they are lost.
            now: Monotonic seconds.
            blamed: Whether one may have ended its callee. Then it is sent again a few times only.
        """
        lost = 0
        for call in calls:
            again = call.idempotent and call.item is None
            if again and not (blamed and call.sent_again >= SENT_AGAIN):
                call.sent_again += blamed
                call.lost = cause
                self._take_back(call)
            else:
                lost += 1
                error = ServiceLost(call.name, call.method, cause)
                error.died, error.generation = blamed, call.generation
                self._leave(call, error, now)
                call.settle(error)
        return lost

    def returned_unsent(self, call_id: int, to: Token, now: float, full: bool = False) -> bool:
        """Let a call that its incarnation did not run wait as if it had not been sent.

        Args:
            call_id: The call.
            to: The incarnation that it was sent to.
            now: Monotonic seconds.
            full: The router's queue to the incarnation was full; `unblock` ends that. Otherwise
                the incarnation has ended or drains; the next incarnation ends that.
        """
        call = self._calls.get(call_id)
        if call is None or call.to != to:
            return False
        peer = self._peers[call.name]
        if full:
            peer.blocked = True
        elif call.batch != FORMER and to in {peer.token, self.direct.get(peer.token)}:
            peer.closed = peer.token
        self._take_back(call)
        self._settle_waiting(peer, now)
        return True

    def _take_back(self, call: OpenCall) -> None:
        peer = self._peers[call.name]
        peer.calls -= 1
        peer.bytes -= call.size
        self._park(peer, call)
        peer.disordered = True

    def unblock(self, now: float) -> None:
        """Send again what the router had no room for."""
        for peer in self._peers.values():
            if peer.blocked:
                peer.blocked = False
                self._send_waiting(peer, now)

    def changed(self, name: str, entry: Entry | None, now: float) -> None:
        """Apply a change of the directory: send the calls that wait for a service, or fail them."""
        peer, self._routed = self._peer(name), True
        if entry is None:
            peer.state, peer.takes, peer.token, peer.reason = None, False, b"", ""
            peer.paused = ""
        else:
            peer.state, peer.token, peer.reason = entry.state, entry.token, entry.reason
            peer.generation, peer.frames = entry.generation, entry.manifest.frames
            peer.held = peer.token in self._held
            paused = entry.paused
            peer.paused = paused.words if paused is not None else ""
            refuses = paused is not None and paused.refuses
            peer.takes = accepts_calls(entry.state, entry.wanted) and not refuses
        self._settle_waiting(peer, now)

    def router_changed(self, cause: str, now: float) -> None:
        """Fail the calls in flight through a former router; the others go on waiting.

        No service can be reached until the new router's directory has arrived.
        """
        self.router_left()
        self.end_former(cause, now)

    def router_left(self) -> None:
        """Keep the calls in flight apart that a former router may have; no service is reached
        until the next directory has arrived."""
        self._routed = False
        for peer in self._peers.values():
            if peer.token not in self.direct:  # a direct route needs no router
                peer.token, peer.closed, peer.blocked = b"", b"", False
        for call in self._calls.values():
            if call.to and not is_direct(call.to):
                call.batch = FORMER

    def end_former(self, cause: str, now: float) -> None:
        """Fail the calls that only a former router had."""
        former = [call for call in self._calls.values() if call.to and call.batch == FORMER]
        self._lose(former, cause, now, blamed=False)
        for name in {call.name for call in former}:
            self._settle_waiting(self._peers[name], now)

    def hold(self, token: Token) -> None:
        """Let new calls to an incarnation wait, while they change their way."""
        self._held.add(token)
        for peer in self._peers.values():
            peer.held = peer.held or peer.token == token

    def release(self, token: Token, address: Token, now: float) -> None:
        """Send the calls to an incarnation from now on by its direct route, or with an empty
        address through the router; those that wait are sent."""
        if address:
            self.direct[token] = address
        else:
            self.direct.pop(token, None)
        self._held.discard(token)
        for peer in self._peers.values():
            if peer.token == token:
                peer.held = False
                if not (address or self._routed):
                    peer.token = b""
                self._send_waiting(peer, now)

    def has_sent(self, address: Token) -> bool:
        """Return True if a call that was sent to an address has not ended."""
        return any(call.to == address for call in self._calls.values())

    def drop_all(self, error: Callable[[str, str], CallError]) -> None:
        """Fail all calls, because this process leaves."""
        for call in list(self._calls.values()):
            why = error(call.name, call.method)
            self._leave(call, why, None)
            call.settle(why)

    def _peer(self, name: str) -> Peer:
        peer = self._peers.get(name)
        if peer is None:
            peer = self._peers[name] = Peer(name)
        return peer

    def _dispatch(self, peer: Peer, call: OpenCall, now: float) -> None:
        to = peer.token
        if self.direct:
            to = self.direct.get(to, to)
        call.to, call.generation, call.batch = to, peer.generation, QUEUED
        peer.calls += 1
        peer.bytes += call.size
        left = call.deadline - now
        if not 0.001 <= left <= LONGEST_TIMEOUT:
            left = min(max(left, 0.001), LONGEST_TIMEOUT)
        args, kwargs = call.args, call.kwargs
        if not peer.frames:
            args, kwargs = large.joined(args), large.joined(kwargs)
        message = messages.Call(
            call.id,
            call.method,
            args,
            kwargs,
            left,
            call.credit,
            True,
            call.chain,
            call.attribution,
            call.trace,
        )
        self._send(to, message)
        if peer.calls >= OVERLAP_LEAST:
            peer.started += 1
            if not peer.started % OVERLAP_STEP:
                self._overlap(peer, to)

    def _overlap(self, peer: Peer, to: Token) -> None:
        """Have half of what is in flight sent while the other half is prepared."""
        peer.most = max(peer.most, peer.calls)
        if peer.started >= OVERLAP_PERIOD:
            peer.usual, peer.most, peer.started = peer.most, 0, 0
        if peer.usual:
            self.send_queued(to, peer.usual // 2)

    def _park(self, peer: Peer, call: OpenCall) -> None:
        call.to = b""
        peer.waiting[call.id] = call
        peer.waiting_bytes += call.size

    def _send_waiting(self, peer: Peer, now: float) -> None:
        if peer.disordered:
            peer.waiting = OrderedDict(sorted(peer.waiting.items()))
            peer.disordered = False
        while peer.waiting:
            call = next(iter(peer.waiting.values()))
            if not peer.accepts(call.size, self.window, self.window_bytes):
                return
            self._dispatch(peer, call, now)
            del peer.waiting[call.id]
            peer.waiting_bytes -= call.size

    def _settle_waiting(self, peer: Peer, now: float) -> None:
        if peer.takes:
            self._send_waiting(peer, now)
            return
        for call in [peer.waiting[call_id] for call_id in sorted(peer.waiting)]:
            error = unavailable(peer, call)
            self._leave(call, error, now)
            call.settle(error)

    def _fail(self, call: OpenCall, error: CallError) -> None:
        if self.observer is not None:
            self.observer.settled(call.note, error)
        if self.counts is not None:
            self.counts.failed(call.name, call.method, error)
        call.settle(error)

    def _leave(self, call: OpenCall, outcome: Outcome | None, now: float | None) -> Peer:
        """Take a call out; a None for `now` keeps it out of the counts."""
        del self._calls[call.id]
        if self.observer is not None:
            self.observer.settled(call.note, outcome)
        if self.counts is not None and now is not None:
            self.counts.settled(call.name, call.method, outcome, now - call.began)
        peer = self._peers[call.name]
        if call.to:
            peer.calls -= 1
            peer.bytes -= call.size
        elif peer.waiting.pop(call.id, None) is not None:
            peer.waiting_bytes -= call.size
        return peer
