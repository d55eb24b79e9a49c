"""How answers look to people; asking is elsewhere."""

import shutil
from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from garrison.supervisor.cli.output import SETTINGS, encode
from garrison.supervisor.logs.events import local_time

STYLES = {
    "running": "green",
    "failed": "red",
    "backoff": "yellow",
    "queued": "yellow",
    "initializing": "yellow",
    "starting": "yellow",
}
UNWELL = "!"  # at the state of a service whose own `health` is not good
LEAST, MOST = 8, 14  # characters of a table's last column; of one that is cut


def show(*parts: RenderableType) -> None:
    """Print to the terminal, within its width; 80 columns where it is none."""
    console = Console(highlight=False, emoji=False, markup=False)
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    for line in captured.get().splitlines():  # without the blanks that fill a column
        click.echo(line.rstrip())


def status_table(data: dict[str, Any]) -> Iterable[RenderableType]:
    """Return the services as a table, and why some do not run below it."""
    rows, head = data["services"], data["supervisor"]
    running = sum(row["state"] == "running" for row in rows)
    yield Text(
        f"supervisor {head['pid']}, up {span(head['uptime_s'])}, {running} of {len(rows)} running,"
        f" home {head['home']}",
        overflow="fold",
    )
    if not rows:
        yield Text("no services: config.toml names the plugins")
        return
    yield _table(rows)
    for row in rows:
        if any(row["facts"].values()):
            yield Text(f"{row['name']}: {facts_line(row['facts'])}")
        if _unwell(row):
            yield _in_a_line(f"{row['name']} {UNWELL} its health: {row['health']['problem']}")
        if row["reason"] and row["state"] != "running":
            yield _in_a_line(f"{row['name']}: {row['reason'].splitlines()[0]}")


def _unwell(row: dict[str, Any]) -> bool:
    return row["health"] is not None and not row["health"]["well"]


