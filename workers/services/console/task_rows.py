"""What the page Tasks shows of task services' lists. Pure. Times are Unix seconds."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from .words import span

Row: TypeAlias = dict[str, Any]

STATUSES = ("pending", "running", "paused", "failed", "done")
TONES = {"running": "good", "pending": "off", "paused": "odd", "failed": "bad", "done": "off"}
ACTIONS = {  # of a status, in the order of the buttons
    "pending": ("run", "pause"),
    "running": ("pause",),
    "paused": ("resume", "run"),
    "failed": ("resume", "run"),
    "done": ("run",),
}
DONE = {
    "run": "will run now",
    "pause": "is paused",
    "resume": "is resumed",
    "drop": "is dropped",
}
LABELS = {"run": "Run now", "pause": "Pause", "resume": "Resume", "drop": "Drop…"}


def merged(lists: Iterable[Mapping[str, Any]], most: int) -> Row:
    """Return the lists of several services as one: two services may run the same tasks.

    Args:
        lists: What `ls` of each returned.
        most: Tasks that are shown.
    """
    found = list(lists)
    rows = {(row["agent"], row["id"]): dict(row) for one in found for row in one["tasks"]}
    shown = sorted(rows.values(), key=_order)
    return {
        "tasks": [row | _shown(row) for row in shown[:most]],
        "more": len(shown) > most or any(one["more"] for one in found),
    }


def _order(row: Mapping[str, Any]) -> tuple[bool, bool, float]:
    """Sort what failed first, then what runs, then by time."""
    unwell = row["status"] == "failed" or (row["status"] == "paused" and bool(row["error"]))
    return not unwell, row["status"] != "running", row["at"] or 0.0


def _shown(row: Mapping[str, Any]) -> Row:
    return {
        "tone": TONES.get(row["status"], "off"),
        "repeats": repeats(row),
        "why": why(row),
        "actions": ACTIONS.get(row["status"], ()),
    }


def repeats(row: Mapping[str, Any]) -> str:
    """Return how a task repeats; empty: it runs once."""
    if row["cron"]:
        return f"{row['cron']} ({row['time_zone']})" if row.get("time_zone") else str(row["cron"])
    return f"every {span(row['every_s'])}" if row["every_s"] else ""


def why(row: Mapping[str, Any]) -> str:
    """Return why a task does not run, or what its last run failed with; empty: nothing is wrong."""
    if not row["is_queued"]:
        return "it has no tag queue, so it does not run"
    if row["status"] == "pending" and not row["workers"]:
        return "no worker is registered for it"
    return str(row["error"])


def last_result(row: Mapping[str, Any]) -> str:
    """Return how the last run ended, as far as the task knows."""
    if row["attempts"]:
        return f"failed, {row['attempts']} in a row"
    if row.get("runs"):
        return "finished"
    return "it has not run yet" if "runs" in row else ""


def facts(row: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    """Return what is known of one task: a name, how to show the value, and the value."""
    found: list[tuple[str, str, Any]] = [
        ("name", "text", row["name"]),
        ("agent", "text", row["agent"]),
        ("about", "text", row["description"]),
        ("status", "text", row["status"]),
        ("next run", "at", row["at"] if row["status"] == "pending" else None),
        ("repeats", "text", repeats(row)),
        ("runs in", "text", ", ".join(row["workers"]) or "no worker is registered for it"),
        ("tags", "text", ", ".join(row["tags"])),
        ("last run", "text", last_result(row)),
        ("finished", "text", f"{row['runs']} runs" if row["runs"] else None),
        ("deaths", "text", f"{row['deaths']} of its worker" if row["deaths"] else None),
        ("missed", "text", f"{row['missed_count']} times" if row["missed_count"] else None),
        ("last missed", "at", row["missed_until"]),
        ("runner", "text", row["lease_owner"]),
        ("lease until", "at", row["lease_until"]),
        ("why", "lines", why(row)),
        ("room", "text", row["room_id"]),
        ("metadata", "value", row["metadata"] or None),
    ]
    return [one for one in found if one[2] not in (None, "", 0)]
