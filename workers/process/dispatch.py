"""Runs the calls that a service receives: conversion, threads, streams, drain.

It belongs to one service and its event loop. An exception of a method goes to its caller; it does
not end the service.
"""

import asyncio
import contextvars
import functools
import hashlib
import logging
import math
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from garrison.ipc import frames, messages, values
from garrison.ipc.call_context import ATTRIBUTION, CALL_ID, CHAIN, DEADLINE
from garrison.ipc.call_preparation import MARGIN
from garrison.ipc.declared_errors import DeclaredError
from garrison.ipc.error_text import type_name
from garrison.ipc.errors import Fault, InvalidCall, Overloaded, RemoteError, ServiceLost
from garrison.ipc.mail import DELIVER, MESSAGE, PostedMessage, unpack_delivery
from garrison.ipc.messages import Call, Held, Token, encodable, is_direct, should_log
from garrison.ipc.tracing import TRACE
from garrison.workers.caller import CALLER
from garrison.workers.service import Service

from .dead_letter_notices import DeadLetterNotices
from .internal_methods import METHODS, InternalMethods, bound, methods_of
from .method_threads import THREADS, MethodThreads, Refusal
from .methods import InvalidArguments, Method, MethodKind
from .redaction import redacted
from .running_call import Credits, Key, RunningCall
from .tracebacks import error_text, formatted, one_line

if TYPE_CHECKING:
    from .method_spans import MethodSpans

log = logging.getLogger(__name__)

TRACEBACK_BYTES = 8 * 1024
RUNNING_MOST = 16_384  # calls that run concurrently, of all callers
NESTED = "RemoteError: "  # begins the text of an error that a call of the method raised
CUT_S = 0.25  # for a call that a drain cuts short to end, before its caller gets an error
HELD_MOST = 16  # calls that are named as what a drain waits for, the oldest ones
SEND = "send_message"  # a method that a call's id is of use to: a `Platform` sends once by it
NOTICE_METHODS = methods_of(DeadLetterNotices)

_encode = values.encode


