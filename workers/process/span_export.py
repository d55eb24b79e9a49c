"""Sends a worker's spans to a collector, from a thread, by OpenTelemetry's SDK.

Preloaded in the launcher where traces are on, so it starts nothing when it is imported. A collector
that does not answer costs spans, which are counted, and one line in the log: it blocks no method.
"""

import contextlib
import logging
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace import export as exporting
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, TraceIdRatioBased

log = logging.getLogger(__name__)

PATH = "/v1/traces"  # of OTLP over HTTP
TIMEOUT_S = 10.0  # for one batch, with the library's own retries
REASON_MOST = 200  # characters
EXPORTER_LOG = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
QUEUE_LOG = "opentelemetry.sdk._shared_internal"
TRANSIENT, GIVEN_UP = "Transient error ", "due to timeout, max retries"  # texts of the exporter
SYSTEM_ERROR = re.compile(r"\[Errno -?\d+\] [A-Z][\w ]*")
OWN_ADDRESS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


with contextlib.suppress(Exception):  # a worker reports what is wrong
    # What it imports then, 5 MiB, workers share. No connection is opened, and no thread started.
    trace_exporter.OTLPSpanExporter(endpoint="http://127.0.0.1:9")


class Losses:
    """Counts spans that were lost, and reports when that begins and ends. From any thread.

    Args:
        address: The collector's, for the text.
        changed: Called with a line for `garrison status`; None: nothing is being lost.
    """

    def __init__(self, address: str, changed: Callable[[str | None], None]) -> None:
        self._address, self._changed = address, changed
        self._lock = threading.Lock()
        self._reason = ""
        self.lost = 0
        self.failing = False  # the last batch was not taken

    def failed(self, spans: int) -> None:
        """Count the spans of a batch that was not taken."""
        with self._lock:
            begins, self.failing = not self.failing, True
            self.lost += spans
        text = f"traces: {self.lost} spans lost, {self._address} takes none: {self._reason}"
        if begins:
            log.warning("traces.lost address=%s reason=%r", self._address, self._reason)
        self._changed(text)

    def sent(self) -> None:
        """Note that a batch was taken."""
        with self._lock:
            ended, self.failing = self.failing, False
        self._reason = ""
        if ended:
            log.info("traces.sent address=%s lost=%d", self._address, self.lost)
            self._changed(None)

    def overflowed(self) -> None:
        """Count a span that the full queue has dropped."""
        with self._lock:
            self.lost += 1

    def from_exporter(self, record: logging.LogRecord) -> bool:
        """Keep what the exporter logs of a failure as its reason, in place of a line for each."""
        text = record.getMessage()
        if text.startswith(TRANSIENT):
            self._reason = shortened(
                text.removeprefix(TRANSIENT).partition(" encountered while")[0]
            )
        elif not (self._reason and GIVEN_UP in text):
            self._reason = shortened(text)
        return False

    def from_queue(self, record: logging.LogRecord) -> bool:
        """Count what the queue logs of a span that it dropped, in place of a line for each."""
        if not record.getMessage().startswith("Queue full"):
            return True
        self.overflowed()
        return False


class CountingExporter:
    """A SpanExporter whose failures are counted.

    Args:
        inner: Sends the spans.
        losses: Counts.
    """

    def __init__(self, inner: exporting.SpanExporter, losses: Losses) -> None:
        self._inner, self._losses = inner, losses

    def export(self, spans: Sequence[ReadableSpan]) -> exporting.SpanExportResult:
        """Send spans, from the processor's thread."""
        result: exporting.SpanExportResult = self._inner.export(spans)
        if result is exporting.SpanExportResult.SUCCESS:
            self._losses.sent()
        else:
            self._losses.failed(len(spans))
        return result

    def shutdown(self) -> None:
        """Close the connection."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Return True: nothing is kept here."""
        return True


def make_provider(
    address: str,
    ratio: float,
    headers: Mapping[str, str],
    resource: Mapping[str, str],
    changed: Callable[[str | None], None],
) -> tuple[TracerProvider, Losses]:
    """Return a provider of tracers; a thread sends what it records from now on.

    The variables OTEL_… of the environment count, as the SDK reads them, before the arguments.

    Args:
        address: The collector's, without the path.
        ratio: How many of the traces that begin here are recorded, 0 to 1.
        headers: Of each request.
        resource: Attributes of the service.
        changed: Called from any thread with a line about lost spans; None removes it.
    """
    shown = next((os.environ[name] for name in OWN_ADDRESS if name in os.environ), address)
    losses = Losses(without_user(shown), changed)
    # First: the SDK's own filter hides all but the first of equal lines
    logging.getLogger(EXPORTER_LOG).filters.insert(0, losses.from_exporter)
    logging.getLogger(QUEUE_LOG).filters.insert(0, losses.from_queue)
    exporter = trace_exporter.OTLPSpanExporter(
        endpoint=None if shown != address else address.rstrip("/") + PATH,
        headers=dict(headers) or None,
        timeout=None if "OTEL_EXPORTER_OTLP_TIMEOUT" in os.environ else TIMEOUT_S,
    )
    own_name = {"service.name"} if "OTEL_SERVICE_NAME" in os.environ else set()
    attributes = {name: value for name, value in resource.items() if name not in own_name}
    provider = TracerProvider(
        sampler=_sampler(ratio), resource=Resource.create(attributes), shutdown_on_exit=False
    )
    counting: Any = CountingExporter(exporter, losses)
    provider.add_span_processor(exporting.BatchSpanProcessor(counting))
    return provider, losses


def shortened(reason: str) -> str:
    """Return the system's error of a long reason, or its beginning."""
    found = SYSTEM_ERROR.search(reason)
    return found[0] if found else reason[:REASON_MOST]


def without_user(address: str) -> str:
    """Return an address without a user and password."""
    scheme, separator, rest = address.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else address


def _sampler(ratio: float) -> Sampler | None:
    """Return the sampler; None: the environment names one."""
    return None if "OTEL_TRACES_SAMPLER" in os.environ else ParentBased(TraceIdRatioBased(ratio))