def _in_a_line(text: str) -> Text:
    line = Text(plain(text))
    line.truncate(200, overflow="ellipsis")
    return line


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("NAME", overflow="ellipsis", no_wrap=True, max_width=28)
    table.add_column("STATE", no_wrap=True)
    for title in ("PID", "UP", "RESTARTS", "RSS", "CPU"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        live = row["pid"] is not None
        state, style = row["state"], STYLES.get(row["state"], "")
        if _unwell(row):
            state, style = f"{state} {UNWELL}", STYLES["backoff"]
        table.add_row(
            Text(row["name"]),
            Text(state, style),
            str(row["pid"] or "-"),
            span(row["uptime_s"]) if row["state"] == "running" else "-",
            str(row["restarts"]),
            _memory(row) if live else "-",
            f"{row['cpu_percent']:.0f}%" if live else "-",
        )
    return table


def _memory(row: dict[str, Any]) -> str:
    """Return a process's memory; that of all that a service started, where that is limited."""
    if not row.get("memory_max"):
        return size(row["rss_bytes"])
    has = row["tree"]["memory_bytes"] if row.get("tree") else row["rss_bytes"]
    return f"{size(has)}/{size(row['memory_max'])}"


def _tree(row: dict[str, Any]) -> str | None:
    """Return what a service has with all that it started, beside its limits."""
    has = row.get("tree")
    if not has:
        return None
    count, most = has["processes"], row["processes_max"]
    memory = size(has["memory_bytes"])
    memory += f" of {size(row['memory_max'])}" if row["memory_max"] else ""
    processes = f"{count} of {most} processes" if most else f"{count} process"
    least = "at least " if has["more"] else ""
    return f"{least}{memory}, {processes}{'es' if not most and count != 1 else ''}"


def service_detail(row: dict[str, Any]) -> RenderableType:
    """Return everything that is known of one service."""
    state = row["state"]
    title = Text.assemble((row["name"], "bold"), " is ", (state, STYLES.get(state, "bold")))
    if row["wanted"] != (state == "running"):
        title.append(", and wanted" if row["wanted"] else ", and not wanted")
    parts: list[RenderableType] = [title, Padding(_facts(row), (0, 0, 0, 2))]
    if row.get("methods"):
        parts.append(_section("methods", (_method(method) for method in row["methods"])))
    if row.get("left_out"):
        reasons = (Text(f"{name}: {why}") for name, why in row["left_out"].items())
        parts.append(_section("methods that cannot be called", reasons))
    if row.get("notes"):
        parts.append(_section("notes", map(Text, row["notes"])))
    for kind in ("actions", "providers", "evaluators"):
        if row.get(kind):
            parts.append(_section(kind, map(_part, row[kind])))
    if row.get("models"):
        parts.append(_section("models", map(_model, row["models"])))
    if row.get("traceback"):
        parts.append(_section("last traceback", map(Text, row["traceback"])))
    if row.get("unheld"):
        parts.append(_section("limits that are not held here", map(Text, row["unheld"])))
    if row.get("deaths"):
        parts.append(_section("deaths", _deaths(row["deaths"])))
    return Group(*parts)


def _deaths(lines: list[dict[str, Any]]) -> Iterable[RenderableType]:
    for line in lines:
        told = f"{line['id']}  {local_time(line['at'])[:19].replace('T', ' ')}  {line['cause']}"
        yield Text(plain(told), no_wrap=True, overflow="ellipsis")
    newest = lines[0]["id"]
    yield Text(f"all of one: {SETTINGS.garrison(f'death {newest}')}")


def _facts(row: dict[str, Any]) -> Table:
    facts: list[tuple[str, Any]] = [
        ("reason", row["reason"]),
        ("type", row["service_type"]),
        ("plugin", row["plugin"]),
        ("agent", row.get("agent")),
        ("character", row.get("character")),
        ("about", row.get("capability_description")),
        ("pid", _process(row)),
        ("user", row.get("uid")),
        ("has", _tree(row)),
        ("up", span(row["uptime_s"]) if row["uptime_s"] else None),
        ("restarts", row["restarts"] or None),
        ("health", _health(row)),
        ("last exit", row["last_exit"]),
        ("next try", f"in {row['again_in_s']:.1f} s" if row.get("again_in_s") else None),
        ("restart", row.get("restart")),
        ("depends on", ", ".join(row.get("depends_on", []))),
        ("bound to", ", ".join(row.get("bind_to", []))),
        ("events", ", ".join(row.get("events", []))),
        ("sends for", ", ".join(row.get("sends_for", []))),
        ("in flight", row["in_flight"] or None),
        ("says", facts_line(row["facts"])),
        ("log", row.get("log")),
    ]
    return pairs(facts)


def pairs(facts: Iterable[tuple[str, Any]]) -> Table:
    """Return names and values, one below the other; what has no value is left out."""
    shown = Table(box=None, show_header=False, pad_edge=False)
    shown.add_column(no_wrap=True)
    shown.add_column(overflow="fold")
    for key, value in facts:
        if value not in (None, ""):
            shown.add_row(key, Text(plain(str(value))))
    return shown


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return rows below their heads; the last column is what is cut where the width ends.

    Where that is not enough, all but the first are cut as well: none may vanish.
    """
    cells = [[plain(cell) for cell in row] for row in rows]
    room = shutil.get_terminal_size().columns - 2 * (len(heads) - 1)
    widths = [max(len(cell) for cell in column) for column in zip(heads, *cells, strict=True)][:-1]
    least = max(len(heads[-1]), LEAST)
    if sum(widths) + least > room:
        widths[1:] = [
            min(width, max(len(head), MOST))
            for width, head in zip(widths[1:], heads[1:], strict=False)
        ]
    made = Table(box=None, pad_edge=False, header_style="bold")
    for head, width in zip(heads, [*widths, max(room - sum(widths), least)], strict=True):
        made.add_column(
            head, no_wrap=True, overflow="ellipsis", min_width=len(head), max_width=width
        )
    for row in cells:
        made.add_row(*map(Text, row))
    return made


def plain(text: str) -> str:
    """Return text without what would move the cursor."""
    return "".join(c if c.isprintable() else " " for c in text)


def compact(value: Any) -> str:
    """Return a value as JSON in one line, cut where it is long."""
    text = encode(value).decode()
    return text if len(text) <= 2000 else f"{text[:2000]}… ({len(text):,} characters)"


def facts_line(facts: dict[str, float]) -> str:
    """Return what a service says of itself: names ending in _s are seconds, in _bytes bytes."""
    told = []
    for key, value in facts.items():
        if key.endswith("_s"):
            told.append(f"{key.removesuffix('_s')} {span(value)}")
        elif key.endswith("_bytes"):
            told.append(f"{key.removesuffix('_bytes')} {size(int(value))}")
        else:
            told.append(f"{key} {value:g}")
    return plain(", ".join(told).replace("_", " "))


def _process(row: dict[str, Any]) -> str | None:
    if row["pid"] is None:
        return None
    age = row["beat_age_s"]
    beat = f", last beat {age:.1f} s ago" if age is not None else ""
    used = f"{size(row['rss_bytes'])}, {row['cpu_percent']:.0f}% of a processor"
    return f"{row['pid']} (generation {row['generation']}, {used}{beat})"


def _health(row: dict[str, Any]) -> str | None:
    said = row["health"]
    if said is None:
        return None
    how = f"{span(said['age_s'])} ago, took {said['took_s']:.3g} s"
    return f"well ({how})" if said["well"] else f"not well: {said['problem']} ({how})"


def _section(title: str, lines: Iterable[RenderableType]) -> RenderableType:
    return Padding(Group(title, Padding(Group(*lines), (0, 0, 0, 2))), (0, 0, 0, 2))


def _method(method: dict[str, Any]) -> RenderableType:
    stream = "stream " if method.get("stream") else ""
    head = Text(f"{stream}{method['name']}{method.get('signature', '')}")
    summary = method.get("summary", "")
    return Group(head, Padding(Text(summary), (0, 0, 0, 2))) if summary else head


def _part(part: dict[str, Any]) -> RenderableType:
    about = part.get("description", "")
    return Text(f"{part['name']}: {about}" if about else part["name"])


def _model(model: dict[str, Any]) -> RenderableType:
    told = f"{model['model_type']}, priority {model.get('priority', 0)}"
    return Text(told + (", streams" if model.get("stream") else ""))


def span(seconds: float) -> str:
    """Return a duration as people read it, in a few columns."""
    if seconds < 100:
        return f"{seconds:.0f}s"
    if seconds < 6000:
        return f"{seconds / 60:.0f}m"
    if seconds < 360_000:
        return f"{seconds / 3600:.0f}h"
    return f"{seconds / 86_400:.0f}d"


def size(count: int) -> str:
    """Return bytes as people read them, in a few columns."""
    return f"{count / 1024**2:.0f}M" if count < 10 * 1024**3 else f"{count / 1024**3:.0f}G"
