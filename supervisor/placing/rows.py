"""What `garrison nodes` and the metrics show of each node. Pure."""

from typing import Any

from garrison.supervisor.config.own_machine import SUPERVISOR

from .decision import NodeOffer, Resources
from .offers import NodeReport


def node_row(
    offer: NodeOffer, report: NodeReport | None, runs: list[str], taken: Resources
) -> dict[str, Any]:
    """Return the row of a node.

    Args:
        offer: The node, as placing sees it.
        report: What the engine knows of it; None: it is this machine, or has never reported in.
        runs: The services that run there.
        taken: What services have of its resources.
    """
    hello = getattr(report, "hello", None)
    machine = getattr(report, "machine", None)
    return {
        "name": offer.name,
        "up": offer.name == SUPERVISOR or (report is not None and report.joined),
        "problem": offer.problem or None,
        "drained": bool(offer.avoided),
        "leaving": report is not None and report.leaving,
        "lease_age_s": getattr(report, "lease_age", None),
        "resources": dict(offer.resources),
        "taken": dict(taken),
        "services": runs,
        "load": getattr(machine, "load", None),
        "memory_free_bytes": getattr(machine, "memory_free_bytes", None),
        "host": getattr(hello, "host", None),
        "python": getattr(hello, "python", None),
        "garrison": getattr(hello, "garrison", None),
        "packages": dict(getattr(hello, "packages", None) or {}),
    }
