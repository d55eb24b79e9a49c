"""SERVER and CONSUMER spans of the methods that a worker runs, by OpenTelemetry's conventions.

Imported where traces are on. A method's span is current while it runs, so libraries that are
instrumented join its trace.
"""

from collections.abc import Callable, Mapping
from contextvars import Context

from opentelemetry import context as contexts
from opentelemetry import trace

from garrison.ipc.call_spans import OF_W3C, SYSTEM, fail, message_attributes, tracer
from garrison.ipc.errors import Fault, RemoteError, from_fault
from garrison.ipc.mail import PostedMessage
from garrison.ipc.messages import Call, Failed, Token
from garrison.ipc.tracing import unpacked
from garrison.workers.agents.models import ModelType

from .redaction import redact_reply

PEERS_MOST = 1_024  # names of callers that are kept
OPERATIONS = {  # by model type, in the words of the conventions for generative AI
    ModelType.TEXT_SMALL: "chat",
    ModelType.TEXT_LARGE: "chat",
    ModelType.TEXT_EMBEDDING: "embeddings",
}
TOKENS = {  # as providers count them → their attribute
    "input": "gen_ai.usage.input_tokens",
    "output": "gen_ai.usage.output_tokens",
    "cached": "gen_ai.usage.cache_read.input_tokens",
}
CANCELLED = "CancelledError"
PLACE = 'File "'  # begins each line of a traceback that names a place in the code

_Key = tuple[Token, int]


class MethodSpans:
    """The spans of the calls that a service runs.

    Args:
        name: NAME of the service.
        peer: Returns the NAME of a caller; empty: it is a program.
        with_texts: Whether spans have the texts of exceptions.
    """

    def __init__(self, name: str, peer: Callable[[Token], str], with_texts: bool) -> None:
        self._name, self._peer, self._with_texts = name, peer, with_texts
        self._tracer = tracer()
        self._peers: dict[Token, str] = {}
        self._spans: dict[_Key, trace.Span] = {}  # of the running calls

    def begin(
        self,
        key: _Key,
        call: Call,
        mail: PostedMessage | None,
        context: Context,
        caller: Token,
    ) -> None:
        """Begin the span of a call, and make it current in the context that its method runs in."""
        parent = OF_W3C.extract(unpacked(call.trace), contexts.Context())
        if mail is None:
            span = self._of_call(caller, call, parent)
        else:
            span = self._of_message(call, mail, parent)
        context.run(contexts.attach, trace.set_span_in_context(span, parent))
        if span.is_recording():
            self._spans[key] = span

    def _of_call(self, caller: Token, call: Call, parent: contexts.Context) -> trace.Span:
        name = f"{self._name}/{call.method}"
        attributes = {"rpc.system.name": SYSTEM, "rpc.method": name}
        if peer := self._peers.get(caller) or self._look_up(caller):
            attributes["service.peer.name"] = peer
        return self._tracer.start_span(name, parent, trace.SpanKind.SERVER, attributes)

    def _look_up(self, token: Token) -> str:
        if len(self._peers) >= PEERS_MOST:
            self._peers.clear()
        name = self._peers[token] = self._peer(token)
        return name

    def _of_message(self, call: Call, mail: PostedMessage, parent: contexts.Context) -> trace.Span:
        """Begin the span of a delivery: a child of the post, and linked to it, as the conventions
        have it for messages that are delivered one by one."""
        attributes = message_attributes("process", "process", self._name, call.method)
        attributes["messaging.message.id"] = mail.id
        if mail.sender:
            attributes["service.peer.name"] = mail.sender
        posted = trace.get_current_span(parent).get_span_context()
        links = [trace.Link(posted)] if posted.is_valid else []
        kind = trace.SpanKind.CONSUMER
        span = self._tracer.start_span(f"process {self._name}", parent, kind, attributes, links)
        if mail.attempt > 1:
            span.set_attribute("garrison.message.attempt", mail.attempt)
        return span

    def note_model(self, model_type: str, provider: str, tokens: Mapping[str, int]) -> None:
        """Put what a request to a model took into the span that is current."""
        span = trace.get_current_span()
        span.set_attribute("gen_ai.operation.name", OPERATIONS.get(model_type, "generate_content"))
        span.set_attribute("gen_ai.provider.name", provider)
        for kind, attribute in TOKENS.items():
            if kind in tokens:
                span.set_attribute(attribute, tokens[kind])

    def failed(self, key: _Key, fault: Fault) -> None:
        """Note the error that a caller gets, without secrets."""
        span = self._spans.get(key)
        if span is None:
            return
        redacted = redact_reply(Failed(key[1], fault))
        assert isinstance(redacted, Failed)
        error = from_fault(redacted.fault)
        remote = isinstance(error, RemoteError)
        kind = error.type_name if isinstance(error, RemoteError) else type(error).__name__
        if kind == CANCELLED:  # by its caller, as a stream is that is left early
            span.set_attribute("garrison.cancelled", True)
            return
        text = redacted.fault.detail if self._with_texts else ""
        fail(span, kind, text)
        if remote:
            span.add_event("exception", self._exception(kind, text, redacted.fault.traceback))

    def _exception(self, kind: str, text: str, traceback: str) -> dict[str, str]:
        if not self._with_texts:  # an exception's text may hold what the method was called with
            places = (line.strip() for line in traceback.splitlines())
            traceback = "\n".join(line for line in places if line.startswith(PLACE))
        found = {
            "exception.type": kind,
            "exception.message": text,
            "exception.stacktrace": traceback,
        }
        return {name: value for name, value in found.items() if value}

    def end(self, key: _Key) -> None:
        """End the span of a call."""
        span = self._spans.pop(key, None)
        if span is not None:
            span.end()
