"""What the manager makes of deadlines, where a partition may hold up what a worker has sent."""

import time
from typing import cast

import pytest
from tests.property.test_order_histories import Anything

from garrison.ipc.messages import WIRE, Beat, Hello, Manifest, State
from garrison.supervisor.config.spec import PluginSpec, service_spec
from garrison.supervisor.lifecycle.incarnation import Incarnation
from garrison.supervisor.lifecycle.policy import Child, StopReason
from garrison.supervisor.lifecycle.services import Service, ServiceTable
from garrison.supervisor.lifecycle.silence import Contact
from garrison.supervisor.manager import HELD_UP_S, ServiceManager
from garrison.supervisor.places import OneMachine
from garrison.supervisor.starts import StartScheduler

WATCHDOG_S = 4.0
TOKEN = b"g" + b"1" * 15


class Bench:
    """A manager with one service, which runs on another machine."""

    def __init__(self, state: State = State.RUNNING) -> None:
        self.now = time.monotonic()
        spec = service_spec(
            name="a", plugin="p", service_type="a", exclusive=False, watchdog=WATCHDOG_S
        )
        since, manifest = self.now - 60.0, Manifest("a")
        child = Child(spec, state, wanted=True, since=since, deadline=self.now, generation=1)
        plugin, self.contact = PluginSpec(name="p", use="p"), cast("Contact | None", None)
        self.service = Service(child, plugin, manifest, 0, Incarnation(TOKEN))
        table = ServiceTable({"a": self.service}, by_token={TOKEN: self.service})
        engine, effects = Anything(), Anything()
        engine.contact = lambda token: self.contact  # type: ignore[attr-defined]
        effects.engine, effects.places = engine, OneMachine()  # type: ignore[attr-defined]
        self.manager = ServiceManager(table, StartScheduler(table, 2, lambda *_: None), effects)  # type: ignore[arg-type]

    def check(self, contact: Contact | None) -> State:
        """Return the state after the deadline, with what is known of the worker by then."""
        self.contact = contact
        self.manager.check_deadlines(self.now, self.now)
        return self.service.state


def test_a_worker_whose_loop_turns_is_not_ended() -> None:
    """Also one that a supervisor has adopted, and whose first beat to it a partition holds up.

    Its machine may have had contact long after the last beat that any supervisor has received.
    """
    bench = Bench()
    assert bench.check(Contact(bench.now, False, 0.5, bench.now)) is State.RUNNING
    assert bench.service.child.deadline == bench.now + HELD_UP_S
    bench.now += HELD_UP_S
    assert bench.check(Contact(bench.now, False, 4.5, bench.now)) is State.STOPPING
    assert bench.service.child.why is StopReason.WATCHDOG


def test_an_adopted_worker_was_heard_of_when_it_answered() -> None:
    """Not when it began to run: without a report of its machine, contact with that counts."""
    bench = Bench()
    bench.service.current.adopting = True
    bench.manager.on_message(TOKEN, Hello(WIRE, "a", 1, 7, True))
    assert bench.service.current.beat_at >= bench.now


@pytest.mark.parametrize("state", [State.INITIALIZING, State.STARTING, State.STOPPING])
def test_no_deadline_passes_in_a_partition(state: State) -> None:
    """What a worker there has started, or ended, is not known; the lease bounds that."""
    bench = Bench(state)
    assert bench.check(Contact(bench.now - 9.0, True)) is state
    deadline = bench.service.child.deadline
    assert deadline == bench.now + HELD_UP_S
    bench.now = deadline
    bench.check(Contact(bench.now, False))
    assert (bench.service.state, bench.service.child.deadline) != (state, deadline + HELD_UP_S)


def test_a_worker_of_this_machine_is_ended_at_its_deadline() -> None:
    """Nothing holds up what it sends; a beat puts its deadline off."""
    bench = Bench()
    bench.manager.on_message(TOKEN, Beat(1))
    assert bench.service.child.deadline > bench.now + WATCHDOG_S / 2
    bench = Bench()
    assert bench.check(None) is State.STOPPING


@pytest.mark.parametrize("state", [State.STARTING, State.STOPPING])
def test_a_network_that_fails_again_and_again_holds_nothing_up_for_ever(state: State) -> None:
    """From its first deadline on, a state waits no longer than a connection could be silent."""
    bench = Bench(state)
    begun = bench.now
    while bench.now < begun + 21.0:
        bench.check(Contact(bench.now - 9.0, True, silence_s=20.0))
        if (bench.service.state, bench.service.child.deadline) != (state, bench.now + HELD_UP_S):
            break
        bench.now += HELD_UP_S
    assert 20.0 <= bench.now - begun < 21.0


def test_an_adopted_worker_that_does_not_answer_is_replaced() -> None:
    """Though its loop turns: it runs without an address for calls."""
    bench = Bench()
    bench.service.current.adopting = True
    assert bench.check(Contact(bench.now, False, 0.5, bench.now)) is State.STOPPING
