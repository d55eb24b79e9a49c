"""One process's connection to the supervisor: sockets, directory, calls in flight, requests.

A session belongs to the loop that made it. Durations are seconds, sizes are bytes.
"""

import asyncio
import itertools
import logging
import os
import time
from collections.abc import Callable
from typing import Any, assert_never

from msgspec import Raw, structs

from . import (
    declared_errors,  # noqa: F401 (garrison's own are known from here on)
    messages,
)
from . import frames as large
from .batching import Batching
from .calls import Calls
from .change_waiters import ChangeWaiters
from .connection_state import BUS, CONTROL
from .deadline_timer import DeadlineTimer
from .directory import Directory
from .errors import Fault, ServiceLost, SupervisorGone, WireError, from_fault
from .hooks import DirectHooks, WorkerHooks
from .last_words import LastWords
from .messages import FULL, GONE, SUPERVISOR, WIRE, CallLimits, Data, Downward, Token, Upward
from .queue_limits import LINGER_S
from .requests import Requests
from .router_link import RouterLink
from .stream_link import StreamLink
from .supervisor_watch import SupervisorWatch
from .system import process_tree

log = logging.getLogger(__name__)

UNBLOCK_S = 0.02  # pause before the next attempt, where the router's queue to a peer was full
SYNC_AGAIN_S = 0.5  # until the next Sync, if none was answered
LAST_ANSWERS_S = 0.02  # after the supervisor's end: what it had sent is read by then
RESTARTED = "the router restarted"
ACKNOWLEDGE_S = 1.0  # longest wait for the supervisor to acknowledge the last message

RETURNED = frozenset({GONE, FULL})  # in the place of the source of what could not be delivered

Handler = Callable[[Token, Any], None]


