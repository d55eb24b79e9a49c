"""What the placement groups in Ray have to become, and what they mean. Pure.

A service has one group, of one bundle: what it needs, on one machine. The group's name has the
service, the epoch of its placement, and a number that changes with the machines that may take it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from .decision import amount_text
from .devices import GPU
from .ray_messages import LEAST_CPU, Known, RayNode, Want, Wanted

CREATED, REMOVED = "CREATED", "REMOVED"
INFEASIBLE = "INFEASIBLE"
WITHOUT_ROOM = frozenset({INFEASIBLE, "NO_RESOURCES"})


@dataclass(frozen=True, slots=True)
class Group:
    """A placement group, as Ray lists it."""

    name: str
    state: str
    bundle: dict[str, float] = field(default_factory=dict)
    node_id: str = ""  # empty: it has no place
    scheduling: str = ""  # what Ray says of finding one

    @property
    def service(self) -> str:
        """Return the NAME of the service that it is for."""
        return self.name.rsplit("@", 1)[0]


@dataclass(frozen=True, slots=True)
class NewGroup:
    """A placement group that is to be made."""

    name: str
    bundle: dict[str, float]
    node_ids: tuple[str, ...]  # machines that may take it


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done."""

    make: list[NewGroup]
    remove: list[str]  # names of groups
    known: Known  # what the supervisor knows of each service


def bundle_of(want: Want) -> dict[str, float]:
    """Return what a group of a service holds."""
    return dict(want.resources) or {"CPU": LEAST_CPU}


def plan(wanted: Wanted, groups: Iterable[Group], nodes: tuple[RayNode, ...]) -> Plan:
    """Return what is to be done, and what is known now.

    Args:
        wanted: What the supervisor wants.
        groups: All groups of this host, those that are removed left out.
        nodes: The machines of the cluster that are alive.
    """
    by_service: dict[str, list[Group]] = {}
    for group in groups:
        if group.state != REMOVED:
            by_service.setdefault(group.service, []).append(group)
    names = {one.id: one.name for one in nodes if one.name}
    make, remove = list[NewGroup](), list[str]()
    placed, waits = dict[str, tuple[int, str]](), dict[str, tuple[int, str]]()
    for want in wanted.services:
        own = by_service.pop(want.service, [])
        allowed = _preferred(want, own, _allowed(want, wanted, nodes), names)
        name = _name(want, allowed)
        kept = _kept(want, own, name, names)
        remove += [one.name for one in own if one is not kept]
        if kept is None and allowed:
            make.append(NewGroup(name, bundle_of(want), allowed))
        if kept is not None and kept.state == CREATED and kept.node_id in names:
            placed[want.service] = want.epoch, names[kept.node_id]
        elif reason := _reason(want, wanted, kept, nodes):
            waits[want.service] = want.epoch, reason
    remove += [one.name for own in by_service.values() for one in own]
    return Plan(make, remove, Known(placed, waits, nodes))


def with_devices(known: Known, devices: Mapping[str, tuple[int, ...]], wanted: Wanted) -> Known:
    """Return what is known, with GPUs; a service whose GPUs are not known yet has no place yet.

    Args:
        known: What is known without them.
        devices: Service → the numbers of its GPUs, where they are known.
        wanted: What the supervisor wants.
    """
    need = {one.service for one in wanted.services if one.resources.get(GPU)}
    placed = {
        name: place for name, place in known.placed.items() if name in devices or name not in need
    }
    mine = {name: numbers for name, numbers in devices.items() if name in placed}
    return Known(placed, known.waits, known.nodes, mine)


def _allowed(want: Want, wanted: Wanted, nodes: Iterable[RayNode]) -> tuple[str, ...]:
    """Return the ids of the machines that may take a service."""
    return tuple(
        sorted(
            one.id
            for one in nodes
            if one.name and (one.name == want.node if want.node else _is_open(one.name, wanted))
        )
    )


def _preferred(
    want: Want, own: list[Group], allowed: tuple[str, ...], names: Mapping[str, str]
) -> tuple[str, ...]:
    """Return the preferred machine alone, unless that was tried and has no room.

    That it was tried is seen by the groups that there are: one for this machine that found no room,
    or already one for all of them.
    """
    first = tuple(one for one in allowed if want.prefer and names.get(one) == want.prefer)
    tried = {one.name for one in own if one.scheduling in WITHOUT_ROOM}
    tried_all = any(one.name == _name(want, allowed) for one in own)
    return allowed if not first or tried_all or _name(want, first) in tried else first


def _is_open(name: str, wanted: Wanted) -> bool:
    return name not in wanted.avoid and name not in wanted.problems


def _name(want: Want, allowed: tuple[str, ...]) -> str:
    digest = sha256(" ".join(allowed).encode()).hexdigest()[:8]
    return f"{want.service}@{want.epoch}-{digest}"


def _kept(want: Want, own: list[Group], name: str, names: Mapping[str, str]) -> Group | None:
    """Return the group of a service that stays: one that has its place, else one that is looked
    for among the machines that may take it now."""
    bundle, prefix = bundle_of(want), f"{want.service}@{want.epoch}-"
    for one in own:
        has_place = one.state == CREATED and names.get(one.node_id, "")
        if has_place and one.name.startswith(prefix):
            return one
        if has_place and want.holds and names[one.node_id] == want.node and one.bundle == bundle:
            return one
    return next((one for one in own if one.name == name), None)


def _reason(want: Want, wanted: Wanted, group: Group | None, nodes: tuple[RayNode, ...]) -> str:
    """Return why a service has no place, in words; empty: that is not known yet."""
    needs = ", ".join(f"{key} {amount_text(key, value)}" for key, value in want.resources.items())
    if not _allowed(want, wanted, nodes):
        if want.node:
            found = next((one for one in nodes if one.name == want.node), None)
            return f"waits for node {want.node}, which is not in the Ray cluster" * (found is None)
        words = [f"node {one.name} {_why_not(one.name, wanted)}" for one in nodes if one.name]
        words += [one.problem for one in nodes if one.problem]
        return f"waits for a node of the Ray cluster: {'; '.join(words) or 'it has none'}"
    if group is None or not group.scheduling:
        return ""
    if group.scheduling == INFEASIBLE:
        return f"waits for a node of the Ray cluster: none that may take it has {needs or 'room'}"
    return f"waits for a node of the Ray cluster: {needs or 'room'} is not free"


def _why_not(name: str, wanted: Wanted) -> str:
    return wanted.problems.get(name) or "is drained"
