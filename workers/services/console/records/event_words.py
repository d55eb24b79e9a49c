"""What an event is on a page: a sentence, how serious it is, and where more is to be read. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

from garrison.ipc.log_events import LogEvent
from garrison.ipc.record_pages import OTHERS

from .line_words import clean

TEXT_MOST = 1000  # characters
# First word of an event's name → what the page calls these events.
GROUPS = {
    "service": "states of services",
    "order": "orders",
    "config": "the config",
    "plugin": "plugins",
    "supervisor": "the supervisor",
    "node": "nodes",
    "platform": "platforms",
    "mail": "messages",
    "task": "tasks",
    "answer": "answers",
    "budget": "budgets",
    "limit": "limits",
    "log": "log files",
    "disk": "the disk",
    OTHERS: "other",
}
SERIOUS = frozenset(
    {
        "service.overrun",
        "service.trial_failed",
        "mail.dead",
        "answer.failed",
        "config.unusable",
        "plugin.unreadable",
        "state.damaged",
        "state.unsaved",
        "journal.lost",
        "death.unrecorded",
        "supervisor.erred",
        "launcher.lost",
        "node.fenced",
    }
)
ODD = frozenset(
    {
        "service.unwell",
        "service.fault",
        "service.held_up",
        "service.leftover",
        "service.not_reloaded",
        "service.not_renamed",
        "service.unplaceable",
        "node.lost",
        "node.leaving",
        "node.refused",
        "node.removed",
        "platform.deaf",
        "config.rejected",
        "config.not_applied",
        "order.refused",
        "limit.unheld",
        "budget.reached",
        "task.paused",
        "disk.low",
        "log.dropped",
        "log.missing",
        "log.not_rotated",
        "frame.refused",
        "member.turned_away",
        "user.not_let_in",
    }
)
GOOD = frozenset(
    {"service.well", "platform.receives", "disk.ok", "node.joined", "supervisor.settled"}
)
ORDERS = {
    "start": "started",
    "stop": "stopped",
    "restart": "restarted",
    "reset": "reset",
    "pause": "paused",
    "resume": "resumed",
    "reload": "reloaded",
}


class EventRow(msgspec.Struct, frozen=True):
    """One event on a page.

    Attributes:
        n: Its number.
        time: UTC, RFC 3339.
        event: Its name.
        service: NAME; empty: it is of the host.
        text: What happened, in words.
        tone: "good", "odd", "bad", or "off".
        death: The id of its crash report.
        message: The id of the message that was not answered.
    """

    n: int
    time: str
    event: str
    service: str
    text: str
    tone: str = "off"
    death: str = ""
    message: str = ""


def row_of(event: LogEvent) -> EventRow:
    """Return an event in words."""
    data = event.data
    if event.event == "service.state":
        text, tone = _of_state(data)
    elif event.event == "order.given":
        text, tone = _of_order(data), "off"
    else:
        text, tone = _of_other(event), _tone(event.event)
    text = clean(" ".join(text.split()))
    return EventRow(
        event.n,
        event.time,
        event.event,
        event.service,
        text if len(text) <= TEXT_MOST else text[: TEXT_MOST - 1] + "…",
        tone,
        str(data.get("death") or ""),
        str(data.get("message") or "") if event.event == "answer.failed" else "",
    )


def _tone(name: str) -> str:
    if name in SERIOUS:
        return "bad"
    return "odd" if name in ODD else "good" if name in GOOD else "off"


def _of_state(data: Mapping[str, Any]) -> tuple[str, str]:
    """Return a step of a service in words, and its tone."""
    before, after = str(data.get("from", "")), str(data.get("to", ""))
    parts = [f"{before} → {after}"]
    if data.get("exit"):
        parts.append(f"its process {data['exit']}")
    if data.get("reason"):
        parts.append(str(data["reason"]))
    if data.get("pid"):
        parts.append(f"pid {data['pid']}, incarnation {data.get('generation', '?')}")
    if isinstance(data.get("wait_s"), int | float):
        parts.append(f"tried again after {data['wait_s']:.1f} s")
    if isinstance(data.get("took_s"), int | float):
        parts.append(f"after {data['took_s']:.1f} s")
    known = {"from", "to", "exit", "reason", "pid", "generation", "wait_s", "took_s", "death"}
    if rest := _fields({key: value for key, value in data.items() if key not in known}):
        parts.append(rest)
    if after == "failed" or data.get("limit"):
        return "; ".join(parts), "bad"
    if after == "backoff" or data.get("death"):
        return "; ".join(parts), "bad" if data.get("death") else "odd"
    return "; ".join(parts), "good" if after == "running" else "off"


def _of_order(data: Mapping[str, Any]) -> str:
    who = str(data.get("user") or data.get("uid") or "an operator")
    if data.get("team"):
        who += f" of {data['team']}"
    if data.get("person"):
        who += f" ({data['person']})"
    verb, names = str(data.get("verb", "")), str(data.get("names") or "")
    done = f"{ORDERS[verb]} {names}" if verb in ORDERS and names else f"ordered {verb} {names}"
    way = f", by {data['via']}" if data.get("via") else ""
    why = f": {data['why']}" if data.get("why") else ""
    return f"{who} {done.rstrip()}{way}{why}"


def _of_other(event: LogEvent) -> str:
    """Return the reason first, then the other fields."""
    data = dict(event.data)
    reason = data.pop("problem", "") or data.pop("reason", "") or data.pop("error", "")
    return "; ".join(part for part in (str(reason), _fields(data)) if part) or event.event


def _fields(data: Mapping[str, Any]) -> str:
    return LogEvent(0, "", "", "", dict(data)).text().strip()
