"""A collector of traces on loopback: receives OTLP over HTTP, and keeps spans as plain records."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

HELD_S = 60.0  # longest time that an answer is held back


@dataclass(frozen=True)
class ReceivedSpan:
    """One span, with ids in hexadecimal digits."""

    name: str
    kind: str  # "CLIENT", "SERVER", …
    trace_id: str
    span_id: str
    parent_id: str  # empty: it begins its trace
    service: str  # of its resource
    resource: dict[str, Any]
    attributes: dict[str, Any]
    failed: bool
    text: str  # of its status
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    links: list[str] = field(default_factory=list)  # span ids


class Collector:
    """What a collector has received.

    Attributes:
        url: Its address.
        status: What it answers from now on.
        headers: Of each request.
    """

    def __init__(self, url: str) -> None:
        self.url, self.status = url, 200
        self.headers: list[dict[str, str]] = []
        self._spans: list[ReceivedSpan] = []
        self._lock = threading.Lock()
        self._open = threading.Event()
        self._open.set()

    @property
    def spans(self) -> list[ReceivedSpan]:
        """Return the spans received so far."""
        with self._lock:
            return list(self._spans)

    def named(self, name: str, kind: str = "") -> list[ReceivedSpan]:
        """Return the spans of a name."""
        return [one for one in self.spans if one.name == name and kind in {"", one.kind}]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Answer no request in the block."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    def take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        """Take a request; return the status to answer."""
        self._open.wait(HELD_S)
        with self._lock:
            self.headers.append(headers)
            if path != "/v1/traces" or self.status != 200:
                return 404 if path != "/v1/traces" else self.status
            self._spans += _decoded(body)
        return 200


@contextmanager
def collector(port: int = 0) -> Iterator[Collector]:
    """Run a collector; 0 is any port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        receiver: ClassVar[Collector]

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.send_response(self.receiver.take(self.path, headers, body))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    Handler.receiver = received = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _decoded(body: bytes) -> Iterator[ReceivedSpan]:
    request: Any = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
    kinds: Any = trace_pb2.Span.SpanKind
    for of_resource in request.resource_spans:
        resource = _values(of_resource.resource.attributes)
        for span in (span for scope in of_resource.scope_spans for span in scope.spans):
            yield ReceivedSpan(
                name=span.name,
                kind=kinds.Name(span.kind).removeprefix("SPAN_KIND_"),
                trace_id=span.trace_id.hex(),
                span_id=span.span_id.hex(),
                parent_id=span.parent_span_id.hex(),
                service=resource["service.name"],
                resource=resource,
                attributes=_values(span.attributes),
                failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
                text=span.status.message,
                events=[(event.name, _values(event.attributes)) for event in span.events],
                links=[link.span_id.hex() for link in span.links],
            )


def _values(attributes: Any) -> dict[str, Any]:
    """Return attributes as plain values."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
