"""What the supervisor makes of what a node reports."""

from garrison.supervisor.lifecycle.handle import Handle
from garrison.supervisor.lifecycle.limits import Used
from garrison.supervisor.processes import engine
from garrison.supervisor.processes.engine import Measured
from garrison.supervisor.processes.node_lease import NodeContact
from garrison.supervisor.processes.node_protocol import (
    Inventory,
    KnownWorker,
    Machine,
    NodeHello,
    Sample,
    WorkerSample,
)
from garrison.supervisor.processes.node_table import NodeState, NodeWorker, Session

A, B, C = b"a" * 16, b"b" * 16, b"c" * 16
THERE = Handle(12, 34, (5, 6))
HERE = Handle(12, 34, (5, 6), node="box")


def node(*keys: bytes, forked: bool = True) -> NodeState:
    """Return a node with workers."""
    state = NodeState("box", NodeContact(10.0))
    for key in keys:
        state.workers[key] = NodeWorker("one", HERE if forked else Handle(), forked)
    return state


def hello(instance: bytes = b"i", process: bytes = b"p") -> NodeHello:
    """Return what a node's process reports in with."""
    return NodeHello("box", 1, instance, process)


def test_an_event_is_of_the_node() -> None:
    """A handle says where its process is, and a worker that is gone is forgotten."""
    state = node(A, forked=False)

    assert state.take(engine.Forked(A, THERE), 1.0) == [engine.Forked(A, HERE)]
    assert state.take(engine.Died(A), 2.0) == [engine.Died(A)]
    assert state.take(engine.Ended(A, 9), 2.0) == [engine.Ended(A, 9)]
    assert state.take(engine.Gone(A, (THERE,)), 2.0) == [engine.Gone(A, (HERE,))]
    assert state.workers == {}
    assert state.left == {HERE}


def test_events_of_unknown_workers_are_dropped() -> None:
    """They were given up, and a successor may run."""
    state = node()
    assert state.take(engine.Died(A), 1.0) == []
    assert state.take(engine.Gone(A), 1.0) == []
    assert state.take(engine.NotForked(A, "no"), 1.0) == []


def test_times_are_the_supervisors() -> None:
    """A measurement is from when it arrived: the node's clock is another one."""
    state = node(A)
    measured = Measured(1, 2.0, Used(99.0, 3, 4))

    assert state.take(engine.Usage(A, Used(99.0, 3, 4)), 7.0) == [engine.Usage(A, Used(7.0, 3, 4))]
    state.take_sample(Sample((WorkerSample(A, measured), WorkerSample(B, measured)), Machine(2)), 8)
    assert state.workers[A].measured.tree == Used(8, 3, 4)
    assert state.machine.processors == 2


def test_what_is_not_in_the_inventory_has_ended() -> None:
    """Those whose end is reported next are left, and so are those that were not forked yet."""
    state = node(A, B, C)
    state.workers[b"d"] = NodeWorker("new")
    inventory = Inventory((KnownWorker(A, "one", THERE), KnownWorker(b"x", "x", THERE)), {C})  # type: ignore[arg-type]

    happened, unknown = state.take_inventory(inventory)

    assert happened == [engine.Died(B), engine.Ended(B, None), engine.Gone(B)]
    assert unknown == [b"x"]
    assert set(state.workers) == {A, C, b"d"}


def test_a_process_that_is_found_again_is_reported_if_it_is_news() -> None:
    """An inventory that says what is known changes nothing."""
    state = node(A)
    state.workers[B] = NodeWorker("two", Handle(node="box"), forked=True)

    happened, _ = state.take_inventory(
        Inventory((KnownWorker(A, "one", THERE), KnownWorker(B, "two", THERE)))
    )

    assert happened == [engine.Forked(B, HERE)]


def test_a_fence_ends_what_is_left() -> None:
    """What was reported before is not reported again."""
    state = node(A, B)
    state.take(engine.Died(A), 1.0)
    state.take(engine.Ended(A, 9), 1.0)

    happened = state.fence(5.0, "was lost")

    ended = engine.Ended(B, None, words="was lost")
    assert happened == [engine.Gone(A), engine.Died(B), ended, engine.Gone(B)]
    assert (state.workers, state.instance, state.session) == ({}, b"", None)


def test_another_home_with_the_same_key_is_refused() -> None:
    """As long as what the first one runs may go on. A process of the same home is its successor."""
    state = node()
    assert state.refusal(hello(), 0.0) == ""
    state.begin(Session(b"s", b"r", hello(), 0.0))
    state.contact.renew(10.0)

    assert state.refusal(hello(process=b"q"), 11.0) == ""
    assert "another home" in state.refusal(hello(instance=b"j"), 11.0)
    assert state.refusal(hello(instance=b"j"), 10.0 + 10.0 + 2.0) == ""


def test_a_new_session_keeps_what_was_not_received() -> None:
    """It is sent once the node has reported what it has."""
    state = node()
    first = Session(b"s", b"r", hello(), 0.0)
    state.begin(first)
    first.outbox.add(b"one", 0.0)
    second = Session(b"t", b"r", hello(), 1.0)
    state.begin(second)
    second.outbox.add(b"two", 1.0)
    third = Session(b"u", b"r", hello(), 2.0)

    state.begin(third)

    assert third.carried == [b"one", b"two"]


def test_the_latest_report_says_for_how_long_a_loop_has_not_turned() -> None:
    """With the time at which it arrived; another node's process may not know it."""
    state = node(A)
    for loop_s, now in ((3.0, 7.0), (None, 9.0)):
        state.take_sample(Sample((WorkerSample(A, Measured(), loop_s),), Machine()), now)
        assert (state.workers[A].loop_s, state.workers[A].loop_at) == (loop_s, now)
