"""Which node a service runs on: by its pin, its data, what it needs, and what runs where. Pure.

Amounts are those of the config: numbers, of `memory` bytes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from garrison.supervisor.config.own_machine import SUPERVISOR

Resources: TypeAlias = Mapping[str, float]
SLACK = 1e-9  # sums of fractions are not exact


@dataclass(frozen=True, slots=True)
class Demand:
    """What one service asks of the node that it runs on."""

    service: str
    pinned: str = ""  # the one node that it may run on; empty: any
    resources: Resources = field(default_factory=dict)
    last: str = ""  # where it ran last; empty: nowhere yet
    has_data: bool = False  # it keeps files there, and is not movable

    @property
    def only(self) -> str:
        """Return the one node that it may run on; empty: any."""
        return self.pinned or (self.last if self.has_data else "")


@dataclass(frozen=True, slots=True)
class NodeOffer:
    """One node, as placing sees it."""

    name: str
    resources: Resources = field(default_factory=dict)  # all that it has
    problem: str = ""  # why nothing starts there now, in words after "which"
    avoided: str = ""  # why only what is bound to it starts there, likewise


@dataclass(frozen=True, slots=True)
class Placed:
    """A service has a node."""

    service: str
    node: str
    epoch: int = 0  # a later placement of the service has a larger one
    devices: tuple[int, ...] = ()  # numbers of its GPUs, where the placer has chosen them


@dataclass(frozen=True, slots=True)
class Unplaceable:
    """No node takes a service now; it waits."""

    service: str
    reason: str  # "waits for …"
    soon: bool = False  # what it waits for comes by itself, or is given up within seconds


Answer: TypeAlias = Placed | Unplaceable
Held: TypeAlias = Mapping[str, tuple[str, Resources]]  # service → its node, what it has of it


def decide(
    demand: Demand, nodes: Sequence[NodeOffer], held: Held, expected: Iterable[str] = ()
) -> Answer:
    """Return where a service starts.

    Its only node, else the one that it ran on, else the least loaded of those that have what it
    needs. Equal ones are taken in their order.

    Args:
        demand: The service.
        nodes: Every known node, the supervisor's machine among them.
        held: What other services have; its own place is not counted.
        expected: Nodes that are about to report in: without a pin, it waits for these.
    """
    others = {name: one for name, one in held.items() if name != demand.service}
    if demand.only:
        return _on_its_only(demand, nodes, others)
    open_nodes = [one for one in nodes if not (one.problem or one.avoided)]
    fitting = [one for one in open_nodes if not lacking(demand.resources, one, others)]
    if any(one.name == demand.last for one in fitting):
        return Placed(demand.service, demand.last)
    if missing := [name for name in expected if not _takes(name, nodes)]:
        words = f"waits for {_listed(missing)} to report in"
        return Unplaceable(demand.service, words, soon=True)
    if not fitting:
        return Unplaceable(demand.service, _nothing_fits(demand, nodes, others))
    return Placed(demand.service, min(fitting, key=lambda one: _load(one, others)).name)


def _takes(name: str, nodes: Sequence[NodeOffer]) -> bool:
    return any(one.name == name and not one.problem for one in nodes)


def _on_its_only(demand: Demand, nodes: Sequence[NodeOffer], held: Held) -> Answer:
    name = demand.only
    why = "" if demand.pinned else ", where its data is: name its node, or set movable = true"
    node = next((one for one in nodes if one.name == name), None)
    if problem := only_problem(name, node):
        return Unplaceable(demand.service, f"waits for {problem}{why}")
    assert node is not None
    if short := lacking(demand.resources, node, held):
        return Unplaceable(demand.service, f"waits for {short} on {shown(name)}{why}")
    return Placed(demand.service, name)


def only_problem(name: str, node: NodeOffer | None) -> str:
    """Return why nothing starts on a node now, in words; empty: it does."""
    if node is None:
        return f"node {name}, which has no key: garrison node keys {name}"
    return f"{shown(name)}, which {node.problem}" if node.problem else ""


def shown(name: str) -> str:
    """Return a node in words."""
    return "the supervisor's machine" if name == SUPERVISOR else f"node {name}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(shown(name) for name in names)


def taken(node: str, held: Held) -> dict[str, float]:
    """Return what services have of a node."""
    sums = dict[str, float]()
    for place, resources in held.values():
        if place == node:
            for key, amount in resources.items():
                sums[key] = sums.get(key, 0.0) + amount
    return sums


def lacking(wanted: Resources, node: NodeOffer, held: Held) -> str:
    """Return what a node has not free of what is wanted, in words; empty: it has all."""
    used, short = taken(node.name, held), list[str]()
    for key, amount in wanted.items():
        has = node.resources.get(key, 0.0)
        free = max(has - used.get(key, 0.0), 0.0)
        if amount > free + SLACK * max(has, 1.0):
            short.append(f"{key} {amount_text(key, amount)} ({_of(key, free, has)})")
    return ", ".join(short)


def _of(key: str, free: float, has: float) -> str:
    if not has:
        return "it has none"
    return f"{amount_text(key, free)} of {amount_text(key, has)} is free"


def amount_text(key: str, amount: float) -> str:
    """Return an amount as it is shown."""
    return f"{amount / 2**30:.3g} GiB" if key == "memory" else f"{amount:.10g}"


def _nothing_fits(demand: Demand, nodes: Sequence[NodeOffer], held: Held) -> str:
    reasons = list[str]()
    for one in nodes:
        words = one.problem or one.avoided or f"lacks {lacking(demand.resources, one, held)}"
        reasons.append(f"{shown(one.name)} {words}")
    return f"waits for a node: {'; '.join(reasons)}"


def _load(node: NodeOffer, held: Held) -> tuple[float, float]:
    """Return how loaded a node is: the largest share that is taken of a resource, then services."""
    used = taken(node.name, held)
    share = max(
        (used.get(key, 0.0) / has for key, has in node.resources.items() if has), default=0.0
    )
    count = sum(place == node.name for place, _ in held.values())
    return share, count / max(node.resources.get("CPU", 1.0), 1.0)


def may_move(demand: Demand, node: str) -> str:
    """Return why a service stays on a node that is drained, in words; empty: it may move."""
    if demand.pinned:
        named = f'its config has node = "{node}"'
        return named if node != SUPERVISOR else "its config does not let it run elsewhere"
    if demand.has_data:
        return "its data is there, and it is not movable"
    return ""
