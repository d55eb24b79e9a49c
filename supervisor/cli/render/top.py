"""How `garrison top` looks: lines that fit a terminal of any size. Pure, and without rich.

A screen is drawn every second, which takes rich some hundred times as long.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

from garrison.supervisor.cli.top_rows import ORDERS, Order, TopRow

from .text import sanitize, size, span

NAME_LEAST, NAME_MOST = 8, 28
UNKNOWN = "·"
COLOURS = {
    "running": "green",
    "failed": "red",
    "disconnected": "red",
    "stopped": None,
    "registered": None,
}
HELP = "↑↓ choose  R restart  S stop  L logs  q quit  sort:"
HELP_SHORT = "R restart S stop L logs q quit"


def rate(value: float) -> str:
    """Return a rate in at most five columns: `0`, `0.4`, `37`, `12k`."""
    if value == 0:
        return "0"
    if value < 9.95:
        return f"{value:.1f}"
    return f"{value:.0f}" if value < 9_999.5 else f"{value / 1000:.0f}k"


def duration(seconds: float | None) -> str:
    """Return a duration in at most five columns: `230µ`, `1.4ms`, `37ms`, `2.5s`, `5m`."""
    if seconds is None:
        return UNKNOWN
    if seconds < 0.0009995:
        return f"{seconds * 1e6:.0f}µs"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.{1 if seconds < 0.00995 else 0}f}ms"
    return f"{seconds:.1f}s" if seconds < 9.95 else span(seconds)


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        head: Its head; also the key by which it is sorted, in capitals.
        width: Its width.
        rank: Those with the highest are left out first in a narrow terminal.
        text: Its text for a row.
        order: The word of the order that sorts by it.
    """

    head: str
    width: int
    rank: int
    text: Callable[[TopRow], str]
    order: str = ""


def _cpu(row: TopRow) -> str:
    return f"{row.cpu_percent:.0f}%" if row.memory_bytes else UNKNOWN  # 0: it has no process


COLUMNS: Final = (
    Column("STATE", 12, 1, lambda row: row.state, "unwell"),
    Column("IN/S", 5, 2, lambda row: rate(row.rates.in_s) if row.rates else UNKNOWN, "in"),
    Column("OUT/S", 5, 8, lambda row: rate(row.rates.out_s) if row.rates else UNKNOWN, "out"),
    Column("P50", 5, 9, lambda row: duration(row.rates.p50_s) if row.rates else UNKNOWN),
    Column("P99", 5, 3, lambda row: duration(row.rates.p99_s) if row.rates else UNKNOWN, "time"),
    Column("ERR/S", 5, 4, lambda row: rate(row.rates.failed_s) if row.rates else UNKNOWN, "errors"),
    Column("FLIGHT", 6, 7, lambda row: str(row.in_flight), "flight"),
    Column(
        "MEM", 5, 6, lambda row: size(row.memory_bytes) if row.memory_bytes else UNKNOWN, "memory"
    ),
    Column("CPU", 4, 5, _cpu, "cpu"),
    Column("RESTARTS", 8, 10, lambda row: str(row.restarts)),
    Column("UP", 4, 11, lambda row: span(row.uptime_s) if row.state != "stopped" else UNKNOWN),
)
LEFT: Final = frozenset({"STATE"})


@dataclass(frozen=True, slots=True)
class View:
    """What is shown besides the rows.

    Attributes:
        width: Columns of the terminal.
        height: Its lines.
        order: How the rows are sorted.
        chosen: NAME of the row that keys act on; empty: there is none.
        first: The first row that is visible.
        note: A line in place of the keys: a question, or what came of an order.
        problem: Why what is shown is old.
    """

    width: int
    height: int
    order: Order
    chosen: str = ""
    first: int = 0
    note: str = ""
    problem: str = ""


