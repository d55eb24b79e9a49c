"""What the page Answers shows of agents' records. Pure.

Times are Unix seconds, durations seconds.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from .values import compact

Row: TypeAlias = dict[str, Any]

STATES = {
    "done": ("answered", "good"),
    "deciding": ("being decided on", "odd"),
    "decided": ("being answered", "odd"),
    "failed": ("failed", "bad"),
    "dropped": ("dropped", "off"),
    "expired": ("expired", "off"),
}
STEP_KINDS = {
    "say": "sent a given response",
    "run": "ran",
    "reply": "requested a reply from the model",
    "unknown": "left out",
}
OUTCOMES = {
    "sent": "good",
    "uncertain": "odd",
    "refused": "bad",
    "no sender": "odd",
    "empty": "off",
}


def merged(found: Mapping[str, Mapping[str, Any]], most: int, who: str = "") -> Row:
    """Return the answers of several agents as one list, the newest first.

    Args:
        found: What `answers` of each agent returned, by NAME.
        most: Lines that are shown.
        who: Only lines with this in the name or the id of the person; empty: all.
    """
    lines = [{"agent": name, **row} for name, one in found.items() for row in one["answers"]]
    lines = [row for row in lines if _is_of(row, who)]
    lines.sort(key=lambda row: -row["heard_at"])
    details = [{"agent": name, **row} for name, one in found.items() for row in one["details"]]
    return {
        "lines": [row | state(row) for row in lines[:most]],
        "more": len(lines) > most,
        "details": [detail(row) for row in details],
    }


def _is_of(row: Mapping[str, Any], who: str) -> bool:
    wanted = who.casefold()
    return wanted in str(row["name"]).casefold() or wanted in str(row["sender"]).casefold()


def state(row: Mapping[str, Any]) -> Row:
    """Return the state of an answer in words, and its tone."""
    words, tone = STATES.get(row["state"], (str(row["state"]), "off"))
    return {"words": words, "tone": tone}


def detail(row: Mapping[str, Any]) -> Row:
    """Return one answer as the page shows it."""
    why = row["why"]
    return {
        **row,
        **state(row),
        "facts": [one for one in _facts(row) if one[2] not in (None, "")],
        "considered": _considered(why["considered"]),
        "shown_steps": list(_steps(row)),
        "shown_models": [_model(use) for use in why["models"]],
        "shown_parts": [_part(part) for part in row["parts"]],
    }


def _facts(row: Mapping[str, Any]) -> Iterable[tuple[str, str, Any]]:
    why, name, sender = row["why"], row["name"], row["sender"]
    yield "agent", "text", row["agent"]
    yield "from", "text", f"{name} ({sender})" if name and sender else name or sender
    yield "room", "room", f"{row['source']}/{row['room']}"
    yield "received", "at", row["heard_at"]
    yield "decided", "after", after(row["heard_at"], row["decided_at"])
    yield "ended", "after", after(row["heard_at"], row["done_at"])
    yield "by", "text", why["how"]
    yield "problem", "lines", why["problem"]


def after(began: float, ended: float | None) -> float | None:
    """Return the seconds between two times; None if there is no second one."""
    return None if ended is None else max(ended - began, 0.0)


def _considered(considered: Mapping[str, bool]) -> list[tuple[str, str]]:
    titles = (("apply", True), ("do not apply", False))
    found = [
        (title, ", ".join(name for name, applies in considered.items() if applies is wanted))
        for title, wanted in titles
    ]
    return [one for one in found if one[1]]


def _steps(row: Mapping[str, Any]) -> Iterable[Row]:
    """Yield the steps, without a reply that an ended answer turned out not to need."""
    has_ended = row["state"] not in {"deciding", "decided"}
    for step in row["steps"]:
        is_planned = step["state"] == "planned"
        if has_ended and is_planned and step["otherwise"]:
            continue
        given = step.get("arguments")
        yield {
            "head": f"{STEP_KINDS.get(step['kind'], step['kind'])} {step['name']}".strip(),
            "state": "not run" if has_ended and is_planned else step["state"],
            "took": after(step["started_at"], step["ended_at"]) if step["started_at"] else None,
            "given": _text(given) if given else "",
            "results": [_result(result) for result in step["results"]],
        }


def _result(result: Mapping[str, Any]) -> str:
    parts = ["succeeded" if result["success"] else "failed"]
    parts += [text for text in (result["error"], result["text"]) if text]
    parts += [f"{key} {_text(value)}" for key in ("values", "data") if (value := result[key])]
    return ": ".join(parts)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else compact(value)


def _model(use: Mapping[str, Any]) -> Row:
    tokens = ", ".join(f"{count:,} {kind}" for kind, count in use["tokens"].items())
    return {
        "model_type": use["model_type"],
        "by": use["service"],
        "seconds": use["seconds"],
        "tokens": tokens,
        "errors": list(use["errors"].items()),
    }


def _part(part: Mapping[str, Any]) -> Row:
    outcome = part["outcome"] or "no outcome yet"
    return {
        "outcome": outcome,
        "tone": OUTCOMES.get(outcome, "off"),
        "ids": ", ".join(one or "unknown" for one in part["ids"]),
        "text": part["text"],
        "attachments": part["attachments"],
        "problem": part["problem"],
        "id": part["id"],
    }


def tools_used(row: Mapping[str, Any]) -> list[str]:
    """Return in words what an answer has done so far besides texts."""
    return [
        f"{step['name']}: {step['state']}"
        for step in row["steps"]
        if step["kind"] == "run" and step["state"] != "planned"
    ]
