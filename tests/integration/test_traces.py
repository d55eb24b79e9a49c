"""Traces of calls, received by a collector: OTLP over HTTP, on loopback."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from tests.support.host import Host, hosting
from tests.support.otlp_server import Collector, ReceivedSpan, collector
from tests.support.waiting import eventually, until

from garrison.ipc import RemoteError, ServiceLost

TOKEN = f"s3cret-{os.getpid()}-token"
SECRET = f"b0t-{os.getpid()}-secret"
CONFIG = """
[host]
traces = "{url}"
traces_headers = "COLLECTOR_HEADERS"
[defaults]
env = {{ OTEL_BSP_SCHEDULE_DELAY = "20" }}
[plugins.traced]
[plugins.mailbox]
[services.front]
plugin = "traced"
[services.front.config]
next = "middle"
[services.middle]
plugin = "traced"
[services.middle.config]
next = "back"
[services.back]
plugin = "traced"
secrets = ["A_TOKEN"]
"""
AGENT = """
[plugins.agent]
[plugins.chat]
[plugins.eliza]
"""
ENV = {"COLLECTOR_HEADERS": f"authorization=Bearer%20{TOKEN}", "A_TOKEN": SECRET}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Collector]:
    """Run the collector."""
    with collector() as running:
        yield running


@pytest.fixture(scope="module")
def traced(receiver: Collector) -> Iterator[Host]:
    """Run three services that call each other."""
    with hosting(CONFIG.format(url=receiver.url) + AGENT, ["traced"], env=ENV) as running:
        yield running


def whole(receiver: Collector, root: str, number: int) -> list[ReceivedSpan]:
    """Return the spans of the last trace that begins with such a span, once there are so many."""

    def found() -> list[ReceivedSpan]:
        roots = [one for one in receiver.named(root) if not one.parent_id]
        if not roots:
            return []
        spans = [one for one in receiver.spans if one.trace_id == roots[-1].trace_id]
        return spans if len(spans) >= number else []

    return until(found, what=f"a trace of {number} spans that begins with {root}")


def whole_of(receiver: Collector, trace_id: str, number: int) -> list[ReceivedSpan]:
    """Return the spans of a trace, once there are so many."""

    def found() -> list[ReceivedSpan]:
        spans = [one for one in receiver.spans if one.trace_id == trace_id]
        return spans if len(spans) >= number else []

    return until(found, what=f"{number} spans of {trace_id}")


def content(path: Path | str) -> str:
    """Return what a file holds."""
    return Path(path).read_text("utf-8", "replace")


def chain(spans: list[ReceivedSpan]) -> list[tuple[str, str, str]]:
    """Return kind, name and service of spans, each the only child of the one before."""
    by_parent = {one.parent_id: one for one in spans}
    assert len(by_parent) == len(spans), spans
    found, at = list[tuple[str, str, str]](), ""
    while (span := by_parent.get(at)) is not None:
        found.append((span.kind, span.name, span.service))
        at = span.span_id
    return found


async def test_a_chain_of_calls_is_one_trace(traced: Host, receiver: Collector) -> None:
    """The caller's span is the parent of the method's, over three workers."""
    assert await traced.call("front", "ask", "hello") == "HELLO"

    assert chain(whole(receiver, "front/ask", 5)) == [
        ("SERVER", "front/ask", "front"),
        ("CLIENT", "middle/ask", "front"),
        ("SERVER", "middle/ask", "middle"),
        ("CLIENT", "back/ask", "middle"),
        ("SERVER", "back/ask", "back"),
    ]


async def test_an_answer_is_a_trace(traced: Host, receiver: Collector) -> None:
    """From the chat to the agent and its model, and back; the record of the answer names it."""
    await traced.call("chat", "say", "hello", {"room": "r1"})
    (root,) = until(lambda: receiver.named("chat/say"))
    spans = {f"{one.kind} {one.name}": one for one in whole_of(receiver, root.trace_id, 7)}
    for child, parent in (
        ("CLIENT agent/process_actions", "SERVER chat/say"),
        ("SERVER agent/process_actions", "CLIENT agent/process_actions"),
        ("CLIENT eliza/$model", "SERVER agent/process_actions"),
        ("SERVER eliza/$model", "CLIENT eliza/$model"),
        ("CLIENT chat/send_message", "SERVER agent/process_actions"),
        ("SERVER chat/send_message", "CLIENT chat/send_message"),
    ):
        assert spans[child].parent_id == spans[parent].span_id, child
    assert spans["SERVER eliza/$model"].attributes["gen_ai.operation.name"] == "chat"
    (shown,) = (await traced.call("agent", "answers", "chat/r1"))["details"]
    assert shown["why"]["trace"] == root.trace_id


async def test_a_message_that_waits_for_another_is_in_its_own_trace(
    traced: Host, receiver: Collector
) -> None:
    """An agent's room is served by one task."""
    before = len(receiver.named("agent/process_actions", "SERVER"))
    messages = [{"id": text, "room_id": "r2", "content": {"text": text}} for text in ("a", "b")]
    async with traced.connect() as client:
        agent: Any = client.get_service("agent")
        await asyncio.gather(*(agent.process_actions(one) for one in messages))

    def roots() -> list[ReceivedSpan]:
        found = receiver.named("agent/process_actions", "SERVER")[before:]
        return found if len(found) == len(messages) else []

    for root in until(roots):
        (model,) = [
            one
            for one in whole_of(receiver, root.trace_id, 3)
            if (one.kind, one.name) == ("CLIENT", "eliza/$model")
        ]
        assert model.parent_id == root.span_id


