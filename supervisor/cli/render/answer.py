"""How recorded answers are shown to people, at any width."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from .lines import terminal_width
from .table import folded, indented, pairs, table
from .text import compact, counted, sanitize

Row = dict[str, Any]

WIDE = 140  # columns from which a line also shows the room and the answer
STEP_KINDS = {
    "say": "sent a given response",
    "run": "ran",
    "reply": "requested a reply from the model",
    "unknown": "left out",
}


def answers(data: Row, command: Callable[[str], str]) -> Iterator[RenderableType]:
    """Return answers, one a line, and those that are shown in full.

    Args:
        data: What the agents have recorded.
        command: Makes a command line to type next.
    """
    lines, details = data["answers"], data["details"]
    if lines:
        yield _lines(lines)
    elif not details:
        yield "nothing is recorded yet"
    if lines and not details:
        yield folded(f"for all of one: {command('answer ' + _short_id(lines[0]))}")
    for number, detail in enumerate(details):
        if lines or number:
            yield ""
        yield from _detail(detail)


def _lines(rows: list[Row]) -> RenderableType:
    several = len({row["agent"] for row in rows}) > 1
    wide = terminal_width() >= WIDE
    heads = ["ID", "WHEN", "STATE", "MESSAGE"]
    if several:
        heads.insert(2, "AGENT")
    if wide:
        heads[-1:] = ["ROOM", "FROM", "MESSAGE", "ANSWER"]
    cells: dict[str, Callable[[Row], str]] = {
        "ID": _short_id,
        "WHEN": lambda row: _time(row["heard_at"])[:19],
        "AGENT": lambda row: row["agent"],
        "STATE": lambda row: row["state"],
        "ROOM": lambda row: f"{row['source']}/{row['room']}",
        "FROM": lambda row: row["name"] or row["sender"],
        "MESSAGE": lambda row: row["text"],
        "ANSWER": lambda row: row["answer"] or row["problem"],
    }
    lines = [[cells[head](row) for head in heads] for row in rows]
    return table(heads, lines, cut=[head for head in heads if head not in {"ID", "WHEN"}])


def _short_id(row: Row) -> str:
    """Return the platform's own id of a message: `answer` finds it by that, too."""
    own: str = row["id"]
    return own.removeprefix(f"{row['source']}/{row['room']}/") or own


# --- one answer -------------------------------------------------------------------------------


def _detail(row: Row) -> Iterator[RenderableType]:
    why = row["why"]
    yield Text.assemble(("message ", ""), (sanitize(row["id"]), "bold"), f" is {_state(row)}")
    yield indented(pairs(_facts(row)))
    yield from _section("message", _text(row["text"]))
    yield from _section(f"context{_of(why['providers'])}", _text(why["context"]))
    yield from _section("actions considered", _considered(why["considered"]))
    yield from _section("steps", _steps(row))
    yield from _section("models", _models(why["models"]))
    yield from _section("parts", _parts(row["parts"]))
    yield from _section("prompt", _text(why["prompt"]))


def _section(title: str, parts: Iterable[RenderableType]) -> Iterator[RenderableType]:
    shown = list(parts)
    if shown:
        yield indented(Text(sanitize(title), "bold"), indented(*shown))


def _text(text: str) -> Iterator[RenderableType]:
    if text:
        yield folded(text)


def _of(names: Iterable[str]) -> str:
    shown = ", ".join(names)
    return f", of {shown}" if shown else ""


def _state(row: Row) -> str:
    words = {"done": "answered", "deciding": "being decided on", "decided": "being answered"}
    state: str = row["state"]
    return words.get(state, state)


def _facts(row: Row) -> list[tuple[str, Any]]:
    why = row["why"]
    name, sender = row["name"], row["sender"]
    return [
        ("agent", row["agent"]),
        ("from", f"{name} ({sender})" if name and sender else name or sender),
        ("room", f"{row['source']}/{row['room']}"),
        ("received", _time(row["heard_at"])),
        ("decided", _after(row["heard_at"], row["decided_at"])),
        ("ended", _after(row["heard_at"], row["done_at"])),
        ("by", why["how"]),
        ("problem", why["problem"]),
        ("trace", why.get("trace", "")),
    ]


def _time(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().isoformat(" ", "seconds")


def _after(began: float, at: float | None) -> str | None:
    return None if at is None else f"after {_seconds(at - began)}"


def _seconds(seconds: float) -> str:
    return f"{max(seconds, 0.0):.2f} s"


def _considered(considered: dict[str, bool]) -> Iterator[RenderableType]:
    for title, wanted in (("apply", True), ("do not apply", False)):
        if names := [name for name, applies in considered.items() if applies is wanted]:
            yield folded(f"{title}: {', '.join(names)}")


def _steps(row: Row) -> Iterator[RenderableType]:
    """Return the steps, without a reply that an ended answer turned out not to need."""
    has_ended = row["state"] not in {"deciding", "decided"}
    for step in row["steps"]:
        is_planned = step["state"] == "planned"
        if not (has_ended and is_planned and step["otherwise"]):
            yield _step(step, "not run" if has_ended and is_planned else step["state"])


def _step(step: Row, state: str) -> RenderableType:
    name = f" {step['name']}" if step["name"] else ""
    took = ""
    if step["started_at"] is not None and step["ended_at"] is not None:
        took = f", {_seconds(step['ended_at'] - step['started_at'])}"
    head = f"{STEP_KINDS.get(step['kind'], step['kind'])}{name}: {state}{took}"
    given = step.get("arguments")  # an agent of an earlier release says nothing of them
    arguments = [f"with {given if isinstance(given, str) else compact(given)}"] if given else []
    return _with_lines(head, [*arguments, *map(_result, step["results"])])


def _result(result: Row) -> str:
    """Return a result in one line: what its action is, and whether it succeeded, is above it."""
    parts = ["succeeded" if result["success"] else "failed"]
    parts += [text for text in (result["error"], result["text"]) if text]
    parts += [
        f"{key} {value if isinstance(value, str) else compact(value)}"
        for key in ("values", "data")
        if (value := result[key])
    ]
    return ": ".join(parts)


def _with_lines(head: str, lines: Iterable[str]) -> RenderableType:
    """Return a line, and further ones below it."""
    return Group(folded(head), *(indented(folded(line)) for line in lines if line))


def _models(models: list[Row]) -> Iterator[RenderableType]:
    for model in models:
        tokens = ", ".join(f"{count:,} {kind}" for kind, count in model["tokens"].items())
        by = f"answered by {model['service']}" if model["service"] else "all failed"
        head = f"{model['model_type']}: {by}, {_seconds(model['seconds'])}"
        lines = (f"{name} failed: {error}" for name, error in model["errors"].items())
        yield _with_lines(f"{head}, tokens: {tokens}" if tokens else head, lines)


def _parts(parts: list[Row]) -> Iterator[RenderableType]:
    for part in parts:
        outcome = part["outcome"] or "no outcome yet"
        ids = [one or "unknown" for one in part["ids"]]
        as_ids = f", as {', '.join(ids)}" if ids else ""
        more = len(part["attachments"])
        attached = f", with {counted(more, 'attachment')}" if more else ""
        problem = f": {part['problem']}" if part["problem"] else ""
        yield _with_lines(
            f"{outcome}{as_ids}{attached}{problem}", [part["text"], f"id {part['id']}"]
        )
