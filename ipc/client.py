"""The client of a host: `get_service` and its family, calls, streams, posting, events.

`connect(home)` returns one for any program; a worker's runtime has one. Durations are seconds,
sizes are bytes.
"""

import asyncio
import logging
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from contextvars import copy_context
from typing import Any, TypeVar, overload

import msgspec
from msgspec import Raw

from . import mail, watching
from .call_context import CHAIN, DEADLINE
from .call_preparation import prepared
from .call_start import Decode
from .caller import ItemSink, bounded_seconds
from .directory import AWAY, RegistrationStatus, registration_status
from .errors import CallError, OrderFailed, ServiceUnavailable
from .joined_posts import JoinedPosts, Post
from .log_events import LogEvent
from .mail import EVENT
from .messages import CHAIN_MOST, Entry, State, Token, Value
from .proxy import STREAM_CREDIT, ServiceProxy, decoded, service_name_of
from .requests import REQUEST_S
from .session import Session

log = logging.getLogger(__name__)
T = TypeVar("T")


def _plain_proxy(client: "Client", entry: Entry, cls: type | None) -> ServiceProxy:
    return ServiceProxy(client, entry.name, cls)


class Client:
    """Calls the services of a host. It belongs to the loop that made it.

    Args:
        token: The routing id of this process.
        session: Its connection; None: a program's.
        name: The service's own NAME; a program has none.
    """

    def __init__(self, token: Token, session: Session | None = None, name: str = "") -> None:
        self.loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()
        self.session = session or Session(token)
        self.token = token
        self.name = name
        self.agent = ""  # NAME of the agent that it belongs to
        self.now = self.session.now
        self.directory = self.session.directory
        self.calls = self.session.calls
        self.posts = JoinedPosts(self.calls, self, self.now)
        self.proxies: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        self.session.on_listing = self._forget_methods
        self.make_proxy: Callable[[Client, Entry, type | None], Any] = _plain_proxy

    def _forget_methods(self) -> None:
        for proxy in list(self.proxies.values()):
            proxy.__dict__.clear()  # the methods may have changed

    # --- which services there are -----------------------------------------------------------

    @overload
    def get_service(self, wanted: str) -> ServiceProxy | None: ...
    @overload
    def get_service(self, wanted: Callable[..., T]) -> T | None: ...
    def get_service(self, wanted: Any) -> Any:
        """Return a service, or None if it is not configured.

        Args:
            wanted: A NAME; a service_type, then the first wanted of that type in config order; or
                a class or Protocol with a `service_type`, by which results are then converted.
        """
        entry = self.entry_of(wanted)
        return None if entry is None else self.make_proxy(self, entry, service_name_of(wanted)[1])

    def entry_of(self, wanted: str | Callable[..., object]) -> Entry | None:
        """Return the entry of a NAME or else of a type; a class stands for its type alone."""
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
        return [self.make_proxy(self, entry, cls) for entry in entries]

    def get_all_services(self) -> dict[str, list[ServiceProxy]]:
        """Return every service, by its type."""
        types = self.directory.types(self.agent)
        return {name: self.get_services_by_type(name) for name in types}

    def has_service(self, wanted: str | Callable[..., object]) -> bool:
        """Return True if such a service is configured."""
        return self.entry_of(wanted) is not None

    def get_registered_service_types(self) -> list[str]:
        """Return every service_type, in config order."""
        return self.directory.types(self.agent)

    def get_service_registration_status(
        self, wanted: str | Callable[..., object]
    ) -> RegistrationStatus:
        """Return how far a service is: "registered" while it runs, "registering" while it starts,
        "pending" before that and while it is stopped, "failed", or "unknown"."""
        return registration_status(self.entry_of(wanted))

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
        deadline = min(self.now() + bounded_seconds(timeout), DEADLINE.get())
        while True:
            entry = self.entry_of(wanted)
            if self.supervisor_gone:
                raise ServiceUnavailable(name, "", "out of reach: the supervisor has ended")
            if entry is None:
                raise ServiceUnavailable(name, "", "not configured")
            if entry.state is State.RUNNING:
                return self.get_service(wanted)
            if entry.state is State.FAILED or (entry.state in AWAY and not entry.wanted):
                raise ServiceUnavailable(entry.name, "", _state_and_reason(entry))
            try:
                async with asyncio.timeout(max(deadline - self.now(), 0)):
                    await self.session.waiters.next_change(entry.name)
            except TimeoutError:
                detail = f"still {_state_and_reason(entry)}"
                raise ServiceUnavailable(entry.name, "", detail) from None

    async def emit_event(self, event: str, payload: Any = None, durable: bool = False) -> None:
        """Send an event to every subscriber; return when each has handled it or failed.

        A subscriber that fails is logged, and does not affect the others.

        Args:
            event: Its name.
            payload: Any value that can be encoded.
            durable: Post it to all services that ever subscribed, and return once it is on disk.
        """
        if durable:
            await mail.post_event(self, event, payload)
            return
        targets = [entry.name for entry in self.directory.subscribers(event, self.agent)]
        await self.emit_to(targets, event, payload)

    async def emit_to(self, targets: list[str], event: str, payload: Any) -> None:
        """Call these services' handlers of an event; return when each has handled it or failed."""
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

    # --- posted messages --------------------------------------------------------------------

    async def post(
        self,
        service: str | Callable[..., object],
        method: str,
        *args: Any,
        key: str | None = None,
        expires: float | None = None,
        lane: str | None = None,
        **kwargs: Any,
    ) -> str:
        """Post a message: a call that is made once its service runs, however long that takes.

        It returns the message's id once the message is on disk. The mailbox delivers in order, at
        least once.

        Args:
            service: As `get_service` takes it.
            method: One of its methods, but no stream.
            args: Its arguments.
            key: A second message with the same key is ignored, so posting can be repeated.
            expires: Seconds after which a message that was not delivered is dropped.
            lane: Messages to the service with the same lane are delivered in order, one after the
                other; those of other lanes beside them, up to its `mail_window`. None: in order
                with all others without a lane.
            kwargs: Its arguments.

        Raises:
            ServiceUnavailable: No such service, or no mailbox, is configured.
            InvalidCall: There is no such method, or the arguments cannot be encoded.
            Overloaded: The mailbox is full: post again later.
            ServiceLost: The mailbox's process ended meanwhile: the message may be on disk. With a
                key it is posted again automatically, and can be posted again safely.
        """
        return await mail.post(self, service, method, args, kwargs, key, expires, lane)

    def new_post(self, request: mail.PostRequest, size: int, keyed: bool) -> Post | None:
        """Return a post with its deadline; None if it is to be a call of its own: where traces are
        on, a call is a part of its caller's trace."""
        chain, now, timeout = CHAIN.get(), self.now(), self.session.limits.timeout
        if self.calls.producer is not None or len(chain) >= CHAIN_MOST:
            return None
        deadline, outer = now + timeout, DEADLINE.get()
        if outer < deadline:
            deadline, timeout = outer, max(outer - now, 0.001)
        future: asyncio.Future[str] = self.loop.create_future()
        behind = chain, copy_context(), future
        return Post(request, size, keyed, deadline, timeout, *behind)

    def generation_of(self, name: str) -> int:
        """Return the generation of the incarnation that accepts calls; 0: none does."""
        entry = self.directory.get(name)
        return entry.generation if entry is not None and entry.token else 0

    def mail_window_of(self, name: str) -> int:
        """Return how many posted messages may be in delivery to a service at the same time."""
        entry = self.directory.get(name)
        return entry.manifest.mail_window if entry is not None else 1

    def on_service_change(self, notice: Callable[[str], None]) -> None:
        """Call a function with a service's NAME after each change of it."""
        self.session.on_change.append(notice)

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
    ) -> int:
        """Start a call; a future receives its outcome. Cancelling the future cancels the call.

        Return the call's id; 0 if it was refused.
        """

        def settle(outcome: Value | CallError) -> None:
            if future.done():
                return
            future.remove_done_callback(cancel_if)  # it costs more to be called than to be removed
            if type(outcome) is not Raw and isinstance(outcome, CallError):
                future.set_exception(outcome)
                return
            try:
                future.set_result(decoded(decode, outcome, name, method))
            except CallError as error:
                future.set_exception(error)

        def cancel_if(done: asyncio.Future[Any]) -> None:
            if done.cancelled():
                self.cancel(call_id)

        now = self.now()
        call = prepared(self.session, name, method, args, kwargs, timeout, settle, now)
        if call is None:
            return 0
        call.idempotent = idempotent
        call_id = call.id
        self.calls.start(call, now)
        if not future.done():
            future.add_done_callback(cancel_if)
            if call.deadline < self.session.deadlines.due_at:
                self.session.deadlines.schedule()
        return call_id

    async def call_method(
        self,
        service: str,
        method: str,
        args: tuple[Any, ...],
        result: Any = Any,
        timeout: float | None = None,
        idempotent: bool = False,
    ) -> Any:
        """Call a method that need not be in the service's manifest.

        Args:
            service: A NAME.
            method: The method's name on the wire; it begins with `$` if it is not an author's.
            args: Positional arguments.
            result: The type that the result is converted to.
            timeout: Seconds; None is the session's default.
            idempotent: Running it twice does no harm, so a lost call is sent again.

        Raises:
            CallError: The call failed.
        """
        future: asyncio.Future[Any] = self.loop.create_future()
        decode = msgspec.msgpack.Decoder(result).decode
        self.call(service, method, args, {}, timeout, decode, future, idempotent)
        return await future

    def stream(
        self,
        name: str,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: float | None,
        stream: ItemSink,
    ) -> int:
        """Start a stream; return its call's id."""
        # Weak: an iterator that its caller no longer holds is collected, which cancels the call.
        reference = weakref.ref(stream)

        def settle(outcome: Value | CallError) -> None:
            if (alive := reference()) is not None:
                alive.settle(outcome)

        def item(value: Value) -> None:
            if (alive := reference()) is not None:
                alive.arrived(value)

        def wants_more() -> bool:
            alive = reference()
            return alive is not None and alive.wants_more

        now = self.now()
        call = prepared(self.session, name, method, args, kwargs, timeout, settle, now)
        if call is None:
            return 0
        call.item, call.wants_more, call.credit = item, wants_more, STREAM_CREDIT
        self.calls.start(call, now)
        self.session.deadlines.schedule()
        return call.id

    def cancel(self, call_id: int) -> None:
        """Cancel a call, and the method that it runs."""
        self.calls.cancel(call_id, self.now())

    def schedule(self) -> None:
        """Set the timer of deadlines."""
        self.session.deadlines.schedule()

    # --- the supervisor ---------------------------------------------------------------------

    async def order(
        self, verb: str, names: tuple[str, ...] = (), timeout: float = REQUEST_S, **options: Any
    ) -> Any:
        """Send the supervisor a request, as the command line does; return its answer's data.

        Args:
            verb: One of the supervisor's.
            names: NAMEs and globs.
            timeout: Seconds until the supervisor answers that the time is over.
            options: The verb's other arguments; `behalf` is the uid of a user, as whose order the
                supervisor treats it.

        Raises:
            OrderFailed: The request failed; `code` is the reason.
            SupervisorGone: The supervisor ended or did not answer. The request may have been
                carried out.
        """
        if options.get("follow"):  # it has many answers, and this returns one
            raise OrderFailed("usage", f"{verb}: use client.events() or client.logs() to follow")
        return await self.session.request(verb, names, bounded_seconds(timeout), options)

    def events(
        self, *names: str, number: int = 0, follow: bool = True, poll: float = watching.POLL_S
    ) -> AsyncIterator[LogEvent]:
        """Return the host's events, of some NAMEs and globs or all, read from its files.

        Args:
            names: NAMEs and globs; none: also the events of the host itself.
            number: How many recorded events come first, the last ones.
            follow: Whether to go on with new events, until this client is closed.
            poll: Seconds between reads of the files.
        """
        return watching.events(self.session, names, number, follow, poll)

    def logs(
        self, *names: str, number: int = 0, follow: bool = True, poll: float = watching.POLL_S
    ) -> AsyncIterator[tuple[str, str]]:
        """Return the NAME and line of what services write, as `events` does; merged by time."""
        return watching.lines(self.session, names, number, follow, poll)

    @property
    def timeout(self) -> float:
        """Return the deadline of a call that names none, in seconds."""
        return self.session.limits.timeout

    @property
    def max_message(self) -> int:
        """Return the largest message, in bytes."""
        return self.session.limits.max_message

    @property
    def boot(self) -> str:
        """Return the id of the supervisor process that this client joined last."""
        return self.session.boot

    @property
    def refused(self) -> int:
        """Return how many frames could not be decoded."""
        return self.session.refused

    @property
    def supervisor_gone(self) -> bool:
        """Return True if the supervisor has ended and no other will follow."""
        return self.session.supervisor_gone

    @property
    def is_alone(self) -> bool:
        """Return True if the supervisor that this program joined has ended."""
        return self.session.is_alone

    def close(self) -> None:
        """Settle what is in flight and leave the host."""
        self.session.close()


def _state_and_reason(entry: Entry) -> str:
    state = entry.state.value
    return f"{state}: {entry.reason}" if entry.reason else state