async def test_threads_tasks_and_streams_are_in_the_trace(
    traced: Host, receiver: Collector
) -> None:
    """Where work goes on, its trace does. A stream's span lasts until the stream's end."""
    for method in ("in_thread", "spawned"):
        assert await traced.call("middle", method, "a") == "A"
        kinds = [(kind, name) for kind, name, _ in chain(whole(receiver, f"middle/{method}", 3))]
        assert kinds == [
            ("SERVER", f"middle/{method}"),
            ("CLIENT", "back/ask"),
            ("SERVER", "back/ask"),
        ]
    async with traced.connect() as client:
        front: Any = client.get_service("front")
        assert [one async for one in front.count(3)] == [0, 1, 2]
    assert len(chain(whole(receiver, "front/count", 5))) == 5


async def test_a_span_has_the_conventions_attributes(traced: Host, receiver: Collector) -> None:
    """A span names the method with its service, the caller, and the incarnation it comes from."""
    await traced.call("middle", "ask", "hello")
    spans = {one.kind + one.service: one for one in whole(receiver, "middle/ask", 3)}
    client, server = spans["CLIENTmiddle"], spans["SERVERback"]
    generation = traced.status("back")["generation"]

    assert client.attributes == {
        "rpc.system.name": "garrison",
        "rpc.method": "back/ask",
        "service.peer.name": "back",
    }
    assert server.attributes == {**client.attributes, "service.peer.name": "middle"}
    assert server.resource["service.instance.id"].startswith(f"back-{generation}-")
    assert server.resource["service.version"]
    assert not client.failed
    assert not server.failed


async def test_the_end_of_a_service_is_in_its_callers_span(
    traced: Host, receiver: Collector
) -> None:
    """The span of the method that was killed is lost with its process."""
    with pytest.raises(RemoteError):
        await traced.call("middle", "call", "die")
    root, client = whole(receiver, "middle/call", 2)
    root, client = (root, client) if not root.parent_id else (client, root)

    assert (client.kind, client.name, client.failed) == ("CLIENT", "back/die", True)
    assert client.attributes["error.type"] == ServiceLost.__name__
    assert client.text == "the service's process ended during the call"
    assert root.failed
    assert root.attributes["error.type"] == ServiceLost.__name__
    until(lambda: traced.status("back")["state"] == "running")


async def test_an_exception_is_recorded_without_what_it_says(
    traced: Host, receiver: Collector
) -> None:
    """An exception's text may hold arguments and secrets; where it was raised is no secret."""
    with pytest.raises(RemoteError):
        await traced.call("middle", "call", "refuse", "pineapple")
    spans = {one.name + one.kind: one for one in whole(receiver, "middle/call", 3)}
    raised = spans["back/refuseSERVER"]
    ((event, exception),) = raised.events

    assert (event, exception["exception.type"]) == ("exception", "ValueError")
    assert "in refuse" in exception["exception.stacktrace"]
    assert spans["back/refuseCLIENT"].attributes["error.type"] == "ValueError"
    assert all(one.failed for one in spans.values())
    for secret in ("pineapple", SECRET):
        assert secret not in repr(spans)


async def test_a_posted_message_is_in_the_trace_of_its_post(
    traced: Host, receiver: Collector
) -> None:
    """Its delivery is a child of the post and linked to it; the mailbox's own calls are none."""
    message_id = await traced.call("front", "post", "hello")
    spans = {one.kind + one.name: one for one in whole(receiver, "front/post", 7)}
    sent, processed = spans["PRODUCERsend middle"], spans["CONSUMERprocess middle"]

    assert set(spans) == {
        "SERVERfront/post",
        "PRODUCERsend middle",
        "CLIENTmailbox/post",
        "SERVERmailbox/post",
        "CONSUMERprocess middle",
        "CLIENTback/ask",
        "SERVERback/ask",
    }
    assert processed.parent_id == sent.span_id
    assert processed.links == [sent.span_id]
    assert spans["CLIENTback/ask"].parent_id == processed.span_id
    assert sent.attributes["messaging.message.id"] == message_id
    assert processed.attributes == {
        "messaging.system": "garrison",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": "middle",
        "messaging.message.id": message_id,
        "rpc.method": "middle/ask",
        "service.peer.name": "front",
    }


