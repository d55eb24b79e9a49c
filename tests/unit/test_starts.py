"""Which queued services start: where the starts before them compute all the time."""

import itertools

import pytest

from garrison.ipc.messages import Manifest, State, Token
from garrison.supervisor import starts
from garrison.supervisor.config.command_spec import PlainCommand
from garrison.supervisor.config.spec import PluginSpec, service_spec
from garrison.supervisor.lifecycle.policy import Child, Event
from garrison.supervisor.lifecycle.services import Incarnation, Service, ServiceTable
from garrison.supervisor.lifecycle.start_slots import StartWork
from garrison.supervisor.starts import StartScheduler


def queued(plain: PlainCommand) -> ServiceTable:
    """Return a table of two services that wait for their start."""
    table = ServiceTable()
    for number in range(2):
        spec = service_spec(name=f"s{number}", plugin="p", service_type="s", plain=plain)
        child = Child(spec, State.QUEUED, wanted=True)
        service = Service(child, PluginSpec(name="p", use="p"), Manifest("s"), number)
        service.current = Incarnation(bytes([number]))
        table.services[spec.name] = service
    return table


@pytest.mark.parametrize(
    ("plain", "chosen"),
    [
        (PlainCommand(command=("sleep", "9")), ["s1"]),
        (PlainCommand(command=("sleep", "9"), ready="notify"), []),
        (PlainCommand(), []),
    ],
    ids=["command", "command that says when it runs", "class"],
)
def test_a_command_that_runs_without_a_condition_counts_no_longer(
    plain: PlainCommand, chosen: list[str]
) -> None:
    """Nothing says how long its own start takes, so nothing waits for that."""
    table, clock = queued(plain), itertools.count()

    def computes(token: Token) -> StartWork:
        now = float(next(clock))
        return StartWork(now, used_s=now)

    scheduler = StartScheduler(table, 1, computes)
    first = table.services["s0"]
    assert [one.name for one in scheduler.next()[0]] == ["s0"]
    for state, event in (
        (State.INITIALIZING, Event.SLOT),
        (State.STARTING, Event.INITIALIZED),
    ):
        before, first.child = first.child, Child(first.spec, state, wanted=True)
        scheduler.note(first, before, event)
        assert scheduler.next()[0] == [] or state is State.STARTING

    assert [one.name for one in scheduler.next()[0]] == chosen


@pytest.mark.parametrize(("processors", "most"), [({0}, 2), ({0, 3}, 4)])
def test_two_services_for_each_processor_start_by_default(
    monkeypatch: pytest.MonkeyPatch, processors: set[int], most: int
) -> None:
    """Those are counted that this process may use."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: processors)

    assert starts.default_starts() == most