class Session:
    """The connection of a program, or with `worker` hooks of a worker.

    Args:
        token: The routing id of this process.
        limits: The limits of its calls; None: those that the supervisor's Welcome has.
        worker: A worker's hooks. With them a supervisor's end does not end the session: the
            worker itself decides how long to wait for the next supervisor.
        send_data: Replaces the bus, for tests.
    """

    def __init__(
        self,
        token: Token,
        limits: CallLimits | None = None,
        *,
        worker: WorkerHooks | None = None,
        send_data: Callable[[Token, Data], None] | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.now: Callable[[], float] = time.monotonic
        self.token = token
        self.limits = limits or CallLimits()
        self._limited_by_welcome = limits is None
        self._worker = worker
        self.directory = Directory()
        send = send_data or self.send_data
        self.calls = Calls(send, self.limits.window, self.limits.window_bytes)
        if send_data is None:
            self.calls.send_queued = self._send_queued
        self.ids = itertools.count(1)
        self.logs = ""  # the folder of the host's logs
        self.boot = ""  # id of the supervisor process that welcomed this one last
        self._synced = ""  # `boot` of the router that answered a Sync last
        self.refused = 0  # frames that could not be decoded
        self.closed = False
        self.supervisor_gone = False  # it has ended, and no other will follow
        self.unreachable = ""  # why no call can be made any more
        self.on_change: list[Callable[[str], None]] = []  # called with a NAME after its change
        self.on_listing: Callable[[], None] = lambda: None  # methods of services may be others
        self.waiters = ChangeWaiters(self.loop)
        self.bus: RouterLink | None = None
        self.control: RouterLink | None = None
        self.links: dict[Token, Batching] = {}  # of direct routes, by their addresses
        self.direct: DirectHooks | None = None  # a worker's
        self.deadlines = DeadlineTimer(self.loop, self.calls, lambda: self.now())
        self._supervisor = SupervisorWatch(self.loop, self.on_supervisor_end)
        self._is_final = False  # this supervisor announced that no other will follow
        self._orphan_grace = 0.0
        self._requests = Requests(self.send, self.ids, lambda: f"process {self._supervisor.pid}")
        self._welcomed: asyncio.Future[None] = self.loop.create_future()
        self._last_words = LastWords(self.loop, self.send)
        self.handlers = self._handlers()

    def _handlers(self) -> dict[type, Handler]:
        """Return the handlers of the bus, by message. A worker replaces some."""
        return {
            messages.Reply: self._on_reply,
            messages.Failed: self._on_failed,
            messages.Refused: self._on_refused,
            messages.Item: self._on_item,
            messages.Done: self._on_done,
            messages.Ended: self._on_ended,
            messages.Call: self._reject_call,
            messages.Cancel: lambda source, message: None,  # a program runs no methods
            messages.Credit: lambda source, message: None,
            messages.Frames: lambda source, message: self.malformed(),
            messages.Sync: lambda source, message: self.malformed(),  # only routers take it
            messages.Synced: self._on_synced,
            messages.Barrier: self._on_barrier,
            messages.Passed: self._on_passed,
        }

    # --- sockets ----------------------------------------------------------------------------

    def open(self, control: str, bus: str, curve: messages.CurveKeys | None = None) -> None:
        """Connect both planes; if `bus` is empty, the control plane alone. With keys, over TCP to a
        supervisor on another machine."""
        self._supervisor.path = control
        if curve is not None:
            self._open_remote(control, bus, curve)
            return
        # No size limits: the router has them, and others may hold from the next supervisor on.
        self.control = StreamLink(
            control, self.token, -1, self.on_control, self.malformed, self._batch_limit, keep=False
        )
        if bus:
            posted, callbacks = self.calls.posted, (self.on_bus, self.malformed, self._batch_limit)
            self.bus = StreamLink(bus, self.token, -1, *callbacks, posted=posted)

    def _open_remote(self, control: str, bus: str, curve: messages.CurveKeys) -> None:
        from .link import Link  # libzmq is needed here alone
        from .remote import RemoteSupervisor

        assert self._worker is not None  # programs have no keys
        ask, broken = self._ask_router, self._worker.broken
        remote = RemoteSupervisor(curve, lambda: self.boot, ask, self.on_supervisor_end, broken)
        self._supervisor.remote = remote
        of_control = remote.dealer(CONTROL, control, self.token, -1)
        self.control = Link(of_control, self.on_control, self.malformed, self._batch_limit)
        size, posted = self.limits.max_message, self.calls.posted
        of_bus = remote.dealer(BUS, bus, self.token, size)
        callbacks = self.on_bus, self.malformed, self._batch_limit
        self.bus = Link(of_bus, *callbacks, zero_copy=True, posted=posted)

    def _ask_router(self) -> None:
        if self.bus is not None and not self.closed:
            self.bus.sync(messages.Sync(self.boot))

    def close(self) -> None:
        """Settle what is in flight and close both sockets."""
        self.closed, self.unreachable = True, "this program has left"
        self._supervisor.close()
        self._requests.fail()
        self.calls.drop_all(lambda name, method: ServiceLost(name, method, "this program left"))
        self.deadlines.close()
        if self.direct is not None:
            self.direct.close()
        until = time.monotonic() + LINGER_S  # for both
        for link in (self.bus, self.control):
            if link is not None:
                link.close(until)
        self._supervisor.leave()

    def _batch_limit(self) -> int:
        return self.limits.max_message

    def malformed(self, error: Exception | None = None) -> None:
        """Count a frame that could not be decoded; log the first ones."""
        self.refused += 1
        if messages.should_log(self.refused):
            log.warning("frame.refused count=%d error=%s", self.refused, error or "other frames")

    # --- the bus ----------------------------------------------------------------------------

    def send_data(self, token: Token, message: Data) -> None:
        """Send a message to an incarnation, or over a direct route."""
        link: Batching | None = self.links.get(token, self.bus)
        if link is not None:
            link.send(token, message)

    def _send_queued(self, token: Token, least: int) -> None:
        link: Batching | None = self.links.get(token, self.bus)
        if link is not None:
            link.send_queued(token, least)

    def on_bus(self, frames: list[bytes]) -> None:
        """Handle one message from the bus: `[source][batch]`, or one of ours that returned."""
        source = frames[0]
        try:
            if source in RETURNED:
                self._take_returned(source, *frames[1:3])
                return
            if len(frames) == 2:
                batch = messages.decode_data(frames[1])
            else:
                batch = large.unpack(frames[1:], self.limits.max_message)
        except (WireError, TypeError) as error:
            self.malformed(error)
            return
        if self._worker is not None and source:
            self._worker.batch_read(source)
        handlers, answered, now = self.handlers, self.calls.answered, self.now()
        for message in batch:
            try:
                if type(message) is messages.Reply:  # as most are: one function less
                    answered(message.id, source, message.result, now)
                else:
                    handlers[type(message)](source, message)
            except Exception:  # an error in one message must not lose the rest of its batch
                log.exception("message.failed type=%s", type(message).__name__)

    def _take_returned(self, why: Token, destination: Token, batch: bytes) -> None:
        for message in messages.decode_data(batch):
            if isinstance(message, messages.Call):
                self.calls.returned_unsent(message.id, destination, self.now(), full=why == FULL)
        if why == FULL:
            counted = self.bus if self._synced == self.boot else None
            if counted is not None and counted.stop_numbering(destination):
                self.calls.unnumber(destination)
            self.loop.call_later(UNBLOCK_S, lambda: self.calls.unblock(self.now()))

    def _on_reply(self, source: Token, message: messages.Reply) -> None:
        self.calls.answered(message.id, source, message.result, self.now())

    def _on_failed(self, source: Token, message: messages.Failed) -> None:
        self.calls.answered(message.id, source, from_fault(message.fault), self.now())

    def _on_refused(self, source: Token, message: messages.Refused) -> None:
        self.calls.returned_unsent(message.id, source, self.now())

    def _on_item(self, source: Token, message: messages.Item) -> None:
        self.calls.item(message.id, source, message.value, self.now())

    def _on_done(self, source: Token, message: messages.Done) -> None:
        self.calls.answered(message.id, source, Raw(b""), self.now())

    def _on_ended(self, source: Token, message: messages.Ended) -> None:
        if source == SUPERVISOR:
            if self.direct is None or not self.direct.ended(message):
                self.lose(message)
            if self.bus is not None:
                self.bus.forget(message.token)
            if self._worker is not None:
                self._worker.peer_ended(message.token)

    def lose(self, end: messages.Ended) -> None:
        """Settle the calls that were sent to an ended incarnation through the router."""
        self.calls.ended(end.token, end.cause, self.now(), end.delivered)

    def _on_barrier(self, source: Token, message: messages.Barrier) -> None:
        self.send_data(source, messages.Passed(message.number))

    def _on_passed(self, source: Token, message: messages.Passed) -> None:
        if self.direct is not None:
            self.direct.passed(source, message.number)

    def _reject_call(self, source: Token, message: messages.Call) -> None:
        fault = Fault("InvalidCall", "program", message.method, "a program has no methods")
        self.send_data(source, messages.Failed(message.id, fault))

    # --- the control plane ------------------------------------------------------------------

    def send(self, message: Upward) -> None:
        """Send a message to the supervisor."""
        if self.control is not None:
            if self._worker is not None:
                message = self._worker.redact(message)
            self.control.send(SUPERVISOR, message)

    def on_control(self, frames: list[bytes]) -> None:
        """Handle one message from the supervisor: `[empty][batch]`."""
        try:
            batch = messages.decode_downward(frames[1])
        except WireError as error:
            self.malformed(error)
            return
        for message in batch:
            self.handle(message)

    def handle(self, message: Downward) -> None:
        """Act on a message of the supervisor."""
        match message:
            case messages.Welcome():
                is_next = bool(self.boot) and self.boot != message.boot
                self._welcome(message, is_next)
                if self._worker is not None:
                    self._worker.welcomed(message, is_next)
                if is_next or message.introduce:
                    self._last_words.repeat()
            case messages.Listed() | messages.Delisted() | messages.Changed():
                self._change(message)
            case messages.Drain() | messages.ShowTasks() | messages.Rejected():
                if self._worker is not None:
                    self._worker.ordered(message)
                elif isinstance(message, messages.Rejected):
                    self._on_rejected(message.reason)
            case messages.AcceptDirect() | messages.GrantDirect() | messages.RevokeDirect():
                if self.direct is not None:
                    self.direct.ordered(message)
            case messages.Identify():
                if self._worker is None:
                    self.send(messages.Join(WIRE, os.getpid(), True, process_tree.pid_namespace()))
            case messages.Farewell():
                self._is_final = True
                if (
                    not self._supervisor.has_pidfd
                ):  # it ended before this message was read, or is elsewhere
                    self.on_supervisor_end()
            case messages.Acknowledged():
                self._last_words.acknowledged()
            case messages.Answer():
                self._requests.take(message)
            case _:
                assert_never(message)

    def _on_rejected(self, reason: str) -> None:
        if not self._welcomed.done():
            self._welcomed.set_exception(ConnectionRefusedError(reason))
        else:
            log.warning("turned_away reason=%s", reason)

    async def wait_welcome(self) -> None:
        """Return when the supervisor has sent the directory."""
        await self._welcomed

    def _welcome(self, message: messages.Welcome, is_next: bool) -> None:
        self._supervisor.answered(CONTROL, message.boot)
        if is_next:
            self._requests.fail()
            self._change_router(message.syncs)
        self.boot = message.boot
        if message.syncs:
            self._sync(self.boot)
        elif is_next and self.bus is not None:
            self.bus.probe()
        self._orphan_grace = message.orphan_grace
        self.logs = message.logs or ""
        if self._limited_by_welcome:
            self.limits = message.limits
            self.calls.window, self.calls.window_bytes = message.window, message.window_bytes
        else:
            self.limits = structs.replace(self.limits, max_message=message.max_message)
        self._supervisor.welcomed(message.pid, message.pid_namespace)
        before = [entry.name for entry in self.directory]
        self.directory.replace(message.entries)
        for name in dict.fromkeys([*before, *(entry.name for entry in self.directory)]):
            self._announce(name)
        self.on_listing()
        self.waiters.wake()
        if not self._welcomed.done():
            self._welcomed.set_result(None)
        elif self._worker is None:  # a program that has found the next supervisor
            self.watch_supervisor()

    def _change_router(self, syncs: bool) -> None:
        """Have calls wait that were not sent; end those that the former router alone had.

        Where the new router answers a Sync, that answer shows which those are: a message that was
        sent before this Welcome was read may have reached either.
        """
        for peer, unsent in self.bus.take_back() if self.bus is not None else []:
            for call in unsent:
                self.calls.returned_unsent(call.id, peer, self.now())
        if syncs:
            self.calls.router_left()
        else:
            self.calls.router_changed(RESTARTED, self.now())
        if self._worker is not None:
            self._worker.router_changed()

    def _sync(self, boot: str) -> None:
        """Mark on the bus where the messages for this router begin, until it answers."""
        if self.bus is None or self.closed or boot != self.boot or boot == self._synced:
            return
        self.bus.sync(messages.Sync(boot))
        self.loop.call_later(SYNC_AGAIN_S, self._sync, boot)

    def _on_synced(self, source: Token, message: messages.Synced) -> None:
        if source != SUPERVISOR:
            return
        self._supervisor.answered(BUS, message.boot)
        if message.boot in {self._synced, ""}:
            return
        self._synced = message.boot
        self.calls.end_former(RESTARTED, self.now())
        if self._worker is not None:
            self._worker.synced()

    # --- changes of services ----------------------------------------------------------------

    def _change(self, message: messages.Listed | messages.Delisted | messages.Changed) -> None:
        entry = self.directory.apply(message)
        if entry is None:
            return
        self._announce(entry.name)
        if not isinstance(message, messages.Changed):
            self.on_listing()
        self.waiters.wake(entry.name)

    def _announce(self, name: str) -> None:
        self.calls.changed(name, self.directory.get(name), self.now())
        for notify in self.on_change:
            try:
                notify(name)
            except Exception:  # one that fails must not keep the change from the others
                log.exception("notice.failed service=%s", name)

    # --- the supervisor's process -----------------------------------------------------------

    def watch_supervisor(self) -> None:
        """Have `on_supervisor_end` called as soon as the supervisor's process ends."""
        self._supervisor.start()

    def on_supervisor_end(self) -> None:
        """Let calls wait for the next supervisor; where none will follow, end them."""
        self._supervisor.stop()
        self._last_words.supervisor_changed()
        if self._supervisor.remote is None and self.control is not None:
            self.control.drop_unsent()
        if self._worker is None:
            self._requests.fail()
        if self._worker is not None or not (self._is_final or self.closed):
            self.calls.router_left()
            self.loop.call_later(LAST_ANSWERS_S, self._end_former, self.boot)
            if self._worker is None:
                self.loop.call_later(self._orphan_grace, self._give_up, self.boot)
            return
        self._read_last()
        self.supervisor_gone = True
        self.unreachable = self.unreachable or "the supervisor has ended"
        self.waiters.wake()
        self.calls.drop_all(lambda name, method: ServiceLost(name, method, "the supervisor ended"))

    def _read_last(self) -> None:
        if self.bus is not None and not self.closed:
            self.bus.receive_all()

    def _end_former(self, boot: str) -> None:
        """End the calls that the ended supervisor has sent no answer of."""
        if not self.closed and self.boot == boot:
            self._read_last()
            self.calls.end_former("the supervisor ended", self.now())

    def _give_up(self, boot: str) -> None:
        """Stop waiting for a next supervisor, unless one has come."""
        if not self.closed and self.boot == boot:
            self._is_final = True
            self.on_supervisor_end()

    @property
    def is_alone(self) -> bool:
        """Return True if the supervisor that this process joined has ended."""
        return self._supervisor.has_ended

    # --- requests to the supervisor ---------------------------------------------------------

    async def request(
        self, verb: str, names: tuple[str, ...], timeout: float, options: dict[str, Any]
    ) -> Any:
        """Send a request to the supervisor; return its answer's data. See `Client.order`.

        Raises SupervisorGone at once where it has ended: the next one would not know the sender.
        """
        if self.is_alone:
            raise SupervisorGone(f"process {self._supervisor.pid}", "it has ended")
        return await self._requests.request(verb, names, timeout, options)

    async def send_last(
        self, message: Upward, patience: Callable[[], float] = lambda: ACKNOWLEDGE_S
    ) -> None:
        """Send a message, wait until it is acknowledged, and close; see `LastWords.report`."""
        await self._last_words.report(message, patience)
        self.close()