async def test_a_message_keeps_its_trace_on_disk(traced: Host, receiver: Collector) -> None:
    """The mailbox and its receiver may end before it is delivered."""
    traced.ask("stop", "middle")
    message_id = await traced.call("front", "post", "later")
    traced.ask("restart", "mailbox")
    traced.ask("start", "middle")

    def processed() -> list[ReceivedSpan]:
        found = receiver.named("process middle", "CONSUMER")
        return [one for one in found if one.attributes["messaging.message.id"] == message_id]

    (span,) = until(processed)
    (sent,) = [one for one in receiver.named("send middle") if one.span_id == span.parent_id]
    assert sent.trace_id == span.trace_id


async def test_a_program_passes_its_span_on(traced: Host, receiver: Collector) -> None:
    """With a provider of its own or without: the calls are in its trace."""
    context = trace.SpanContext(0xABC0 + os.getpid(), 0xDEF, True, trace.TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(context)):
        assert await traced.call("back", "ask", "x") == "X"
    trace_id = f"{context.trace_id:032x}"
    (span,) = until(lambda: [one for one in receiver.spans if one.trace_id == trace_id])

    assert (span.kind, span.parent_id) == ("SERVER", f"{context.span_id:016x}")
    with trace.use_span(trace.NonRecordingSpan(context)):
        assert (await traced.call("back", "facts"))["span"] == trace_id


async def test_the_collectors_token_is_in_its_requests_alone(
    traced: Host, receiver: Collector
) -> None:
    """It is in no environment, command line, log, event or answer."""
    facts = await traced.call("back", "facts")
    until(lambda: receiver.headers)

    assert {one.get("authorization") for one in receiver.headers} == {f"Bearer {TOKEN}"}
    assert TOKEN not in repr(facts["environ"])
    pids = [row["pid"] for row in traced.rows().values() if row["pid"]]
    for pid in [*pids, traced.launcher]:
        for file in ("cmdline", "environ"):
            assert TOKEN not in content(f"/proc/{pid}/{file}"), (pid, file)
    for path in traced.home.rglob("*"):
        if path.is_file():
            assert TOKEN not in content(path), path
    assert TOKEN not in repr(traced.ask("status"))


@pytest.fixture(scope="module")
def plain() -> Iterator[Host]:
    """Run the services without traces."""
    config = CONFIG.format(url="").replace('traces_headers = "COLLECTOR_HEADERS"', "")
    with hosting(config, ["traced"], env=ENV) as running:
        yield running


async def test_without_traces_no_worker_has_the_library(plain: Host) -> None:
    """Nothing of OpenTelemetry is imported, not even by the launcher."""
    for name in ("front", "back"):
        assert (await plain.call(name, "facts"))["modules"] == []
    for row in plain.rows().values():
        assert "opentelemetry" not in content(f"/proc/{row['pid']}/maps")


async def test_without_traces_a_callers_trace_is_passed_on(plain: Host) -> None:
    """Also by a message that is posted: a part of a trace may run elsewhere."""
    context = trace.SpanContext(0xABC1 + os.getpid(), 0xDEF, True, trace.TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(context)):
        facts = await plain.call("front", "call", "call", "facts")
    assert facts["carried"] == f"00-{context.trace_id:032x}-{context.span_id:016x}-01"
    assert (await plain.call("front", "call", "facts"))["carried"] == ""


async def test_a_collector_that_is_down_disturbs_no_service() -> None:
    """It is one line in the log and one in `status`, however much is lost; a stop is a stop."""
    with collector() as gone:
        url = gone.url
    config = CONFIG.format(url=url) + "[services.front.env]\nOTEL_EXPORTER_OTLP_TIMEOUT = '0.1'\n"
    with hosting(config, ["traced"], env={"A_TOKEN": SECRET}) as running:

        async def lost() -> bool:
            await running.call("front", "ask", "hello")
            return any("spans lost" in one for one in running.status("front")["warnings"])

        await eventually(lost)
        await eventually(lost)
        assert running.log("front").count("traces.lost") == 1
        assert "opentelemetry" not in running.log("front")
        until(lambda: "COLLECTOR_HEADERS is not set" in repr(running.status("back")["warnings"]))
        running.ask("stop", "front")
        with collector(int(url.rpartition(":")[2])) as back:
            running.ask("start", "front")
            await running.call("front", "ask", "hello")
            until(lambda: back.named("front/ask"))
