"""Places of services follow what runs, what the nodes report, and what is drained."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from garrison.ipc.messages import Manifest, State
from garrison.supervisor.config.engine_spec import EngineKind, EngineSpec, NodeSpec
from garrison.supervisor.config.spec import PluginSpec, service_spec
from garrison.supervisor.lifecycle.handle import Handle
from garrison.supervisor.lifecycle.policy import Child
from garrison.supervisor.lifecycle.services import Incarnation, Service, ServiceTable
from garrison.supervisor.placing.list_placer import ListPlacer
from garrison.supervisor.placing.placement import Placement, PlacementHooks
from garrison.supervisor.state.placement_store import PlacementStore

ENGINE = EngineSpec(
    kind=EngineKind.NODES, listen="10.0.0.1:1", nodes={"box": NodeSpec(resources={"GPU": 1.0})}
)


def report(name: str, **changes: Any) -> Any:
    machine = SimpleNamespace(processors=4, memory_bytes=2**33, data=changes.pop("data", ()))
    return SimpleNamespace(
        **{"name": name, "joined": True, "leaving": False, "machine": machine, **changes}
    )


@dataclass
class Host:
    """Placing, with a fake of all else."""

    folder: Path
    reports: dict[str, Any] = field(default_factory=lambda: {"box": report("box")})
    expected: list[str] = field(default_factory=list)
    files: set[str] = field(default_factory=set)
    events: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    put: dict[bytes, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.services = ServiceTable()
        self.again()

    def again(self) -> None:
        """Start placing as the next supervisor does."""
        hooks = PlacementHooks(
            lambda: list(self.reports.values()),
            lambda: self.expected,
            lambda name: name in self.files,
            self.put.__setitem__,
            lambda service: self.moved.append(service.name),
            lambda event, service="", **data: self.events.append((event, service, data)),
            lambda: None,
        )
        store = PlacementStore(self.folder, pytest.fail)
        own = {"CPU": 2.0}
        self.placement = Placement(self.services, ENGINE, own, ListPlacer(), store, hooks)

    def add(self, name: str, kind: str = "x", **keys: Any) -> Service:
        """Add a queued service."""
        spec = service_spec(name=name, plugin="p", service_type=kind, **keys)
        child = Child(spec, State.QUEUED, wanted=True)
        service = Service(child, PluginSpec(name="p", use="p"), Manifest(kind), 0)
        self.services.services[name] = service
        return service

    def run(self, service: Service) -> str:
        """Start a service as the manager does; return its node."""
        self.placement.settle()
        assert service.name not in self.services.unplaced
        token = service.name.encode()
        service.current = Incarnation(token)
        self.placement.put(service)
        service.current.handle = Handle(7, node=self.put[token])
        self.set_state(service, State.RUNNING)
        self.placement.settle()
        return self.placement.shown_node(service)

    def end(self, service: Service, state: State = State.QUEUED) -> None:
        """End a service's process."""
        service.current = Incarnation()
        self.set_state(service, state, wanted=state is State.QUEUED)
        self.placement.settle()

    def set_state(self, service: Service, state: State, wanted: bool = True) -> None:
        service.child = replace(service.child, state=state, wanted=wanted)

    def why(self, service: Service) -> str:
        """Return why a service is not placed."""
        self.placement.settle()
        return self.services.unplaced[service.name].reason


@pytest.fixture(name="host")
def _host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_by_default_all_runs_here(host: Host) -> None:
    """A service that names no node and needs nothing runs on the supervisor's machine."""
    service = host.add("a")
    assert host.run(service) == "supervisor"
    assert host.put == {b"a": ""}
    assert host.events == []


def test_resources_lead_to_a_node(host: Host) -> None:
    """A GPU is given once; the second service waits, and starts once it is free."""
    first, second = (host.add(name, resources={"GPU": 1.0}) for name in "ab")
    assert host.run(first) == "box"
    assert "GPU 1 (0 of 1 is free)" in host.why(second)
    assert host.services.is_blocked(second)
    assert host.services.waiting_reason(second).startswith("waits for a node: ")
    host.end(first, State.STOPPED)
    assert host.run(second) == "box"
    assert [event for event, *_ in host.events] == [
        *("service.placed", "service.unplaceable", "service.placed")
    ]


