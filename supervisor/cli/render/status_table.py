"""The table of services, and the remarks below it, as `garrison status` shows them to people."""

from collections.abc import Collection, Iterator
from typing import Any

from .lines import Cell, Column, cut, fold, styled, table_lines, terminal_width
from .link import is_disconnected, link_lines
from .text import sanitize, size, span

STYLES = {
    "running": "green",
    "failed": "red",
    "disconnected": "red",
    "backoff": "yellow",
    "queued": "yellow",
    "initializing": "yellow",
    "starting": "yellow",
    "paused": "yellow",
}
UNWELL = "!"  # beside the state of a service that is not well, and before the lines that say why
LINE_MOST = 200  # characters of a reason
DISCONNECTED = "disconnected"  # a platform's process runs, and its connection has ended for good
COMMAND = "command"  # plugin of plain commands
PAUSED = "paused"  # it runs and takes nothing
NAME_MOST = 28  # columns of a NAME in the table
NODE_MOST = 16  # of that of its node
COMMAND_MOST = 44  # columns of the command of a process
LINES_MOST = 4  # of a remark
INDENT = "  "  # of its lines but the first
MARKED = "reverse"  # what has changed since the last look
ODD = frozenset({"stopped", "zombie", "disk-sleep", "tracing-stop"})  # states of a process


def status_table(data: dict[str, Any], marked: Collection[str] = ()) -> Iterator[str]:
    """Yield the lines of a table of the services, and why some do not run below it.

    Args:
        data: As `status` has it, in the order of the table. A row with `processes` is followed by
            them.
        marked: NAMEs to highlight.
    """
    rows, head = data["services"], data["supervisor"]
    running = sum(row["state"] == "running" for row in rows)
    yield from fold(
        f"supervisor {head['pid']}, up {span(head['uptime_s'])}, {running} of {len(rows)} running,"
        f" home {head['home']}",
        terminal_width(),
    )
    for one in head.get("config_rejected", ()):
        yield rejected_line(one["text"])
    if (disk := head.get("disk") or {}).get("low"):
        free, limit = size(disk["free_bytes"] or 0), size(disk["limit_bytes"])
        text = f"{UNWELL} disk: {free} free in {disk['folder']}, below disk_low ({limit})"
        yield from fold(text, terminal_width())
    if head.get("upgrade_pending"):
        yield from wrapped(
            f"{UNWELL} upgrade pending: the supervisor runs garrison {head['version']}, installed "
            f"is {head['installed']}: garrison upgrade"
        )
    for module, reason in head.get("not_preloaded", {}).items():
        yield from wrapped(
            f"{UNWELL} not preloaded: {module}: {reason}; each worker imports it itself"
        )
    if not rows:
        yield from fold("no services: config.toml names the plugins", terminal_width())
        return
    yield from _table(rows, marked)
    for row in rows:
        for remark in _remarks(row):
            yield from wrapped(remark)


def _remarks(row: dict[str, Any]) -> Iterator[str]:
    """Yield the lines below the table about one service."""
    if any(row["facts"].values()) and row["plugin"] != COMMAND:
        yield f"{row['name']}: {facts_line(row['facts'])}"
    if is_unwell(row):
        yield f"{row['name']} {UNWELL} its health: {row['health']['problem']}"
    for line in [*link_lines(row), *(f" {UNWELL} {one}" for one in row.get("warnings", ()))]:
        yield f"{row['name']}{line}"
    if row["reason"] and row["state"] != "running":
        yield f"{row['name']}: {row['reason'].splitlines()[0]}"


def rejected_line(problem: str, what: str = "config rejected") -> str:
    """Return the line about a part of the config on disk that is not used.

    It is not folded: its parts are searched for.
    """
    return styled(sanitize(f"{UNWELL} {what}: {problem}"), STYLES["failed"])


def _marked(row: dict[str, Any]) -> bool:
    """Return True if a mark beside the state says that a line below has more."""
    link = row.get("link") or {}
    broken = link.get("disconnected") or link.get("deaf")
    return is_unwell(row) or bool(broken or row.get("config_rejected") or row.get("warnings"))


def is_unwell(row: dict[str, Any]) -> bool:
    return row["health"] is not None and not row["health"]["well"]