def chosen_columns(width: int, names: Sequence[str]) -> tuple[int, list[Column]]:
    """Return the width of NAMEs and the columns that fit."""
    longest = max((len(name) for name in names), default=0)
    shown = sorted(COLUMNS, key=lambda column: column.rank)
    name = min(max(longest, NAME_LEAST), NAME_MOST, max(width // 3, NAME_LEAST))
    while shown and name + sum(column.width + 1 for column in shown) > width:
        shown.pop()
    left = width - name - sum(column.width + 1 for column in shown)
    name = min(name + max(left, 0), max(longest, NAME_LEAST))
    return name, [column for column in COLUMNS if column in shown]


def head_line(status: Mapping[str, Any], rows: Sequence[TopRow], width: int) -> str:
    """Return the line about the host, as much of it as fits."""
    head = status["supervisor"]
    running = sum(row.state in {"running", "paused"} for row in rows)
    unwell = sum(row.unwell for row in rows)
    calls = sum(row.rates.out_s for row in rows if row.rates)
    parts = [f"{running} of {len(rows)} running"]
    parts += [f"{unwell} unwell"] if unwell else []
    parts += [f"{rate(calls)} calls/s", f"supervisor {head['cpu_percent']:.0f}%"]
    parts += [size(head["rss_bytes"]), f"up {span(head['uptime_s'])}", str(head["home"])]
    while len(parts) > 1 and len(", ".join(parts)) > width:
        parts.pop()
    return _cut(sanitize(", ".join(parts)), width)


def screen(status: Mapping[str, Any], rows: Sequence[TopRow], view: View) -> list[str]:
    """Return the lines of a screen, at most as many and as wide as the terminal."""
    names = [sanitize(row.name) for row in rows]
    width, columns = chosen_columns(view.width, names)
    lines = [head_line(status, rows, view.width)]
    lines.append(click.style(_cut(_heads(width, columns, view.order), view.width), bold=True))
    room = max(view.height - 3, 0)
    for row in rows[view.first : view.first + room]:
        lines.append(_line(row, width, columns, view))
    lines += [""] * (room - len(rows[view.first : view.first + room]))
    lines.append(_foot(view))
    return lines[: view.height]


def table(status: Mapping[str, Any], rows: Sequence[TopRow], width: int, order: Order) -> list[str]:
    """Return the same without a cursor and keys, for what is no terminal."""
    name, columns = chosen_columns(width, [sanitize(row.name) for row in rows])
    view = View(width, 0, order)
    plain = [click.unstyle(_line(row, name, columns, view)).rstrip() for row in rows]
    return [head_line(status, rows, width), _heads(name, columns, order).rstrip(), *plain]


def _heads(name: int, columns: Sequence[Column], order: Order) -> str:
    cells = ["NAME".ljust(name)]
    for column in columns:
        left = column.head in LEFT
        cells.append(column.head.ljust(column.width) if left else column.head.rjust(column.width))
    return " ".join(cells)


def _line(row: TopRow, width: int, columns: Sequence[Column], view: View) -> str:
    chosen = row.name == view.chosen
    cells = [_cut(sanitize(row.name), width).ljust(width)]
    for column in columns:
        text = _cut(column.text(row), column.width)
        cell = text.ljust(column.width) if column.head in LEFT else text.rjust(column.width)
        if column.head == "STATE" and not chosen:
            cell = click.style(cell, fg=COLOURS.get(row.state, "yellow"))
        cells.append(cell)
    line = " ".join(cells)
    if chosen:
        return click.style(line.ljust(view.width)[: view.width], reverse=True)
    return line


def _foot(view: View) -> str:
    if view.note or view.problem:
        return click.style(_cut(sanitize(view.note or view.problem), view.width), fg="yellow")
    orders = [f"{one.key} {one.word}" for one in ORDERS]
    full = f"{HELP} {'  '.join(orders)} (now {view.order.word})"
    middle = f"{HELP} {''.join(one.key for one in ORDERS)} (now {view.order.word})"
    fitting = (text for text in (full, middle, HELP_SHORT) if len(text) <= view.width)
    return click.style(next(fitting, _cut(HELP_SHORT, view.width)), dim=True)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: max(width - 1, 0)]}…"[:width]
