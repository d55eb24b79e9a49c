"""What each node offers to placing, by its last report and the config. Pure."""

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from garrison.supervisor.config.engine_spec import EngineSpec
from garrison.supervisor.config.own_machine import SUPERVISOR

from .decision import NodeOffer, Resources

ABSENT = "has not reported in: start garrison node there"


class MachineReport(Protocol):
    """What a machine has."""

    @property
    def processors(self) -> int:
        """Return their number."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Return all of its memory."""
        ...


class NodeReport(Protocol):
    """What the engine knows of a node."""

    @property
    def name(self) -> str:
        """Return its NAME."""
        ...

    @property
    def joined(self) -> bool:
        """Return whether it has contact."""
        ...

    @property
    def leaving(self) -> bool:
        """Return whether it was ordered to end."""
        ...

    @property
    def machine(self) -> MachineReport:
        """Return its last measurement."""
        ...


def machine_resources(processors: int, memory_bytes: int) -> dict[str, float]:
    """Return what a machine has, without what only the config knows."""
    found = {"CPU": float(processors), "memory": float(memory_bytes)}
    return {key: amount for key, amount in found.items() if amount}


def node_offers(
    reports: Iterable[NodeReport],
    expected: Iterable[str],
    engine: EngineSpec,
    own: Resources,
    drained: Collection[str],
    known: Mapping[str, Resources],
) -> list[NodeOffer]:
    """Return every node, the supervisor's machine first.

    Args:
        reports: The engine's nodes.
        expected: NAMEs of nodes that have a key, or a table in the config.
        engine: The config, whose resources are added to those that were measured.
        own: What this machine has.
        drained: The nodes that take only what is bound to them.
        known: What the placer knows that nodes have, in place of all else.
    """
    declared: dict[str, Mapping[str, float]] = {
        name: one.resources for name, one in engine.nodes.items()
    }
    has = known.get(SUPERVISOR) or {**own, **declared.get(SUPERVISOR, {})}
    here = NodeOffer(SUPERVISOR, has, "", _avoided(drained))
    offers = [here]
    for one in reports:
        measured = machine_resources(one.machine.processors, one.machine.memory_bytes)
        resources = known.get(one.name) or {**measured, **declared.get(one.name, {})}
        offers.append(NodeOffer(one.name, resources, _problem(one), _avoided(drained, one.name)))
    listed = {one.name for one in offers}
    offers += [
        NodeOffer(name, declared.get(name, {}), ABSENT, _avoided(drained, name))
        for name in expected
        if name not in listed
    ]
    return offers


def _problem(report: NodeReport) -> str:
    if not report.joined:
        return "has no contact"
    return "is about to leave" if report.leaving else ""


def _avoided(drained: Collection[str], name: str = SUPERVISOR) -> str:
    return "is drained" if name in drained else ""
