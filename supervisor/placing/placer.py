"""The interface of what finds nodes for services. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from .decision import Answer, Demand, NodeOffer, Resources


class Placer(Protocol):
    """Finds nodes. Nothing in it blocks; `turn` returns its answers.

    A service that has a request is answered by Unplaceable, as often as the reason changes, and at
    last by Placed. A placed one can be placed again, if its node is lost to the placer.
    """

    def place(self, demand: Demand) -> None:
        """Find a node for a service; a former demand of it is replaced."""
        ...

    def hold(self, demand: Demand, node: str) -> None:
        """Note that a service already runs on a node."""
        ...

    def withdraw(self, service: str) -> None:
        """Forget a service, and free what it has."""
        ...

    def turn(self, nodes: Sequence[NodeOffer], expected: Iterable[str]) -> list[Answer]:
        """Return what was found since the last call.

        Args:
            nodes: Every node, as it is now.
            expected: Nodes that are about to report in.
        """
        ...

    def descriptors(self) -> list[int]:
        """Return the descriptors to poll for reading."""
        ...

    @property
    def due(self) -> float:
        """Return when `turn` is to be called even if no descriptor is ready, in monotonic time."""
        ...

    def resources(self) -> Mapping[str, Resources]:
        """Return what it knows that nodes have, in place of what they report themselves."""
        ...

    @property
    def problem(self) -> str:
        """Return why it finds no nodes at the moment, in words; empty: it does."""
        ...

    def close(self) -> None:
        """End; what runs stays as it is."""
        ...
