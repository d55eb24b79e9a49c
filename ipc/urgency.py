"""Which services need an operator first: one order for the command line and the console. Pure."""

from collections.abc import Mapping
from typing import Any, Final

DOWN: Final = 2  # the urgency of services that are wanted and do not run; those above run


def urgency(row: Mapping[str, Any]) -> int:
    """Return how much a service needs an operator; 0 is most.

    Args:
        row: Of the service, as `status` has it.
    """
    link, health = row.get("link") or {}, row.get("health")
    if row["state"] == "failed" or link.get("disconnected"):
        return 0
    if row["state"] == "backoff":
        return 1
    if row["wanted"] and row["state"] != "running":
        return 2
    if (health and not health["well"]) or link.get("deaf"):
        return 3
    if row.get("config_rejected") or row.get("warnings"):
        return 4
    if row.get("paused"):
        return 5
    return 6 if row["wanted"] or row["state"] == "running" else 7