class Dispatch:
    """Runs the methods of one service for its callers.

    Args:
        name: NAME of the service.
        send: Sends a reply to a caller.
        internal: The internal methods of this worker.
        max_message: Largest frame, in bytes.
        threads: Number of plain methods that run at once.
    """

    def __init__(
        self,
        name: str,
        send: Callable[[Token, messages.Data], None],
        internal: InternalMethods,
        max_message: int,
        threads: int = THREADS,
    ) -> None:
        self._name = name
        self._send = send
        self._internal = internal
        self.limit_to(max_message)
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()  # without any call's variables
        self._service: Service | None = None
        self._methods: dict[str, Method] = {}
        self._bound: dict[str, Callable[..., Any]] = {}
        self._running: dict[Key, RunningCall] = {}
        self._cut = ""  # why running calls are cut short, once they are
        self.callers: Mapping[Token, Token] = {}  # incarnations that call directly, by address
        self.threads = MethodThreads(name, threads)
        self._idle: asyncio.Future[None] | None = None  # done when no call runs; of a drain
        self._hops: dict[str, str] = {}  # names in a chain of calls
        self._unsent = 0  # values that could not travel
        self.draining = False
        self.spans: MethodSpans | None = None  # of the running calls, where traces are on

    def limit_to(self, max_message: int) -> None:
        """Send no larger frames from now on."""
        self._most = max_message - MARGIN

    def serve(
        self, service: Service, methods: dict[str, Method], faults: object | None = None
    ) -> None:
        """Accept calls from now on.

        Args:
            service: The running service.
            methods: Its methods.
            faults: The methods of `garrison chaos`, where the config permits them.
        """
        self._service = service
        notices = DeadLetterNotices(service)
        self._methods = {**METHODS, **NOTICE_METHODS, **methods}
        own = {name: getattr(service, name) for name in methods}
        self._bound = {**bound(self._internal), **bound(notices, NOTICE_METHODS), **own}
        if faults is not None:
            fault_methods = methods_of(type(faults))
            self._methods |= fault_methods
            self._bound |= bound(faults, fault_methods)
        self._hops = {name: f"{self._name}.{name}" for name in self._methods}

    def trace_by(self, spans: "MethodSpans") -> None:
        """Begin a span with each call from now on."""
        self.spans = spans
        self._internal.note_model = spans.note_model

    @property
    def in_flight(self) -> int:
        """Return the number of running calls."""
        return len(self._running)

    def call(self, source: Token, call: Call) -> None:
        """Start a call."""
        key = (source, call.id)
        if self.draining or self._service is None:
            self._send(source, messages.Refused(call.id))
            return
        if len(self._running) >= RUNNING_MOST:
            error = Overloaded(self._name, call.method, f"it already runs {RUNNING_MOST} calls")
            self._fail(key, error.fault())
            return
        if key in self._running:
            return  # a repeated id
        mail: PostedMessage | None = None
        if call.method == DELIVER:
            try:
                mail, call = unpack_delivery(call)
            except messages.BAD_BYTES as error:
                self._refuse(key, call.method, f"it is not a posted message: {error}")
                return
        method = self._methods.get(call.method)
        if method is None:
            self._refuse(key, call.method, "no such method")
            return
        if mail is not None and method.kind is MethodKind.STREAM:
            self._refuse(key, call.method, "a stream cannot be posted")
            return
        try:
            args, kwargs = method.bind(call)
        except InvalidArguments as error:
            self._refuse(key, call.method, str(error))
            return
        function = self._bound[call.method]
        run = RunningCall(key, call, self._loop.time(), mail)
        if method.kind is MethodKind.STREAM:
            run.credits = Credits(call.credit)
            self._begin(run, self._stream(run, run.credits, function, args, kwargs))
        else:
            if method.kind is MethodKind.THREAD:
                function = functools.partial(self._in_thread, call, function)
            self._begin(run, self._answer(run, function, args, kwargs))

    def _begin(self, run: RunningCall, work: Coroutine[Any, Any, None]) -> None:
        key, context = run.key, self._context.copy()
        self._running[key] = run
        if self.spans is not None:
            caller = self.callers.get(key[0], key[0])
            self.spans.begin(key, run.call, run.mail, context, caller)
        # Not by `create_task`: the loop's task factory is for tasks of the service's own.
        # A name of its own would be made for each.
        name = self._hops[run.call.method]
        run.task = asyncio.Task(work, loop=self._loop, name=name, context=context)

    def cancel(self, source: Token, call_id: int) -> None:
        """Cancel a call that its caller has given up."""
        run = self._running.get((source, call_id))
        if run is not None:
            self._cancel(run)

    def credit(self, source: Token, call_id: int, items: int) -> None:
        """Permit more items of a stream."""
        run = self._running.get((source, call_id))
        if run is not None and run.credits is not None:
            run.credits.grant(items)

    def caller_ended(self, source: Token) -> None:
        """Cancel all calls of a caller whose process has ended."""
        for key, run in list(self._running.items()):
            if key[0] == source:
                self._cancel(run)

    def router_changed(self) -> None:
        """Cancel the streams and posted messages that came through the old router: their callers
        gave them up with it.
        A posted message is delivered again, and must not run twice concurrently."""
        for key, run in list(self._running.items()):
            if (run.credits is not None or run.mail is not None) and not is_direct(key[0]):
                self._cancel(run)

    def held(self) -> tuple[Held, ...]:
        """Return the running calls, the oldest first."""
        now = self._loop.time()
        oldest = sorted(self._running.values(), key=lambda run: run.since)[:HELD_MOST]
        return tuple(
            Held(
                "stream" if run.credits is not None else "call",
                run.call.method,
                self.callers.get(run.key[0], run.key[0]),
                now - run.since,
                run.task is not None and run.task.cancelling() > 0,
            )
            for run in oldest
        )

    async def drain(self, seconds: float, reason: str = "it was stopped") -> bool:
        """Refuse new calls, and wait for the running ones; end those that run longer.

        Their callers get `ServiceLost`, also those of a method that resists its cancellation.

        Args:
            seconds: How long to wait.
            reason: Why the service ends, in words.

        Returns:
            Whether all calls have ended by themselves.
        """
        self.draining = True
        if not self._running:
            return True
        self._idle = self._loop.create_future()
        try:
            async with asyncio.timeout(seconds):
                await self._idle
        except TimeoutError:
            if self._running:  # the last one may have ended in the same turn
                await self._end_running(reason, seconds)
                return False
        return True

    async def _end_running(self, reason: str, seconds: float) -> None:
        self._cut = f"{reason}, and the call did not end within {seconds:.3g} s"
        running = {run.task: run for run in self._running.values() if run.task is not None}
        for run in running.values():
            self._cancel(run)
        _, resisting = await asyncio.wait(running, timeout=CUT_S)
        for task in resisting:
            run = running[task]
            self._fail(run.key, self._lost(run.call))

    def _lost(self, call: Call) -> Fault:
        return ServiceLost(self._name, call.method, self._cut).fault()

    def _enter(self, run: RunningCall) -> None:
        """Set the variables of a call, in its context: it takes its first step."""
        call, source = run.call, run.key[0]
        caller = self.callers.get(source, source)
        CALLER.set(caller)
        # A stream has no total deadline.
        DEADLINE.set(math.inf if run.credits is not None else self._loop.time() + call.timeout)
        CHAIN.set((*call.chain, self._hops[call.method]))
        if call.attribution is not None:
            ATTRIBUTION.set(call.attribution)
        if call.trace:
            TRACE.set(call.trace)
        if run.mail is not None:
            MESSAGE.set(run.mail)
        if call.method == SEND:
            CALL_ID.set([_call_id((caller, run.key[1]), run.mail)])

    def _cancel(self, run: RunningCall) -> None:
        assert run.task is not None
        # A task that has not taken its first step does not run its `finally` clauses.
        run.task.add_done_callback(lambda _: self._end(run))
        run.task.cancel()

    def _end(self, run: RunningCall) -> None:
        running = self._running
        running.pop(run.key, None)
        if self.spans is not None:
            self.spans.end(run.key)
        if self._idle is not None and not running and not self._idle.done():
            self._idle.set_result(None)

    async def _answer(
        self,
        run: RunningCall,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self._enter(run)
        key, call = run.key, run.call
        try:
            value = await function(*args, **kwargs)
            try:  # costs nothing unless it fails
                result = frames.result(value, _encode, call.frames)
            except values.BAD_VALUE as error:
                raise self._unsendable(call.method, "result", value, error) from None
            if len(result) > self._most:
                raise ValueError(
                    f"its result has {len(result)} bytes, more than max_message permits"
                )
        except asyncio.CancelledError:
            self._cancelled(key, call)
        except Refusal as refusal:
            self._fail(key, refusal.error.fault())
        except (KeyboardInterrupt, SystemExit):  # they end this process
            raise
        except BaseException as error:  # noqa: BLE001 (its caller receives it)
            self._fail(key, self._fault(call.method, error))
        else:
            self._send(key[0], messages.Reply(key[1], result))
        finally:
            self._end(run)

    async def _stream(
        self,
        run: RunningCall,
        credits: Credits,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        key, call = run.key, run.call
        self._enter(run)
        items = function(*args, **kwargs)
        try:
            async for value in items:
                try:
                    item = frames.result(value, _encode, call.frames)
                except values.BAD_VALUE as error:
                    raise self._unsendable(call.method, "item", value, error) from None
                if len(item) > self._most:
                    raise ValueError(
                        f"an item has {len(item)} bytes, more than max_message permits"
                    )
                await credits.take()
                self._send(key[0], messages.Item(key[1], item))
        except asyncio.CancelledError:
            self._cancelled(key, call)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 (its caller receives it)
            self._fail(key, self._fault(call.method, error))
        else:
            self._send(key[0], messages.Done(key[1]))
        finally:
            try:
                await items.aclose()
            except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001 (the caller has its answer already)
                trace = formatted(error).rstrip()
                log.error("stream.close service=%s method=%s\n%s", self._name, call.method, trace)
            finally:
                self._end(run)

    async def _in_thread(
        self, call: Call, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        work = functools.partial(function, *args, **kwargs)
        return await self.threads.run(call.method, call.timeout, work)

    def _cancelled(self, key: Key, call: Call) -> None:
        """Reply to a caller that may still wait: the service may have cancelled its own method."""
        if self._cut:
            self._fail(key, self._lost(call))
            return
        fault = RemoteError(self._name, call.method, "CancelledError: the method was cancelled")
        self._fail(key, fault.fault())

    def _refuse(self, key: Key, method: str, reason: str) -> None:
        self._fail(key, InvalidCall(self._name, method, reason).fault())

    def _fail(self, key: Key, fault: Fault) -> None:
        if self.spans is not None:
            self.spans.failed(key, fault)
        self._send(key[0], messages.Failed(key[1], fault))

    def _unsendable(self, method: str, what: str, value: object, error: Exception) -> TypeError:
        """Log why a value of a method cannot travel; return the error for its caller."""
        problem = encodable(redacted(values.problem(value, error, what)))[:2000]
        self._unsent += 1
        if should_log(self._unsent):
            log.error("%s.unsent service=%s method=%s %s", what, self._name, method, problem)
        return TypeError(f"its {what} cannot travel: {problem}")

    def _fault(self, method: str, error: BaseException) -> Fault:
        """Convert a method's exception to its form on the wire."""
        name, text = type_name(error), error_text(error)
        if type(error) is RemoteError and error.detail.startswith(NESTED):
            # It passed through more calls. The traceback has them all; here the first cause counts.
            text = error_text(error).partition(NESTED)[2]
        detail = f"{name}: {text}" if text else name
        trace = formatted(error)[-TRACEBACK_BYTES:]
        if issubclass(type(error), DeclaredError):  # `isinstance` reads what an author can hide
            try:
                return error.fault_of(self._name, method, trace, _clean)  # type: ignore
            except BaseException as why:  # noqa: BLE001 (an author's class may do anything)
                shown = one_line(why)
                log.error("error.unsent service=%s method=%s %s", self._name, method, shown)
        return Fault("RemoteError", self._name, method, encodable(detail)[:2000], trace)


def _clean(text: str) -> str:
    """Return a text that can be encoded, without secrets."""
    return encodable(redacted(text))


def _call_id(key: Key, mail: PostedMessage | None) -> str:
    """Return an id that a call keeps when it is sent or delivered again."""
    if mail is not None:
        return f"posted/{mail.id}"
    caller = hashlib.blake2s(key[0], digest_size=8).hexdigest()  # the token itself is an address
    return f"call/{caller}/{key[1]}"