def wrapped(text: str) -> list[str]:
    """Return a text as a few lines; all but the first are indented."""
    width = terminal_width()
    line = cut(sanitize(text), min(LINE_MOST, LINES_MOST * width))
    first = fold(line, width)[0]
    rest = line[len(first) :].strip()
    below = fold(rest, width - len(INDENT)) if rest else []
    return [first, *(INDENT + one for one in below)]


def _table(rows: list[dict[str, Any]], marked: Collection[str]) -> list[str]:
    lines: list[tuple[Cell, Cell, tuple[str, ...]]] = []
    for row in rows:
        name = cut(sanitize(row["name"]), NAME_MOST)
        python = (row.get("python") or {}).get("version") or "-"
        shown = Cell(name, MARKED if row["name"] in marked else "")
        node = cut(sanitize(row.get("node") or "-"), NODE_MOST)
        lines.append((shown, _state(row), (*_cells(row), python, node)))
        lines += _processes(row)
    columns = [
        Column("NAME", [one[0] for one in lines]),
        Column("STATE", [one[1] for one in lines]),
    ]
    titles = ["PID", "UP", "RESTARTS", "RSS", "CPU"]
    others = dict(enumerate(titles))
    if any(row.get("python") for row in rows):  # the version, of those that have one of their own
        others[len(titles)] = "PYTHON"
    if any(row.get("node") for row in rows):
        others[len(titles) + 1] = "NODE"
    for number, title in others.items():
        cells = [Cell(one[2][number]) for one in lines]
        columns.append(Column(title, cells, right=title != "NODE"))
    return table_lines(columns, ("PYTHON", "RESTARTS", "CPU", "RSS", "UP", "PID", "NODE"))


def _processes(row: dict[str, Any]) -> Iterator[tuple[Cell, Cell, tuple[str, ...]]]:
    """Yield the lines of the processes below a worker, each below its parent."""
    processes = row.get("processes") or ()
    depths = {row["pid"]: 0}
    for one in processes:
        depth = depths[one["pid"]] = depths.get(one["parent"], 0) + 1
        name = cut(f"{'  ' * (depth - 1)}└ {sanitize(one['command'])}", COMMAND_MOST)
        state = one["state"] if one["state"] in ODD else ""
        cells = (str(one["pid"]), span(one["age_s"]), "", size(one["memory_bytes"]))
        percent = f"{one['cpu_percent']:.0f}%"
        yield Cell(name, "dim"), Cell(state, "yellow"), (*cells, percent, "", "")


def _state(row: dict[str, Any]) -> Cell:
    if is_disconnected(row):
        return Cell(f"{DISCONNECTED} {UNWELL}", STYLES["failed"])
    if _marked(row):
        return Cell(f"{row['state']} {UNWELL}", STYLES["backoff"])
    shown = PAUSED if row["state"] == "running" and row.get("paused") else row["state"]
    return Cell(shown, STYLES.get(shown, ""))


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    is_measured = row["pid"] is not None and bool(row["rss_bytes"])
    return (
        str(row["pid"] or "-"),
        span(row["uptime_s"]) if row["state"] == "running" else "-",
        str(row["restarts"]),
        _memory(row) if is_measured else "-",
        f"{row['cpu_percent']:.0f}%" if is_measured else "-",
    )


def _memory(row: dict[str, Any]) -> str:
    """Return a service's memory, beside its limit if it has one.

    A limit applies to the worker and every process that it started, so then all of them count.
    """
    if not row.get("memory_max"):
        return size(row["rss_bytes"])
    has = row["tree"]["memory_bytes"] if row.get("tree") else row["rss_bytes"]
    return f"{size(has)}/{size(row['memory_max'])}"


def facts_line(facts: dict[str, float]) -> str:
    """Return the facts that a service reports: names in _s are seconds, in _bytes bytes."""
    shown = []
    for key, value in facts.items():
        if key.endswith("_s"):
            shown.append(f"{key.removesuffix('_s')} {span(value)}")
        elif key.endswith("_bytes"):
            shown.append(f"{key.removesuffix('_bytes')} {size(int(value))}")
        else:
            shown.append(f"{key} {value:g}")
    return ", ".join(shown).replace("_", " ")
