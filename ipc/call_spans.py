"""CLIENT and PRODUCER spans of what a process calls and posts, by OpenTelemetry's conventions.

Imported where traces are on, and in programs that have imported OpenTelemetry themselves. Spans
have names, times and outcomes: no argument, no result, and of errors no text that an author wrote.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .call_state import OpenCall, Outcome
from .calls import CallObserver
from .errors import (
    CallError,
    CallTimeout,
    Overloaded,
    RemoteError,
    ServiceLost,
    ServiceUnavailable,
)
from .mail import DELIVER
from .messages import Value
from .tracing import Sending, packed

SYSTEM = "garrison"
OF_W3C = TraceContextTextMapPropagator()  # the wire's form, whatever a program has set globally


def tracer() -> trace.Tracer:
    """Return the tracer of garrison's own spans."""
    return trace.get_tracer("garrison")


def set_provider(provider: trace.TracerProvider) -> None:
    """Let all tracers of this process, those of libraries too, be a provider's."""
    trace.set_tracer_provider(provider)


def carried(span: trace.Span) -> str:
    """Return a span as a call carries it; empty if it is of no trace."""
    headers: dict[str, str] = {}
    OF_W3C.inject(headers, trace.set_span_in_context(span))
    return packed(headers)


class CallSpans:
    """Begins a span with each call, and ends it with the call's outcome.

    Args:
        inner: Another observer, which is notified first; None: there is none.
        with_texts: Whether spans have the texts of errors that authors wrote.
    """

    def __init__(self, inner: CallObserver | None = None, with_texts: bool = False) -> None:
        self._inner, self._with_texts = inner, with_texts
        self._tracer = tracer()  # of a provider that a program sets later, too
        self._numbers = itertools.count(1)
        self._spans: dict[int, trace.Span] = {}  # of the calls in flight, by their number

    def started(self, call: OpenCall) -> int:
        """Begin the span of a call, as a part of the span that is current."""
        inner = self._inner
        number = next(self._numbers) if inner is None else inner.started(call)
        if call.method == DELIVER:  # its message carries the trace that it was posted in
            return number
        name = f"{call.name}/{call.method}"
        attributes = {"rpc.system.name": SYSTEM, "rpc.method": name, "service.peer.name": call.name}
        span = self._tracer.start_span(name, kind=trace.SpanKind.CLIENT, attributes=attributes)
        call.trace = carried(span)
        if span.is_recording():
            self._spans[number] = span
        return number

    def item(self, number: int, value: Value) -> None:
        """Ignore an item of a stream: its span lasts until its end."""
        if self._inner is not None:
            self._inner.item(number, value)

    def settled(self, number: int, outcome: Outcome | None) -> None:
        """End the span of a call; None: it was cancelled."""
        if self._inner is not None:
            self._inner.settled(number, outcome)
        span = self._spans.pop(number, None)
        if span is None:
            return
        if outcome is None:
            span.set_attribute("garrison.cancelled", True)
        elif isinstance(outcome, CallError):
            fail(span, error_type(outcome), self._text(outcome))
        span.end()

    @contextmanager
    def sending(self, service: str, method: str) -> Iterator[Sending]:
        """Begin the span of a message that is posted; the block posts it.

        Args:
            service: NAME of its receiver.
            method: The receiver's.
        """
        span = self._tracer.start_span(
            f"send {service}",
            kind=trace.SpanKind.PRODUCER,
            attributes=message_attributes("send", "send", service, method),
        )
        sending = Sending(carried(span))
        with trace.use_span(span, record_exception=False, set_status_on_exception=False):
            try:
                yield sending
            except CallError as error:
                fail(span, error_type(error), self._text(error))
                raise
            finally:
                if sending.message_id:
                    span.set_attribute("messaging.message.id", sending.message_id)
                span.end()

    def _text(self, error: CallError) -> str:
        return str(error) if self._with_texts else own_text(error)


def message_attributes(kind: str, name: str, service: str, method: str) -> dict[str, str]:
    """Return the attributes of a span about a posted message.

    Args:
        kind: The operation's type by the conventions: "send" or "process".
        name: The operation's name.
        service: NAME of the message's receiver.
        method: The receiver's.
    """
    return {
        "messaging.system": SYSTEM,
        "messaging.operation.type": kind,
        "messaging.operation.name": name,
        "messaging.destination.name": service,
        "rpc.method": f"{service}/{method}",
    }


def error_type(error: CallError) -> str:
    """Return the class of an error, of a method's exception its own."""
    return error.type_name if isinstance(error, RemoteError) else type(error).__name__


def own_text(error: CallError) -> str:
    """Return what an error says in garrison's own words, without those of an author."""
    match error:
        case CallTimeout() | Overloaded():
            return str(error)
        case ServiceUnavailable():
            return f"not run: the service is {error.state}"
        case ServiceLost():
            return "the service's process ended during the call"
        case _:
            return ""


def fail(span: trace.Span, kind: str, text: str) -> None:
    """Mark a span as failed."""
    span.set_attribute("error.type", kind)
    span.set_status(trace.StatusCode.ERROR, text or None)
