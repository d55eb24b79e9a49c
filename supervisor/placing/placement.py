"""Has a node found for each service that is to start, and moves services between nodes.

On a host without nodes there is none of this. Times are monotonic seconds.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, assert_never

from garrison.ipc.messages import State
from garrison.supervisor.config.engine_spec import EngineSpec
from garrison.supervisor.config.own_machine import SUPERVISOR
from garrison.supervisor.lifecycle.policy import has_process
from garrison.supervisor.lifecycle.services import Service, ServiceTable, Unplaced
from garrison.supervisor.state.placement_store import PlacementStore

from .decision import Answer, Demand, NodeOffer, Placed, Resources, Unplaceable, may_move, taken
from .devices import GPU, Devices, choose, held_of
from .offers import NodeReport, node_offers
from .placer import Placer
from .rows import node_row

RESTING = frozenset({State.REGISTERED, State.STOPPED, State.FAILED})
# They keep what must not be lost in their data folder, from their first start on.
KEEPERS = frozenset({"agent", "console", "database", "hooks", "mailbox", "task"})
KEEPERS |= {"discord", "telegram", "twitter"}


@dataclass(frozen=True, slots=True)
class PlacementHooks:
    """What placing has done by others."""

    reports: Callable[[], Sequence[NodeReport]]  # of the nodes
    expected: Callable[[], Iterable[str]]  # NAMEs of nodes that have a key
    has_files: Callable[[str], bool]  # whether a service's data folder on this machine has files
    put: Callable[[bytes, str], None]  # has the engine fork a worker, by its token, on a node
    move: Callable[[Service], None]  # restarts a service
    record: Callable[..., object]  # records an event: its name, a service, data
    wake: Callable[[], None]


class Placement:
    """Where services run.

    Args:
        services: All services.
        engine: The config.
        own: What this machine has.
        placer: Finds nodes.
        store: Keeps where services ran.
        hooks: What others do.
    """

    def __init__(
        self,
        services: ServiceTable,
        engine: EngineSpec,
        own: Resources,
        placer: Placer,
        store: PlacementStore,
        hooks: PlacementHooks,
    ) -> None:
        self._services, self._engine, self._own = services, engine, own
        self._placer, self._store, self._hooks = placer, store, hooks
        known = store.known
        self._last, self._data = dict(known.last), dict(known.data)
        self._drained = dict.fromkeys(known.drained)
        self._devices = {name: Devices(*one) for name, one in known.devices.items()}
        self._places: dict[str, str] = {}  # of services that run, or are to start
        self._demands: dict[str, Demand] = {}
        self._moving: dict[str, str] = {}  # service → the node that it runs on, and is to leave
        self._stuck: dict[str, str] = {}  # services that were to move, and why no node takes them
        self._offers: list[NodeOffer] = []
        self._join_until = time.monotonic() + engine.join_wait

    @property
    def due(self) -> float:
        """Return when `settle` is to be called at the latest."""
        now = time.monotonic()
        waits = bool(self._moving) or any(one.soon for one in self._services.unplaced.values())
        return min(self._placer.due, self._join_until if waits and now < self._join_until else inf)

    def descriptors(self) -> list[int]:
        """Return the descriptors to poll for reading."""
        return self._placer.descriptors()

    @property
    def offers(self) -> list[NodeOffer]:
        """Return every node, the supervisor's machine first."""
        reports, expected = self._hooks.reports(), self._hooks.expected()
        known = self._placer.resources()
        return node_offers(reports, expected, self._engine, self._own, self._drained, known)

    @property
    def problem(self) -> str:
        """Return why no nodes are found at the moment, in words; empty: they are."""
        return self._placer.problem

    def close(self) -> None:
        """End; what runs stays as it is."""
        self._placer.close()

    # --- where a service is ---------------------------------------------------------------

    def node_of(self, service: Service) -> str:
        """Return the node that an incarnation is started on; empty: this machine."""
        place = self._places.get(service.name, SUPERVISOR)
        return "" if place == SUPERVISOR else place

    def put(self, service: Service) -> None:
        """Tell the engine where the worker belongs that is forked next."""
        self._hooks.put(service.current.token, self.node_of(service))

    def shown_node(self, service: Service) -> str:
        """Return the node that a service runs on, or will; empty: it has none."""
        if service.current.pid:
            return service.current.handle.node or SUPERVISOR
        return self._places.get(service.name, "")

    # --- the work of a turn -----------------------------------------------------------------

    def settle(self) -> None:
        """Bring places in line with what runs and what is to start; called before each start."""
        self._offers = self.offers
        self._note_data()
        for service in self._services:
            self._follow(service)
        for name in self._places.keys() - self._services.services.keys():
            self._release(name)
        for answer in self._placer.turn(self._offers, self._expected()):
            self._take(answer)
        self._store.save(self._last, self._data, tuple(self._drained), self._devices)

    def _expected(self) -> list[str]:
        """Return the nodes that services wait for, shortly after the start."""
        if time.monotonic() >= self._join_until:
            return []
        leaving = {one.name for one in self._hooks.reports() if one.leaving}
        return [name for name in self._hooks.expected() if name not in leaving]

    def _note_data(self) -> None:
        """Note which services have files on which node, as the nodes report it."""
        for report in self._hooks.reports():
            names: tuple[str, ...] | None = getattr(report.machine, "data", None)
            if report.joined and names is not None:
                self._data[report.name] = tuple(names)

    def _follow(self, service: Service) -> None:
        name, state = service.name, service.state
        if has_process(state):
            running = self.shown_node(service)
            if name not in self._moving and running and self._places.get(name) != running:
                self._places[name] = self._last[name] = running
                self._demands[name] = self._demand(service)
                self._placer.hold(self._demands[name], running)
                self._take_devices(name, running)
            self._services.unplaced.pop(name, None)
        elif state is State.QUEUED:
            self._follow_queued(service)
        elif state in RESTING and not (service.child.wanted and state is not State.FAILED):
            self._release(name)

    def _follow_queued(self, service: Service) -> None:
        name = service.name
        demand, placement = self._demands.get(name), service.spec.placement
        left = self._moving.pop(name, None)
        same = demand is not None and demand.pinned == placement.pinned
        same = same and demand is not None and dict(demand.resources) == dict(placement.resources)
        place = self._places.get(name)
        moved = left is not None and place != left
        if same and place and (moved or self._still_takes(place, demand)):
            return
        if same and not place and name in self._services.unplaced:
            return  # the placer has its demand
        self._ask(service)

    def _still_takes(self, place: str, demand: Demand | None) -> bool:
        offer = next((one for one in self._offers if one.name == place), None)
        if offer is None or offer.problem:
            return False
        return not offer.avoided or (demand is not None and demand.only == place)

    def _ask(self, service: Service) -> None:
        name = service.name
        self._places.pop(name, None)
        self._demands[name] = self._demand(service)
        self._services.unplaced.setdefault(name, Unplaced("waits for a node", soon=True))
        self._placer.place(self._demands[name])

    def _demand(self, service: Service) -> Demand:
        name, placement = service.name, service.spec.placement
        last = self._last.get(name, "")
        if placement.movable:
            return Demand(name, placement.pinned, placement.resources, last)
        has_data = self._has_data(name, last)
        if not last and service.spec.service_type in KEEPERS:
            last, has_data = SUPERVISOR, True
        return Demand(name, placement.pinned, placement.resources, last, has_data)

    def _has_data(self, name: str, node: str) -> bool:
        if node not in {"", SUPERVISOR}:
            is_keeper = self._services.services[name].spec.service_type in KEEPERS
            return is_keeper or name in self._data.get(node, ())
        return bool(node) and self._hooks.has_files(name)

    def _release(self, name: str) -> None:
        known = self._places.pop(name, None), self._demands.pop(name, None)
        self._services.unplaced.pop(name, None)
        self._moving.pop(name, None)
        self._stuck.pop(name, None)
        self._devices.pop(name, None)
        if known != (None, None):
            self._placer.withdraw(name)

    # --- the placer's answers ---------------------------------------------------------------

    def _take(self, answer: Answer) -> None:
        service = self._services.services.get(answer.service)
        if service is None or answer.service not in self._demands:
            return
        match answer:
            case Placed():
                self._take_placed(service, answer.node)
                self._take_devices(service.name, answer.node, answer.devices)
            case Unplaceable():
                self._take_unplaceable(service, answer)
            case _:
                assert_never(answer)
        self._hooks.wake()

    def _take_placed(self, service: Service, node: str) -> None:
        name = service.name
        self._services.unplaced.pop(name, None)
        self._stuck.pop(name, None)
        former, running = self._last.get(name, SUPERVISOR), self.shown_node(service)
        self._places[name] = self._last[name] = node
        if node != former:
            self._hooks.record("service.placed", name, node=node, before=former)
        if has_process(service.state) and running != node:
            self._moving[name] = running
            self._hooks.move(service)
        else:
            self._moving.pop(name, None)

    def _take_unplaceable(self, service: Service, answer: Unplaceable) -> None:
        name = service.name
        if has_process(service.state):
            running = self.shown_node(service)
            if answer.soon or self._is_leaving(running):
                return  # the placer tries again: it may have to move a moment later
            self._stuck[name] = answer.reason  # it was to move, and stays
            self._moving.pop(name, None)
            self._placer.hold(self._demands[name], running)
            return
        former = self._services.unplaced.get(name)
        self._services.unplaced[name] = Unplaced(answer.reason, answer.soon)
        if not answer.soon and (former is None or former.reason != answer.reason):
            self._hooks.record("service.unplaceable", name, reason=answer.reason)

    def _take_devices(self, name: str, node: str, numbers: tuple[int, ...] = ()) -> None:
        """Note which GPUs a service uses on a node: those of the placer, those that it has there,
        or others."""
        amount = self._demands[name].resources.get(GPU, 0.0)
        former = self._devices.get(name)
        if not amount:
            self._devices.pop(name, None)
        elif numbers or former is None or (former.node, former.amount) != (node, amount):
            totals = {one.name: one.resources.get(GPU, 0.0) for one in self._offers}
            held = held_of(node, self._devices, name)
            chosen = numbers or choose(amount, totals.get(node, 0.0), held)
            self._devices[name] = Devices(node, chosen, amount)

    def devices(self, service: Service) -> tuple[int, ...]:
        """Return the numbers of the GPUs that a service uses on its node."""
        found = self._devices.get(service.name)
        return () if found is None else found.numbers

    # --- draining ---------------------------------------------------------------------------

    def drain(self, node: str) -> None:
        """Have a node take only what is bound to it, from now on."""
        self._drained[node] = None
        self._offers = self.offers
        self._hooks.wake()

    def undrain(self, node: str) -> bool:
        """Have a drained node take services again; return False if it was not drained."""
        was_drained = node in self._drained
        self._drained.pop(node, None)
        self._hooks.wake()
        return was_drained

    def on_node(self, node: str) -> list[Service]:
        """Return the services that run on a node."""
        return [
            one for one in self._services if has_process(one.state) and self.shown_node(one) == node
        ]

    def stays(self, service: Service) -> str:
        """Return why a service does not leave its node, in words; empty: it may."""
        return may_move(self._demand(service), self.shown_node(service))

    def leave(self, service: Service) -> None:
        """Have another node found for a service that runs; it is restarted once there is one."""
        self._stuck.pop(service.name, None)
        self._moving[service.name] = self.shown_node(service)
        self._demands[service.name] = self._demand(service)
        self._placer.place(self._demands[service.name])
        self._hooks.wake()

    def on_leaving(self, node: str) -> None:
        """Move what may move from a node whose process was ordered to end."""
        for service in self.on_node(node):
            if not self.stays(service):
                self.leave(service)

    def _is_leaving(self, node: str) -> bool:
        return any(one.name == node and one.leaving for one in self._hooks.reports())

    def stuck(self, service: Service) -> str:
        """Return why no other node takes a service that was to leave, in words; empty: one may."""
        return self._stuck.get(service.name, "")

    def nodes(self) -> list[dict[str, Any]]:
        """Return what `garrison nodes` shows of each node, the supervisor's machine first."""
        reports = {one.name: one for one in self._hooks.reports()}
        offers = {one.name: one for one in self.offers}
        runs = {name: sorted(one.name for one in self.on_node(name)) for name in offers}
        return [
            node_row(offer, reports.get(name), runs[name], self._taken(name))
            for name, offer in offers.items()
        ]

    def _taken(self, node: str) -> dict[str, float]:
        held = {
            name: (self._places[name], demand.resources)
            for name, demand in self._demands.items()
            if name in self._places
        }
        return taken(node, held)
