"""A member of the host as it calls others: the directory, `get_service` and its family.

`connect(home)` makes one for any program; `garrison.workers.Runtime` is one with a service.
Durations are seconds, sizes are bytes.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar, overload

import msgspec
import zmq
from msgspec import Raw

from . import frames as large
from . import messages, posting, sockets
from .calls import Call, Calls
from .directory import AWAY, Directory
from .errors import (
    CallError,
    Fault,
    InvalidCall,
    OrderFailed,
    ServiceLost,
    ServiceUnavailable,
    SupervisorGone,
    WireError,
    from_fault,
)
from .link import Link
from .mail import EVENT
from .messages import EMPTY_MAP, FULL, GONE, SUPERVISOR, WIRE, Entry, State, Token, Value
from .proxy import STREAM_CREDIT, Decode, ServiceProxy, Stream, decoded, service_name_of
from .system import process_tree

log = logging.getLogger(__name__)
T = TypeVar("T")

UNBLOCK_S = 0.02  # until a peer that the router had no room for is tried again
CONNECT_S = 10.0  # until a supervisor that does not answer is given up
COMING_LOOK_S = 0.02  # between looks for one that is about to listen
ORDER_S = 10.0  # for the answer to an order
ORDER_MARGIN_S = 2.0  # beyond what it was given, for a supervisor that is busy
LAST_WORDS_S = 1.0  # for them to be heard
MARGIN = 65_536  # bytes of a frame that are not arguments

# The deadline of the method that runs now, monotonic; calls that it makes end by then.
DEADLINE: ContextVar[float] = ContextVar("garrison_deadline", default=float("inf"))

_encode_args = msgspec.msgpack.Encoder().encode


class Client:
    """One member of the host. All of it belongs to the loop that made it."""

    limited_by_welcome = True  # False: it was told its limits before
    lends = False  # what is very large to libzmq, see `Link`: a program's threads are its own
    name = ""  # a service's own NAME; a program has none

    def __init__(self, token: Token) -> None:
        self.loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()
        self.now: Callable[[], float] = time.monotonic
        self.token = token
        self.timeout = 30.0
        self.max_message = 64 * 1024 * 1024
        self.agent = ""  # NAME of the agent that it belongs to
        self.directory = Directory()
        self.calls = Calls(self._send, window=256, window_bytes=16 * 1024 * 1024)
        self.proxies: weakref.WeakValueDictionary[int, ServiceProxy] = weakref.WeakValueDictionary()
        self._notices: list[Callable[[str], None]] = []
        self.refused = 0  # frames that were no message of ours
        self.boot = ""
        self.supervisor_gone = False
        self.closed = False
        self._supervisor_pid = 0
        self._supervisor = -1  # pidfd
        self._leaving = False  # the supervisor has said that no other will come
        self._orphan_grace = 0.0
        self._ids = itertools.count(1)
        self._bus: Link | None = None
        self._control: Link | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._watchers: list[tuple[str, asyncio.Future[None]]] = []
        self._orders: dict[int, asyncio.Future[Any]] = {}
        self._welcomed: asyncio.Future[None] = self.loop.create_future()
        self._noted: asyncio.Future[None] = self.loop.create_future()
        self._handlers: dict[type, Callable[[Token, Any], None]] = {
            messages.Reply: self._on_reply,
            messages.Failed: self._on_failed,
            messages.Refused: self._on_refused,
            messages.Item: self._on_item,
            messages.Done: self._on_done,
            messages.Ended: self._on_ended,
            messages.Call: self._on_call,
            messages.Cancel: self._on_cancel,
            messages.Credit: self._on_credit,
            messages.Frames: lambda source, message: self.malformed(),
        }

    # --- which services there are -----------------------------------------------------------

    @overload
    def get_service(self, wanted: str) -> ServiceProxy | None: ...
    @overload
    def get_service(self, wanted: Callable[..., T]) -> T | None: ...
    def get_service(self, wanted: Any) -> Any:
        """Return a service, or None where none is configured.

        Args:
            wanted: A NAME; a service_type, then the first wanted of that type in config order; or
                a class or Protocol with a `service_type`, by which results are then converted.
        """
        entry = self._find(wanted)
        return None if entry is None else ServiceProxy(self, entry.name, service_name_of(wanted)[1])

    def _find(self, wanted: str | Callable[..., object]) -> Entry | None:
        """Return what a NAME, else a type, means; a class means its type alone."""
        name, cls = service_name_of(wanted)
        find = self.directory.find if cls is None else self.directory.first_of
        return find(name, self.agent)

    @overload
    def get_services_by_type(self, wanted: str) -> list[ServiceProxy]: ...
    @overload
    def get_services_by_type(self, wanted: Callable[..., T]) -> list[T]: ...
    def get_services_by_type(self, wanted: Any) -> Any:
        """Return every service of a type, in config order."""
        name, cls = service_name_of(wanted)
        entries = self.directory.of_type(name, self.agent)
        return [ServiceProxy(self, entry.name, cls) for entry in entries]

    def get_all_services(self) -> dict[str, list[ServiceProxy]]:
        """Return every service, by its type."""
        types = self.directory.types(self.agent)
        return {name: self.get_services_by_type(name) for name in types}

    def has_service(self, wanted: str | Callable[..., object]) -> bool:
        """Tell whether such a service is configured."""
        return self._find(wanted) is not None

    def get_registered_service_types(self) -> list[str]:
        """Return every service_type, in config order."""
        return self.directory.types(self.agent)

    @overload
    async def get_service_load_promise(self, wanted: str, timeout: float = ...) -> ServiceProxy: ...
    @overload
    async def get_service_load_promise(
        self, wanted: Callable[..., T], timeout: float = ...
    ) -> T: ...
    async def get_service_load_promise(self, wanted: Any, timeout: float = 30.0) -> Any:
        """Return a service once it runs.

        Raises:
            ServiceUnavailable: It is unknown, or failed, or did not run within the timeout.
        """
        name, _ = service_name_of(wanted)
        deadline = min(self.now() + timeout, DEADLINE.get())
        while True:
            entry = self._find(wanted)
            if self.supervisor_gone:
                raise ServiceUnavailable(name, "start", "out of reach: the supervisor has ended")
            if entry is None:
                raise ServiceUnavailable(name, "start", "not configured")
            if entry.state is State.RUNNING:
                return self.get_service(wanted)
            if entry.state is State.FAILED or (entry.state in AWAY and not entry.wanted):
                raise ServiceUnavailable(entry.name, "start", entry.state.value)
            changed: asyncio.Future[None] = self.loop.create_future()
            self._watchers.append((entry.name, changed))
            try:
                async with asyncio.timeout(max(deadline - self.now(), 0)):
                    await changed
            except TimeoutError:
                state = entry.state.value
                raise ServiceUnavailable(entry.name, "start", f"still {state}") from None
            finally:
                self._watchers = [pair for pair in self._watchers if pair[1] is not changed]

    async def emit_event(self, event: str, payload: Any = None, durable: bool = False) -> None:
        """Tell every subscriber of an event; return when each has handled it or failed.

        A subscriber that fails is logged and harms no other.

        Args:
            event: Its name.
            payload: Whatever can travel.
            durable: Post it instead, to those who ever listened: it returns when that is on disk.
        """
        if durable:
            await posting.post_event(self, event, payload)
            return
        targets = [entry.name for entry in self.directory.listening(event, self.agent)]
        await self.emit_to(targets, event, payload)

    async def emit_to(self, targets: list[str], event: str, payload: Any) -> None:
        decode = msgspec.msgpack.Decoder().decode
        futures: list[asyncio.Future[Any]] = []
        for name in targets:
            future = self.loop.create_future()
            self.call(name, EVENT, (event, payload), {}, None, decode, future)
            futures.append(future)
        for name, outcome in zip(
            targets, await asyncio.gather(*futures, return_exceptions=True), strict=True
        ):
            if isinstance(outcome, CallError):
                log.warning("event.failed event=%s subscriber=%s error=%s", event, name, outcome)
            elif isinstance(outcome, BaseException):
                raise outcome

    # --- messages that outlast their sender -------------------------------------------------

    async def post(
        self,
        service: str | Callable[..., object],
        method: str,
        *args: Any,
        key: str | None = None,
        expires: float | None = None,
        **kwargs: Any,
    ) -> str:
        """Have a method called, however long its service is away; return the message's id once it
        is on disk. The mailbox delivers in order, at least once.

        Args:
            service: As `get_service` takes it.
            method: One of its methods; no stream.
            args: Its arguments.
            key: The same key is the same message: it may be posted again where this fails.
            expires: Seconds; what was not delivered by then is dropped.
            kwargs: Its arguments.

        Raises:
            ServiceUnavailable: No such service, or no mailbox, is configured.
            InvalidCall: There is no such method, or the arguments cannot travel.
            Overloaded: The mailbox is full: post again later.
            ServiceLost: The mailbox's process ended in mid-post: it may be on disk. With a key it
                is posted again by itself, and by hand harmlessly.
        """
        return await posting.post(self, service, method, args, kwargs, key, expires)

    def entry_of(self, wanted: str | Callable[..., object]) -> Entry | None:
        """Return what the directory has of a NAME or type."""
        return self._find(wanted)

    def generation_of(self, name: str) -> int:
        """Return the generation of the incarnation that takes calls; 0 where none does."""
        entry = self.directory.get(name)
        return entry.generation if entry is not None and entry.token else 0

    def mail_window_of(self, name: str) -> int:
        """Return how many posted messages may be on their way to a service at the same time."""
        entry = self.directory.get(name)
        return entry.manifest.mail_window if entry is not None else 1

    def on_service_change(self, notice: Callable[[str], None]) -> None:
        """Have a function called with a service's NAME after each change of it."""
        self._notices.append(notice)

    def _noticed(self, name: str) -> None:
        for notice in self._notices:
            try:
                notice(name)
            except Exception:  # one that fails must not keep the directory from others
                log.exception("notice.failed service=%s", name)

    # --- calls ------------------------------------------------------------------------------

    def call(
        self,
        name: str,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: float | None,
        decode: Decode,
        future: asyncio.Future[Any],
        idempotent: bool = False,
    ) -> None:
        """Make a call whose outcome a future takes; cancelling the future cancels the call."""

        def settle(outcome: Value | CallError) -> None:
            if future.done():
                return
            if isinstance(outcome, CallError):
                future.set_exception(outcome)
                return
            try:
                future.set_result(decoded(decode, outcome, name, method))
            except CallError as error:
                future.set_exception(error)

        now = self.now()
        call = self._new_call(name, method, args, kwargs, timeout, settle, now)
        if call is None:
            return
        call.idempotent = idempotent
        call_id = call.id
        self.calls.start(call, now)
        if not future.done():
            future.add_done_callback(
                lambda done: self.cancel(call_id) if done.cancelled() else None
            )
            if call.deadline < self._timer_at:
                self.schedule()

    def stream(
        self,
        name: str,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: float | None,
        stream: Stream,
    ) -> int:
        """Begin a stream; return its call's id."""
        reference = weakref.ref(stream)  # a dropped iterator is collected, and cancels

        def settle(outcome: Value | CallError) -> None:
            if (alive := reference()) is not None:
                alive.settle(outcome)

        def item(value: Value) -> None:
            if (alive := reference()) is not None:
                alive.arrived(value)

        def hungry() -> bool:
            alive = reference()
            return alive is not None and alive.hungry

        now = self.now()
        call = self._new_call(name, method, args, kwargs, timeout, settle, now)
        if call is None:
            return 0
        call.item, call.hungry, call.credit = item, hungry, STREAM_CREDIT
        self.calls.start(call, now)
        self.schedule()
        return call.id

    def _new_call(
        self,
        name: str,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: float | None,
        settle: Callable[[Value | CallError], None],
        now: float,
    ) -> Call | None:
        if self.supervisor_gone or self.closed:
            what = "this program has left" if self.closed else "the supervisor has ended"
            settle(ServiceUnavailable(name, method, f"out of reach: {what}"))
            return None
        try:
            encoded = large.arguments(args, _encode_args)
            named_args = large.arguments(kwargs, _encode_args) if kwargs else EMPTY_MAP
        except (TypeError, ValueError, RecursionError, OverflowError) as error:
            settle(InvalidCall(name, method, f"its arguments cannot travel: {error}"))
            return None
        size = len(encoded) + len(named_args)
        if size > self.max_message - MARGIN:
            detail = f"its arguments have {size} bytes; max_message allows {self.max_message}"
            settle(InvalidCall(name, method, detail))
            return None
        timeout = min(self.timeout if timeout is None else timeout, messages.LONGEST_TIMEOUT)
        deadline = now + timeout
        outer = DEADLINE.get()
        if outer < deadline:
            deadline, timeout = outer, max(outer - now, 0.001)
        call_id = next(self._ids)
        return Call(call_id, name, method, encoded, named_args, size, timeout, deadline, settle)

    def cancel(self, call_id: int) -> None:
        """Forget a call; its method is cancelled."""
        self.calls.cancel(call_id, self.now())

    def schedule(self) -> None:
        """Set the one timer to the next deadline."""
        at = self.calls.next_deadline
        if at < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = at
            self._timer = self.loop.call_later(max(at - self.now(), 0), self._deadline)

    def _deadline(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        self.calls.due(self.now())
        self.schedule()

    # --- the bus ----------------------------------------------------------------------------

    def _batch_limit(self) -> int:
        return self.max_message

    def _send(self, token: Token, message: messages.Data) -> None:
        if self._bus is not None:
            self._bus.send(token, message)

    def on_bus(self, frames: list[bytes]) -> None:
        """Take one message from the bus: `[source][batch]`, or one of ours handed back."""
        source = frames[0]
        try:
            if source in {GONE, FULL}:
                self._handed_back(source, *frames[1:3])
                return
            if len(frames) == 2:
                batch = messages.decode_data(frames[1])
            else:
                batch = large.unpack(frames[1:], self.max_message)
        except (WireError, TypeError) as error:
            self.malformed(error)
            return
        handlers = self._handlers
        for message in batch:
            try:
                handlers[type(message)](source, message)
            except Exception:  # one message must not take the rest of its batch along
                log.exception("message.failed type=%s", type(message).__name__)

    def malformed(self, error: Exception | None = None) -> None:
        """Count a frame that is no message of ours; the first ones are logged."""
        self.refused += 1
        if messages.should_log(self.refused):
            log.warning("frame.refused count=%d error=%s", self.refused, error or "other frames")

    def _handed_back(self, why: Token, destination: Token, batch: bytes) -> None:
        for message in messages.decode_data(batch):
            if isinstance(message, messages.Call):
                self.calls.never_run(message.id, destination, self.now(), full=why == FULL)
        if why == FULL:
            self.loop.call_later(UNBLOCK_S, lambda: self.calls.unblock(self.now()))

    def _on_reply(self, source: Token, message: messages.Reply) -> None:
        self.calls.answered(message.id, source, message.result, self.now())

    def _on_failed(self, source: Token, message: messages.Failed) -> None:
        self.calls.answered(message.id, source, from_fault(message.fault), self.now())

    def _on_refused(self, source: Token, message: messages.Refused) -> None:
        self.calls.never_run(message.id, source, self.now())

    def _on_item(self, source: Token, message: messages.Item) -> None:
        self.calls.item(message.id, source, message.value, self.now())

    def _on_done(self, source: Token, message: messages.Done) -> None:
        self.calls.answered(message.id, source, Raw(b""), self.now())

    def _on_ended(self, source: Token, message: messages.Ended) -> None:
        if source == SUPERVISOR:
            self.calls.ended(message.token, message.cause, self.now())

    def _on_call(self, source: Token, message: messages.Call) -> None:
        fault = Fault("InvalidCall", "program", message.method, "a program has no methods")
        self._send(source, messages.Failed(message.id, fault))

    def _on_cancel(self, source: Token, message: messages.Cancel) -> None:
        """A program serves nothing that could be cancelled."""

    def _on_credit(self, source: Token, message: messages.Credit) -> None:
        """A program streams nothing."""

    # --- the control plane ------------------------------------------------------------------

    def on_control(self, frames: list[bytes]) -> None:
        """Take one message from the supervisor: `[empty][batch]`."""
        try:
            batch = messages.decode_downward(frames[1])
        except WireError as error:
            self.malformed(error)
            return
        for message in batch:
            self.on_order(message)

    def on_order(self, message: messages.Downward) -> None:
        """Take what the supervisor says."""
        match message:
            case messages.Welcome():
                self._welcome(message)
            case messages.Listed() | messages.Delisted() | messages.Changed():
                self._change(message)
            case messages.Rejected(reason):
                if not self._welcomed.done():
                    self._welcomed.set_exception(ConnectionRefusedError(reason))
                elif self.limited_by_welcome:
                    log.warning("turned_away reason=%s", reason)
            case messages.Identify():
                if self.limited_by_welcome:
                    self.tell(messages.Join(WIRE, os.getpid()))
            case messages.Farewell():
                self._leaving = True
                if self._supervisor < 0:  # its end was seen before its last word
                    self._on_supervisor_end()
            case messages.Acknowledged():
                if not self._noted.done():
                    self._noted.set_result(None)
            case messages.Answer():
                self._take_answer(message)
            case messages.Drain() | messages.ShowTasks():
                pass  # for workers

    def _welcome(self, message: messages.Welcome) -> None:
        if self.boot and self.boot != message.boot:
            self._lose_orders()
            self.on_new_router()
        self.boot = message.boot
        self._orphan_grace = message.orphan_grace
        if self.limited_by_welcome:
            self.timeout, self.max_message = message.timeout, message.max_message
            self.calls.window, self.calls.window_bytes = message.window, message.window_bytes
        self._supervisor_pid = message.pid
        before = [entry.name for entry in self.directory]
        self.directory.replace(message.entries)
        for name in dict.fromkeys([*before, *(entry.name for entry in self.directory)]):
            self.calls.changed(name, self.directory.get(name), self.now())
            self._noticed(name)
        self._forget_methods()
        for _, future in self._watchers:
            if not future.done():
                future.set_result(None)
        if not self._welcomed.done():
            self._welcomed.set_result(None)
        elif self.limited_by_welcome:  # a program that has found the next supervisor
            self.watch_supervisor()

    def on_new_router(self) -> None:
        """End what was in flight through the old one; what has not left was never run."""
        for peer, batch in self._bus.take_back() if self._bus is not None else []:
            for message in messages.decode_data(batch):
                if isinstance(message, messages.Call):
                    self.calls.never_run(message.id, peer, self.now())
        self.calls.router_changed("the router restarted", self.now())

    def _forget_methods(self) -> None:
        for proxy in list(self.proxies.values()):
            proxy.__dict__.clear()  # its methods may be others now

    def watch_supervisor(self) -> None:
        """See at once when the supervisor's process ends."""
        self._unwatch_supervisor()
        try:
            self._supervisor = os.pidfd_open(self._supervisor_pid)
        except OSError:
            self._on_supervisor_end()
            return
        self.loop.add_reader(self._supervisor, self._on_supervisor_end)

    def _on_supervisor_end(self) -> None:
        self._unwatch_supervisor()
        self._lose_orders()
        if not self._leaving and not self.closed:
            self.calls.router_changed("the supervisor ended", self.now())
            self.loop.call_later(self._orphan_grace, self._give_up, self.boot)
            return  # calls wait, by their deadlines, for the next supervisor
        self.supervisor_gone = True
        for _, future in self._watchers:
            if not future.done():
                future.set_result(None)
        self.calls.drop_all(lambda name, method: ServiceLost(name, method, "the supervisor ended"))

    def _give_up(self, boot: str) -> None:
        """Wait no longer for another supervisor than that of this boot."""
        if not self.closed and self.boot == boot:
            self._leaving = True
            self._on_supervisor_end()

    @property
    def is_alone(self) -> bool:
        """Tell whether the supervisor that this program has joined is there no more."""
        return self._supervisor < 0 or process_tree.ended(self._supervisor, 0)

    def _unwatch_supervisor(self) -> None:
        if self._supervisor >= 0:
            self.loop.remove_reader(self._supervisor)
            os.close(self._supervisor)
            self._supervisor = -1

    def _change(self, message: messages.Listed | messages.Delisted | messages.Changed) -> None:
        try:
            entry = self.directory.apply(message)
        except WireError as error:
            self.malformed(error)
            return
        known = self.directory.get(entry.name)
        self.calls.changed(entry.name, known, self.now())
        self._noticed(entry.name)
        if not isinstance(message, messages.Changed):
            self._forget_methods()
        for name, future in self._watchers:
            if name == entry.name and not future.done():
                future.set_result(None)

    # --- its life ---------------------------------------------------------------------------

    def open(self, context: "zmq.Context[zmq.Socket[bytes]]", control: str, bus: str) -> None:
        """Connect both sockets; without a path for the bus, the control socket alone."""
        # Of any size: a directory may be larger than what services may send each other.
        control_socket = sockets.dealer(context, control, self.token, -1)
        self._control = Link(control_socket, self.on_control, self.malformed, self._batch_limit)
        if bus:
            size = -1 if self.limited_by_welcome else self.max_message  # a program is told it later
            bus_socket = sockets.dealer(context, bus, self.token, size)
            taken = (self.on_bus, self.malformed, self._batch_limit)
            self._bus = Link(bus_socket, *taken, lends=self.lends)

    def tell(self, message: messages.Upward) -> None:
        """Send a message to the supervisor."""
        if self._control is not None:
            self._control.send(SUPERVISOR, message)

    async def order(
        self, verb: str, names: tuple[str, ...] = (), timeout: float = ORDER_S, **options: Any
    ) -> Any:
        """Give the supervisor an order, as the command line does; return its answer's data.

        Args:
            verb: One of the supervisor's.
            names: NAMEs and globs.
            timeout: Seconds until nobody waits for the answer any more.
            options: What the verb takes besides.

        Raises:
            OrderFailed: It was not done; `code` says why.
            SupervisorGone: The supervisor ended, or gave no answer: it may have been done.
        """
        number = next(self._ids)
        answer = self._orders[number] = self.loop.create_future()
        self.tell(messages.Order(number, verb, names, timeout, options))
        try:
            async with asyncio.timeout(timeout + ORDER_MARGIN_S):
                return await answer
        except TimeoutError:
            where = f"process {self._supervisor_pid}"
            raise SupervisorGone(where, f"it gave no answer within {timeout:g} s") from None
        finally:
            self._orders.pop(number, None)

    def _take_answer(self, answer: messages.Answer) -> None:
        waiting = self._orders.get(answer.id)
        if waiting is None or waiting.done():
            return
        if answer.ok:
            waiting.set_result(answer.data)
        else:
            waiting.set_exception(OrderFailed(answer.code, answer.message, answer.data))

    def _lose_orders(self) -> None:
        """Fail what the supervisor was asked and did not answer: the next one does not know."""
        gone = f"process {self._supervisor_pid}"
        for waiting in self._orders.values():
            if not waiting.done():
                waiting.set_exception(SupervisorGone(gone, "it ended before it answered"))

    async def last_words(self, message: messages.Upward, wait: float = LAST_WORDS_S) -> None:
        """Say something, and close once it was heard, or nobody seems to be there for so long."""
        self.tell(message)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._noted
        self.close()

    async def joined(self) -> None:
        """Return when the supervisor has told the directory."""
        await self._welcomed

    def close(self) -> None:
        """Settle what is in flight and close both sockets."""
        self.closed = True
        self._unwatch_supervisor()
        self._lose_orders()
        self.calls.drop_all(lambda name, method: ServiceLost(name, method, "this program left"))
        if self._timer is not None:
            self._timer.cancel()
        for link in (self._bus, self._control):
            if link is not None:
                link.close()


@asynccontextmanager
async def connect(home: str | Path, timeout: float = CONNECT_S) -> AsyncIterator[Client]:
    """Join a running host from any program, with the same `get_service` family as a service.

    Args:
        home: The host's home, where `run/control.sock` lies.
        timeout: Seconds until a supervisor that does not answer is given up.

    Raises:
        SupervisorGone: Nobody answers there; the text names the path.
    """
    run = sockets.run_folder(Path(home))
    control = sockets.control_path(run)
    until = time.monotonic() + timeout
    while True:
        try:
            sockets.check_listening(control)
            break
        except SupervisorGone:
            if time.monotonic() >= until or not sockets.is_starting(control):
                raise
            await asyncio.sleep(COMING_LOOK_S)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    client = Client(sockets.new_token())
    try:
        client.open(context, control, sockets.bus_path(run))
        try:
            async with asyncio.timeout(timeout):
                await client.joined()
        except TimeoutError:
            raise SupervisorGone(control, f"it gave no answer within {timeout:g} s") from None
        except ConnectionRefusedError as error:
            raise SupervisorGone(control, f"it refused: {error}") from None
        client.watch_supervisor()
        yield client
    finally:
        client.tell(messages.Leave())
        client.close()
        context.term()
