"""What an engine with a node does when the node's process or the supervisor is not there."""

import signal
import subprocess
from collections.abc import Iterator

import pytest
from tests.integration.test_engine import A, B, Bench
from tests.support.plain_nodes import LEASE_S, NODE, PlainNode
from tests.support.waiting import until

from garrison.supervisor.processes import engine as events
from garrison.supervisor.processes.nodes import NodesEngine

SHORT_S = 4.0


@pytest.fixture(scope="module")
def node(request: pytest.FixtureRequest) -> Iterator[PlainNode]:
    """Return a node with a lease of a minute or less, which has no workers after each test."""
    node = PlainNode(getattr(request, "param", LEASE_S))
    yield node
    node.close()


@pytest.fixture
def bench(node: PlainNode) -> Iterator[Bench]:
    """Return an engine with that node."""
    bench = Bench(node=node)
    yield bench
    bench.close()


def joined(bench: Bench) -> int:
    """Return how often the node has joined."""
    changes = [one for one in bench.seen if isinstance(one, events.NodeChanged)]
    return sum(one.change == "joined" for one in changes)


def test_a_node_process_that_was_killed_adopts_its_workers(bench: Bench, node: PlainNode) -> None:
    """The next one of the same home reports them, and nothing has happened to them."""
    handle = bench.start(A, "one")
    node.signal(signal.SIGKILL)
    until(lambda: bench.turn() is not None and joined(bench) == 2, what="the next one has joined")

    assert bench.engine.has(A)
    assert bench.kinds(A) == [events.Forked]
    bench.engine.signal(A, signal.SIGKILL)
    bench.until(events.Gone)
    assert bench.kinds(A) == [events.Forked, events.Died, events.Ended, events.Gone]
    assert bench.engine.left([handle]) == []


@pytest.mark.parametrize("node", [SHORT_S], indirect=True)
def test_a_node_without_contact_is_fenced_after_its_lease(bench: Bench, node: PlainNode) -> None:
    """Its workers have ended by then; when it is back, it takes others."""
    bench.start(A, "one")
    before = joined(bench)
    node.signal(signal.SIGSTOP)
    try:
        bench.until(events.NodeChanged, lambda one: one.change == "lost")
        assert bench.engine.has(A)
        ended = bench.until(events.Ended)
        assert "no contact" in ended.words
        assert bench.kinds(A) == [events.Forked, events.Died, events.Ended, events.Gone]
        assert isinstance(bench.engine, NodesEngine)
        bench.engine.place(B, NODE)
        bench.engine.fork(B, "two", bench.assignment(B, "two"))
        assert "no contact" in bench.until(events.NotForked).reason
    finally:
        node.signal(signal.SIGCONT)
    until(lambda: bench.turn() is not None and joined(bench) > before, what="it has joined again")
    bench.start(B, "two")


def test_a_second_home_with_the_same_key_is_refused(bench: Bench, node: PlainNode) -> None:
    """A copy of a machine must not end what the first one runs, nor run the same."""
    bench.start(A, "one")
    copy: subprocess.Popen[bytes] = node.begin(node.folder / "copy")
    bench.others.add(copy.pid)
    try:
        refused = bench.until(events.NodeChanged, lambda one: one.change == "refused")
        assert "another home has the key of node box" in refused.reason
        assert bench.engine.has(A)
        assert bench.kinds(A) == [events.Forked]
    finally:
        copy.terminate()
        copy.wait()


def test_a_worker_that_no_snapshot_has_is_found(bench: Bench) -> None:
    """A supervisor that was killed before it wrote one: its successor knows the worker by the
    record of forks, and forks no second one of that name before it has ended."""
    bench.start(A, "one")
    bench.succeed()
    bench.engine.adopt([])
    found = bench.until(events.Found)
    assert found.running == {A: "one"}
    bench.until(events.Forked, lambda one: one.handle.pid > 0)

    bench.fork(B, "one")
    assert bench.kinds(B) == []
    bench.engine.signal(A, signal.SIGKILL)
    bench.until(events.Gone, lambda one: one.key == A)
    bench.until(events.Forked, lambda one: one.key == B)
