"""The thread that sends spans: a queue with a bound, and losses that are counted, not logged."""

import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from tests.support.otlp_server import Collector, collector
from tests.support.waiting import until

from garrison.workers.process.span_export import (
    EXPORTER_LOG,
    QUEUE_LOG,
    Losses,
    make_provider,
    without_user,
)
from garrison.workers.process.traces import headers_of

RESOURCE = {"service.name": "echo", "service.version": "1"}


@pytest.fixture
def receiver() -> Iterator[Collector]:
    """Run a collector."""
    with collector() as running:
        yield running


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a function that makes a provider; it is shut down afterwards."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    made: list[TracerProvider] = []

    def make(address: str, ratio: float = 1.0, **headers: str) -> Any:
        lines: list[str | None] = []
        provider, losses = make_provider(address, ratio, headers, RESOURCE, lines.append)
        made.append(provider)
        return provider.get_tracer("test"), losses, lines

    yield make
    for provider in made:
        provider.shutdown()
    for name in (EXPORTER_LOG, QUEUE_LOG):
        del logging.getLogger(name).filters[0]


def is_lost(losses: Losses, number: int) -> bool:
    """Return whether so many spans were lost."""
    return losses.lost == number


def test_spans_are_sent_with_the_headers(make: Any, receiver: Collector) -> None:
    """And with the attributes of the service."""
    tracer, losses, lines = make(receiver.url, authorization="Bearer x")
    tracer.start_span("work").end()
    (span,) = until(lambda: receiver.spans)

    assert span.name == "work"
    assert RESOURCE.items() <= span.resource.items()
    assert receiver.headers[0]["authorization"] == "Bearer x"
    assert (losses.lost, lines) == (0, [])


def test_the_services_own_variables_come_first(
    make: Any, receiver: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its address, its sampler and its name."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "other")
    tracer, *_ = make("http://127.0.0.1:9", 0.0)
    tracer.start_span("work").end()
    (span,) = until(lambda: receiver.spans)
    assert span.service == "other"


def test_a_ratio_of_traces_is_recorded(make: Any, receiver: Collector) -> None:
    """0 is none of those that begin here."""
    tracer, *_ = make(receiver.url, 0.0)
    assert not tracer.start_span("work").is_recording()


def test_a_full_queue_drops_and_counts(
    make: Any, receiver: Collector, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """However much is recorded, the memory has a bound, and the log no line for each."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "4")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
    tracer, losses, _ = make(receiver.url)
    with receiver.held():
        for _ in range(20):
            tracer.start_span("work").end()
        assert 12 <= losses.lost <= 16  # four wait, and four may be on their way
    until(lambda: len(receiver.spans) == 20 - losses.lost)
    assert caplog.text == ""


def test_losses_are_reported_when_they_begin_and_end(
    make: Any, receiver: Collector, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """One line of the log, and one of `status` that is removed."""
    receiver.status = 400
    caplog.set_level(logging.INFO)
    tracer, losses, lines = make(receiver.url)
    for number in range(1, 4):
        tracer.start_span("work").end()
        until(partial(is_lost, losses, number))
    receiver.status = 200
    tracer.start_span("work").end()
    until(lambda: receiver.spans)
    until(lambda: lines[-1] is None)

    assert [line is not None for line in lines] == [True, True, True, False]
    assert lines[2] is not None
    assert "3 spans lost" in lines[2]
    assert "400" in lines[2]
    assert [record.msg.split()[0] for record in caplog.records] == ["traces.lost", "traces.sent"]


def test_a_collector_that_is_away_has_its_reason(make: Any, monkeypatch: Any) -> None:
    """The system's own words, not those of the layers above."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2")
    with collector() as gone:
        url = gone.url
    tracer, losses, lines = make(url)
    tracer.start_span("work").end()
    until(partial(is_lost, losses, 1))
    assert until(lambda: lines) == [
        f"traces: 1 spans lost, {url} takes none: [Errno 111] Connection refused"
    ]


def test_an_address_is_shown_without_a_password() -> None:
    """A variable of the service may have one."""
    assert without_user("http://user:pw@host:4318/x") == "http://host:4318/x"
    assert without_user("http://host:4318") == "http://host:4318"
    assert without_user("nonsense") == "nonsense"


def test_headers_are_read_as_the_variable_has_them() -> None:
    """Percent-encoded, with spaces around."""
    assert headers_of("Authorization=Bearer%20a, x = 1,nonsense,") == {
        "authorization": "Bearer a",
        "x": "1",
        "nonsense": "",
    }
    assert headers_of("") == {}
