"""In which order services are listed, and which have changed since the last look. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from garrison.ipc.urgency import urgency

Row: TypeAlias = dict[str, Any]  # of a service, as `status` has it

ORDERS: Final = ("unwell", "name", "config")
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


def changed(before: Iterable[Row], after: Iterable[Row]) -> set[str]:
    """Return the services that are new, or whose state, process or reason is another."""
    former: Mapping[str, Row] = {row["name"]: row for row in before}
    return {row["name"] for row in after if _facts(row) != _facts(former.get(row["name"]))}


def _facts(row: Row | None) -> list[Any] | None:
    return None if row is None else [row.get(key) for key in WATCHED]