def test_each_service_has_gpus_of_its_own(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps them over a crash and another supervisor, and gives them back when it is stopped."""
    four = {"box": NodeSpec(resources={"GPU": 4.0})}
    monkeypatch.setitem(globals(), "ENGINE", msgspec.structs.replace(ENGINE, nodes=four))
    host.again()
    names = {"a": 2.0, "b": 0.5, "c": 0.5, "d": 1.0}
    made = {name: host.add(name, resources={"GPU": amount}) for name, amount in names.items()}
    for one in made.values():
        host.run(one)

    def numbers() -> list[tuple[int, ...]]:
        return [host.placement.devices(one) for one in made.values()]

    assert numbers() == [(0, 1), (2,), (2,), (3,)]
    host.end(made["a"])
    host.run(made["a"])
    host.again()
    host.placement.settle()
    assert numbers() == [(0, 1), (2,), (2,), (3,)]
    host.end(made["b"], State.STOPPED)
    assert numbers()[1] == ()
    assert host.placement.devices(host.add("e")) == ()


def test_a_crash_changes_no_place(host: Host) -> None:
    """A service that ends and is wanted keeps what it has."""
    first, second = (host.add(name, resources={"GPU": 1.0}) for name in "ab")
    host.run(first)
    host.end(first)
    assert host.why(second)
    assert host.run(first) == "box"
    assert len([one for one in host.events if one[0] == "service.placed"]) == 1


def test_a_pinned_service_waits_for_its_node(host: Host) -> None:
    """It starts nowhere else, and at once when the node is back."""
    service = host.add("a", node="box")
    host.reports["box"] = report("box", joined=False)
    assert host.why(service) == "waits for node box, which has no contact"
    host.reports["box"] = report("box")
    assert host.run(service) == "box"


def test_a_lost_node_is_left(host: Host) -> None:
    """After the end of its incarnation, a service without data starts elsewhere."""
    service = host.add("a", node="any")
    assert host.run(service) == "supervisor"
    other = host.add("b", node="any")
    assert host.run(other) == "box"
    host.reports["box"] = report("box", joined=False)
    host.placement.settle()
    assert host.placement.shown_node(other) == "box"  # the lease is not over
    host.end(other)
    assert host.run(other) == "supervisor"


@pytest.mark.parametrize("movable", [False, True])
def test_data_binds_to_a_node(host: Host, movable: bool) -> None:
    """A service whose files are on a node waits for it, unless it is movable; so does the next
    supervisor's."""
    service = host.add("a", resources={"CPU": 3.0}, movable=movable)
    assert host.run(service) == "box"
    host.reports["box"] = report("box", data=("a",))
    host.placement.settle()
    host.end(service, State.STOPPED)
    host.again()
    host.reports = {"far": report("far")}
    host.set_state(service, State.QUEUED)
    if movable:
        assert host.run(service) == "far"
    else:
        assert "node box, which has no key" in host.why(service)
        assert "where its data is" in host.why(service)


def test_files_here_bind_to_this_machine(host: Host) -> None:
    """So do those in the data folder on the supervisor's machine."""
    service = host.add("a", node="any")
    host.run(service)
    host.files.add("a")
    host.end(service)
    host.placement.drain("supervisor")
    assert host.run(service) == "supervisor"


@pytest.mark.parametrize("kind", ["mailbox", "database", "agent"])
def test_keepers_begin_here(host: Host, kind: str) -> None:
    """What keeps data from its first start on starts on the supervisor's machine."""
    host.run(host.add("busy", node="supervisor"))
    assert host.run(host.add("a", kind, node="any")) == "supervisor"
    assert host.run(host.add("b", kind, node="any", movable=True)) == "box"
    assert host.run(host.add("c", kind, node="box")) == "box"


def test_expected_nodes_are_waited_for(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortly after the start, a service without a pin waits for nodes that have a key."""
    host.expected, host.reports = ["box"], {}
    service = host.add("a", node="any")
    assert host.why(service) == "waits for node box to report in"
    assert not host.services.is_blocked(service)
    assert host.placement.due < float("inf")
    at_once = msgspec.structs.replace(ENGINE, join_wait=0.0)
    monkeypatch.setitem(globals(), "ENGINE", at_once)
    host.again()
    assert host.run(service) == "supervisor"


def test_drain_moves_what_may_move(host: Host) -> None:
    """A service is restarted only once it has another place; what is bound stays, and is still
    restarted there."""
    free, pinned = host.add("free", resources={"CPU": 3.0}), host.add("pinned", node="box")
    assert [host.run(one) for one in (free, pinned)] == ["box", "box"]
    host.placement.drain("box")
    assert host.placement.stays(free) == ""
    assert 'node = "box"' in host.placement.stays(pinned)
    host.placement.leave(free)
    host.placement.settle()
    assert "CPU 3" in host.placement.stuck(free)
    assert host.moved == []

    host.reports["far"] = report("far")
    host.placement.leave(free)
    host.placement.settle()
    assert (host.moved, host.placement.stuck(free)) == (["free"], "")
    assert host.placement.shown_node(free) == "box"  # until it has ended
    host.end(free)
    assert host.run(free) == "far"
    host.end(pinned)
    assert host.run(pinned) == "box"

    new = host.add("new", resources={"GPU": 1.0})
    assert "node box is drained" in host.why(new)
    host.again()
    assert "node box is drained" in host.why(new)
    assert host.placement.undrain("box")
    assert not host.placement.undrain("box")
    assert host.run(new) == "box"


def test_a_node_that_leaves_is_emptied(host: Host) -> None:
    """Its services move if they may, and nothing starts there."""
    free, pinned = host.add("free", resources={"CPU": 3.0}), host.add("pinned", node="box")
    assert [host.run(one) for one in (free, pinned)] == ["box", "box"]
    host.reports |= {"box": report("box", leaving=True), "far": report("far")}
    host.placement.on_leaving("box")
    host.placement.settle()
    assert host.moved == ["free"]
    host.end(pinned)
    assert host.why(pinned) == "waits for node box, which is about to leave"


def test_a_node_that_leaves_soon_after_the_start_is_emptied(host: Host) -> None:
    """That it does not take services any more is not waited for."""
    host.expected = ["box", "far"]
    host.reports["far"] = report("far")
    service = host.add("a", node="any", resources={"CPU": 3.0})
    left = host.run(service)
    other = {"box": "far", "far": "box"}[left]
    host.reports[left] = report(left, leaving=True)
    host.placement.on_leaving(left)
    host.placement.settle()
    assert host.moved == ["a"]
    host.end(service)
    assert host.run(service) == other


@pytest.mark.parametrize("ends", [False, True], ids=["in time", "too late"])
def test_a_node_that_leaves_is_emptied_once_another_one_is_free(host: Host, ends: bool) -> None:
    """Nothing takes the service at first: it moves when something does, or when it has ended."""
    service = host.add("a", resources={"CPU": 3.0})
    assert host.run(service) == "box"
    host.reports["box"] = report("box", leaving=True)
    host.placement.on_leaving("box")
    host.placement.settle()
    assert (host.moved, host.placement.stuck(service)) == ([], "")
    if ends:
        host.end(service)
        assert "node box is about to leave" in host.why(service)
    host.reports["far"] = report("far")
    host.placement.settle()
    assert host.moved == ([] if ends else ["a"])
    if not ends:
        host.end(service)
    assert host.run(service) == "far"


def test_a_changed_pin_is_followed(host: Host) -> None:
    """A restart with another config places the service anew."""
    service = host.add("a")
    host.run(service)
    service.child = replace(service.child, spec=service_spec(service.spec, node="box"))
    host.end(service)
    assert host.run(service) == "box"
    assert host.events[-1] == ("service.placed", "a", {"node": "box", "before": "supervisor"})


def test_an_adopted_service_keeps_its_node(host: Host) -> None:
    """A supervisor that takes over knows by the handles of workers what is taken."""
    service = host.add("a", resources={"GPU": 1.0})
    host.run(service)
    host.again()
    other = host.add("b", resources={"GPU": 1.0})
    assert "GPU 1 (0 of 1 is free)" in host.why(other)
    assert host.placement.shown_node(service) == "box"


def test_a_removed_service_is_forgotten(host: Host) -> None:
    """What it had is free again."""
    service = host.add("a", resources={"GPU": 1.0})
    host.run(service)
    host.end(service, State.STOPPED)
    host.services.remove("a")
    assert host.run(host.add("b", resources={"GPU": 1.0})) == "box"


def test_rows_of_nodes(host: Host) -> None:
    """A node with a key that never reported in is listed too."""
    host.run(host.add("a", resources={"GPU": 1.0}))
    host.expected = ["box", "far"]
    rows = {row["name"]: row for row in host.placement.nodes()}
    assert list(rows) == ["supervisor", "box", "far"]
    assert (rows["box"]["services"], rows["box"]["taken"]) == (["a"], {"GPU": 1.0})
    assert [row["up"] for row in rows.values()] == [True, True, False]
    assert rows["far"]["problem"] == "has not reported in: start garrison node there"
