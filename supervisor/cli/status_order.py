"""In which order services are listed, and which have changed since the last look. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

Row: TypeAlias = dict[str, Any]  # of a service, as `status` has it

ORDERS: Final = ("unwell", "name", "config")
DOWN: Final = 2  # the urgency of services that are wanted and do not run; those above run
WATCHED: Final = ("state", "pid", "restarts", "reason", "wanted", "paused")


def ordered(rows: Sequence[Row], order: str) -> list[Row]:
    """Return services in an order.

    Args:
        rows: In the order of the config.
        order: "unwell": those that need an operator first, else as in the config; "name" or
            "config".
    """
    match order:
        case "name":
            return sorted(rows, key=lambda row: str(row["name"]))
        case "unwell":
            return sorted(rows, key=urgency)
        case _:
            return list(rows)


def urgency(row: Row) -> int:
    """Return how much a service needs an operator; 0 is most."""
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


def changed(before: Iterable[Row], after: Iterable[Row]) -> set[str]:
    """Return the services that are new, or whose state, process or reason is another."""
    former: Mapping[str, Row] = {row["name"]: row for row in before}
    return {row["name"] for row in after if _facts(row) != _facts(former.get(row["name"]))}


def _facts(row: Row | None) -> list[Any] | None:
    return None if row is None else [row.get(key) for key in WATCHED]
