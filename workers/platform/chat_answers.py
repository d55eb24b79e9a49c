"""What an operator reads in the chat of services: short texts, of what `status` has. Pure."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from garrison.ipc.causes import Explanation, cause_lines, span

from .chat_orders import Question, Verb

LINES_MOST = 40  # of /services
LINE_MOST = 160  # characters of a reason, and of a line of a log
LOG_LINES = 12
LOG_MOST = 1500  # characters of all of them
WHY_MOST = 16  # lines of /why
NOTHING_WAITS = (
    "Nothing waits for a confirmation here, or it is older than 60 s. Give the order again."
)
NOT_DONE = "Not done."


def services_text(rows: Sequence[dict[str, Any]]) -> str:
    """Return all services, a line each; those that do not run first."""
    running = sum(_works(row) for row in rows)
    ordered = sorted(rows, key=_works)
    lines = [f"{running} of {len(rows)} run.", *map(_service_line, ordered[:LINES_MOST])]
    left = len(rows) - LINES_MOST
    return "\n".join([*lines, *([f"and {left} more"] if left > 0 else [])])


def why_text(name: str, rows: Sequence[dict[str, Any]], now: float) -> str:
    """Return how a service is, and why, in the words of `garrison why`.

    Args:
        name: The service.
        rows: Its row, as `status NAME` has it, and those of the services that it depends on.
        now: Unix seconds.
    """
    explained = Explanation({row["name"]: row for row in rows}, now).of(name)
    lines = [f"{'  ' * depth}{_cut(line)}" for depth, line in cause_lines(explained)]
    if len(lines) == 1:
        lines.append("  nothing is wrong with it")
    left = len(lines) - WHY_MOST
    return "\n".join([*lines[:WHY_MOST], *([f"and {left} more lines"] if left > 0 else [])])


def logs_text(name: str, lines: Sequence[str], most: int = LOG_MOST) -> str:
    """Return a service's last lines, as a block of code.

    Args:
        name: Of the service.
        lines: The oldest first.
        most: Characters.
    """
    shown, left = list[str](), most
    for line in reversed(lines[-LOG_LINES:]):
        cut = _cut(line.replace("```", "'''"))
        left -= len(cut) + 1
        if left < 0:
            break
        shown.insert(0, cut)
    if not shown:
        return f"{name} has written nothing."
    return "\n".join(["```", *shown, "```"])


def question_text(question: Question, is_own: bool) -> str:
    """Return the question before an order is carried out.

    Args:
        question: The order.
        is_own: It is about the platform that asks.
    """
    if question.verb is Verb.RESTART:
        return f"Restart {question.name}? (/yes or /no)"
    after = f"it takes nothing until /resume {question.name}"
    if is_own:
        after = f"messages wait, and only orders are answered here, until /resume {question.name}"
    return f"Pause {question.name}? Then {after}. (/yes or /no)"


def done_text(verb: Verb, name: str) -> str:
    """Return what an order that was carried out has done."""
    match verb:
        case Verb.PAUSE:
            return f"{name} is paused. To go on: /resume {name}"
        case Verb.RESTART:
            return f"{name} was restarted and runs."
        case _:
            return f"{name} takes calls and messages again."


def begun_text(verb: Verb, name: str) -> str:
    """Return what is about to happen to the platform that writes it."""
    return f"{name} is {'paused' if verb is Verb.PAUSE else 'restarted'} now."


def unknown_text(name: str, known: Sequence[str]) -> str:
    """Return the answer where there is no such service."""
    close = get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]}?" if close else " /services lists them."
    return f"There is no service {_cut(name)!r}.{hint}"


def _service_line(row: dict[str, Any]) -> str:
    name, link = row["name"], row.get("link") or {}
    if link.get("disconnected"):
        return f"{name}: disconnected: {_cut(link['disconnected'])}"
    if row["state"] == "running":
        mark = " !" if row.get("warnings") or link.get("deaf") else ""
        deaf = f", receives nothing: {_cut(link['deaf'])}" if link.get("deaf") else ""
        how = "is paused" if row.get("paused") else "runs"
        return f"{name}: {how}, {span(row['uptime_s'])}{mark}{deaf}"
    reason = f": {_cut(str(row['reason']))}" if row.get("reason") else ""
    return f"{name}: {row['state']}{reason}"


def _works(row: dict[str, Any]) -> bool:
    return row["state"] == "running" and not (row.get("link") or {}).get("disconnected")


def _cut(text: str) -> str:
    line = (text.strip().splitlines() or [""])[0]
    return line if len(line) <= LINE_MOST else line[: LINE_MOST - 1] + "…"
