"""Finds nodes among the machines of the config, by what it has placed there itself. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import inf

from .decision import Answer, Demand, NodeOffer, Placed, Resources, Unplaceable, decide


class ListPlacer:
    """Places services by the resources that the nodes declare."""

    def __init__(self) -> None:
        self._waiting: dict[str, Demand] = {}
        self._reasons: dict[str, str] = {}  # of those, as they were last answered
        self._held: dict[str, tuple[str, Resources]] = {}
        self._epoch = 0

    @property
    def held(self) -> dict[str, tuple[str, Resources]]:
        """Return what each placed service has, and of which node."""
        return dict(self._held)

    def place(self, demand: Demand) -> None:
        """Find a node for a service; a former demand of it is replaced."""
        self._held.pop(demand.service, None)
        self._reasons.pop(demand.service, None)
        self._waiting[demand.service] = demand

    def hold(self, demand: Demand, node: str) -> None:
        """Note that a service already runs on a node."""
        self._waiting.pop(demand.service, None)
        self._held[demand.service] = node, demand.resources

    def withdraw(self, service: str) -> None:
        """Forget a service, and free what it has."""
        self._waiting.pop(service, None)
        self._reasons.pop(service, None)
        self._held.pop(service, None)

    def turn(self, nodes: Sequence[NodeOffer], expected: Iterable[str]) -> list[Answer]:
        """Return what was found; those that wait are tried in the order of their requests."""
        answers, about_to_join = list[Answer](), list(expected)
        for name, demand in list(self._waiting.items()):
            match decide(demand, nodes, self._held, about_to_join):
                case Placed() as placed:
                    self._epoch += 1
                    self.hold(demand, placed.node)
                    answers.append(replace(placed, epoch=self._epoch))
                case Unplaceable() as unplaceable:
                    if self._reasons.get(name) != unplaceable.reason:
                        self._reasons[name] = unplaceable.reason
                        answers.append(unplaceable)
        return answers

    def descriptors(self) -> list[int]:
        """Return no descriptor: it waits for nothing."""
        return []

    @property
    def due(self) -> float:
        """Return that it waits for no time."""
        return inf

    def resources(self) -> dict[str, Resources]:
        """Return nothing: the nodes and the config say what there is."""
        return {}

    @property
    def problem(self) -> str:
        """Return that it has none."""
        return ""

    def close(self) -> None:
        """Do nothing: it has nothing open."""
