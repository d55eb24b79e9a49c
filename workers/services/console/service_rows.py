"""What the table of services shows of each, in which order. Pure.

Durations are seconds, sizes bytes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from garrison.ipc.urgency import urgency

Row: TypeAlias = Mapping[str, Any]  # of a service, as `status` has it
WARNINGS_SHOWN = 5


def shown_rows(rows: Sequence[Row]) -> list[Mapping[str, Any]]:
    """Return what is shown of services, those that are unwell first."""
    return [shown(row) for row in sorted(rows, key=urgency)]


def shown(row: Row) -> Mapping[str, Any]:
    """Return what is shown of a service: its row, and words."""
    link = row.get("link") or {}
    state = str(row["state"])
    if link.get("disconnected"):
        state = "disconnected"
    elif state == "running" and row.get("paused"):
        state = "paused"
    return {
        **row,
        "id": identifier(str(row["name"])),
        "shown_state": state,
        "tone": _tone(row, state),
        "remarks": remarks(row),
        "last_in": link.get("last_in_s"),
        "last_out": link.get("last_out_s"),
    }


def _tone(row: Row, state: str) -> str:
    urgent = urgency(row)
    if urgent <= 1:
        return "bad"
    if urgent <= 5:
        return "odd"
    return "good" if state == "running" else "off"


def remarks(row: Row) -> list[str]:
    """Return why a service is not well, in lines."""
    lines = list[str]()
    if row.get("reason") and row["state"] != "running":
        lines.append(str(row["reason"]).splitlines()[0])
    health, link = row.get("health"), row.get("link") or {}
    if health and not health["well"]:
        lines.append(f"its health: {health['problem']}")
    if link.get("disconnected"):
        lines.append(f"disconnected: {link['disconnected']}")
    if link.get("deaf"):
        lines.append(f"receives nothing: {link['deaf']}")
    if row.get("config_rejected"):
        lines.append(f"config rejected: {row['config_rejected']}")
    if row.get("paused"):
        who = row.get("paused_by") or "an operator"
        why = f": {row['paused_why']}" if row.get("paused_why") else ""
        lines.append(f"paused by {who}{why}")
    warnings = [str(one) for one in row.get("warnings") or ()]
    lines += warnings[:WARNINGS_SHOWN]
    if len(warnings) > WARNINGS_SHOWN:
        lines.append(f"and {len(warnings) - WARNINGS_SHOWN} more warnings")
    return lines


def identifier(name: str) -> str:
    """Return an id for an element, which no other NAME has."""
    return "s-" + "".join(
        one if one.isascii() and one.isalnum() else f"_{ord(one):x}_" for one in name
    )
