"""Which starts count: those that compute, read or wait for a processor."""

import pytest

from garrison.ipc.messages import Manifest, State
from garrison.supervisor.config.spec import PluginSpec, service_spec
from garrison.supervisor.lifecycle.ordering import next_starts
from garrison.supervisor.lifecycle.policy import Child
from garrison.supervisor.lifecycle.services import Incarnation, Service, ServiceTable
from garrison.supervisor.lifecycle.start_slots import (
    IDLE_LOOKS,
    StartLimit,
    StartSlot,
    StartWork,
)


def looked(*figures: StartWork | None) -> StartSlot:
    """Return a slot after measurements."""
    slot = StartSlot()
    for work in figures:
        slot.look(work)
    return slot


@pytest.mark.parametrize(
    ("used", "waited", "reads", "counts"),
    [
        (0.1, 0.0, False, True),  # it computes
        (0.0, 0.1, False, True),  # it would, if a processor were free
        (0.01, 0.01, False, False),  # it only waits
        (0.0, 0.0, True, True),  # for the disk: more starts would make that slower
    ],
)
def test_what_a_start_does_decides_if_it_counts(
    used: float, waited: float, reads: bool, counts: bool
) -> None:
    """Over several measurements of 0.1 s each."""
    work = [StartWork(n / 10, used * n, waited * n, 0.0, reads) for n in range(IDLE_LOOKS + 1)]

    assert looked(*work).counts is counts


def test_a_start_that_cannot_be_measured_counts() -> None:
    """Without figures of the kernel."""
    assert looked(None, None, None, None).counts


def test_a_start_that_computes_again_counts_again() -> None:
    """After the answer that it waited for."""
    idle = [StartWork(n / 10) for n in range(IDLE_LOOKS + 1)]
    slot = looked(*idle)
    assert not slot.counts

    slot.look(StartWork(1.0, used_s=0.7))

    assert slot.counts


def test_a_deadline_moves_by_what_a_start_waited_for_a_processor() -> None:
    """Each second counts once."""
    slot = StartSlot()

    assert slot.put_off_by(StartWork(5.0, own_waited_s=3.0)) == 3.0
    assert slot.put_off_by(StartWork(9.0, own_waited_s=4.0)) == 1.0
    assert slot.put_off_by(StartWork(9.0, own_waited_s=4.01)) == 0.0
    assert slot.put_off_by(None) == 0.0


def test_a_timeout_halves_the_number_and_a_success_adds_one() -> None:
    """A start that only waited says nothing about the load."""
    limit = StartLimit(4)
    limit.timed_out(StartSlot(idle_looks=IDLE_LOOKS))
    assert limit.now == 4

    for expected in (2, 1, 1):
        limit.timed_out(StartSlot())
        assert limit.now == expected
    for expected in (2, 3, 4, 4):
        limit.succeeded()
        assert limit.now == expected


def test_init_and_start_share_the_slots() -> None:
    """A start that gave its slot up lets the next one start."""
    table = ServiceTable()
    states = [State.INITIALIZING, State.STARTING, State.QUEUED, State.QUEUED]
    for number, state in enumerate(states):
        spec = service_spec(name=f"s{number}", plugin="p", service_type="s")
        child = Child(spec, state, wanted=True)
        service = Service(child, PluginSpec(name="p", use="p"), Manifest("s"), number)
        service.current = Incarnation(bytes([number]))
        table.services[spec.name] = service

    assert next_starts(table, 2) == ([], True)

    table.services["s1"].current.slot.idle_looks = IDLE_LOOKS
    chosen, waiting = next_starts(table, 2)
    assert ([one.name for one in chosen], waiting) == (["s2"], True)
