"""Where services run: the interface of that, and what it is on a host with one machine. Pure."""

from math import inf
from typing import Any, Protocol

from garrison.supervisor.config.own_machine import SUPERVISOR
from garrison.supervisor.lifecycle.services import Service


class Places(Protocol):
    """Where services run; on a host with nodes, `placing.placement.Placement`."""

    @property
    def due(self) -> float:
        """Return when `settle` is to be called at the latest, in monotonic time."""
        ...

    def descriptors(self) -> list[int]:
        """Return the descriptors to poll for reading; `settle` is called after them."""
        ...

    def settle(self) -> None:
        """Have a place found for what is to start; called before each start."""
        ...

    def node_of(self, service: Service) -> str:
        """Return the node that an incarnation is started on; empty: this machine."""
        ...

    def put(self, service: Service) -> None:
        """Tell the engine where the worker belongs that is forked next."""
        ...

    def devices(self, service: Service) -> tuple[int, ...]:
        """Return the numbers of the GPUs that a service uses on its node; empty: all, or none."""
        ...

    def shown_node(self, service: Service) -> str:
        """Return the node that a service runs on, or will; empty: none, or there are no nodes."""
        ...

    def on_leaving(self, node: str) -> None:
        """Move what may move from a node that is about to end."""
        ...

    def nodes(self) -> list[dict[str, Any]]:
        """Return what `garrison nodes` shows of each node."""
        ...

    @property
    def problem(self) -> str:
        """Return why no nodes are found at the moment, in words; empty: they are."""
        ...

    def drain(self, node: str) -> None:
        """Have a node take only what is bound to it, from now on."""
        ...

    def undrain(self, node: str) -> bool:
        """Have a drained node take services again; return False if it was not drained."""
        ...

    def on_node(self, node: str) -> list[Service]:
        """Return the services that run on a node."""
        ...

    def stays(self, service: Service) -> str:
        """Return why a service does not leave its node, in words; empty: it may."""
        ...

    def leave(self, service: Service) -> None:
        """Have another node found for a service that runs; it is restarted once there is one."""
        ...

    def stuck(self, service: Service) -> str:
        """Return why no other node takes a service that was to leave, in words; empty: one may."""
        ...

    def close(self) -> None:
        """End; what runs stays as it is."""
        ...


class OneMachine:
    """A host without nodes: all runs here."""

    due = inf
    problem = ""

    def descriptors(self) -> list[int]:
        """Return none."""
        return []

    def settle(self) -> None:
        """Do nothing: every place is this machine."""

    def node_of(self, service: Service) -> str:
        """Return that it is this machine."""
        return ""

    def put(self, service: Service) -> None:
        """Do nothing: the engine knows no other place."""

    def devices(self, service: Service) -> tuple[int, ...]:
        """Return that none are chosen."""
        return ()

    def shown_node(self, service: Service) -> str:
        """Return that there are no nodes."""
        return ""

    def on_leaving(self, node: str) -> None:
        """Do nothing: there are no nodes."""

    def nodes(self) -> list[dict[str, Any]]:
        """Return none."""
        return []

    def drain(self, node: str) -> None:
        """Do nothing: there are no nodes."""

    def undrain(self, node: str) -> bool:
        """Return that it was not drained."""
        return False

    def on_node(self, node: str) -> list[Service]:
        """Return none."""
        return []

    def stays(self, service: Service) -> str:
        """Return that it is where it can be."""
        return f"it can only run on {SUPERVISOR}"

    def leave(self, service: Service) -> None:
        """Do nothing: there are no nodes."""

    def stuck(self, service: Service) -> str:
        """Return that there is no other."""
        return "there are no other nodes"

    def close(self) -> None:
        """Do nothing: there is nothing open."""
