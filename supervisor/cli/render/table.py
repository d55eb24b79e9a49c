"""Tables and lists of rich, within the terminal's width."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import click
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .lines import terminal_width
from .text import sanitize

CUT_LEAST = 8  # columns that are shown of a cell that may be cut


def show(*parts: RenderableType) -> None:
    """Print to the terminal, within its width; 80 columns if there is no terminal."""
    for line in lines_of(*parts):
        click.echo(line)


def lines_of(*parts: RenderableType) -> list[str]:
    """Return what `show` prints, a line each.

    A text with the overflow "ignore" stays one line: what is searched for must not be cut in two.
    """
    console = Console(highlight=False, emoji=False, markup=False)
    with console.capture() as captured:
        for part in parts:
            one_line = isinstance(part, Text) and part.overflow == "ignore"
            console.print(part, soft_wrap=one_line)
    # Without the blanks that fill the last column
    return [line.rstrip() for line in captured.get().splitlines()]


def pairs(facts: Iterable[tuple[str, Any]]) -> Table:
    """Return names and values, one pair a line; a pair without a value is left out."""
    shown = Table(box=None, show_header=False, pad_edge=False)
    shown.add_column(no_wrap=True)
    shown.add_column(overflow="fold")
    for key, value in facts:
        if value not in (None, ""):
            shown.add_row(key, Text(sanitize(str(value))))
    return shown


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    cut: Collection[str] | None = None,
    right: Collection[str] = (),
) -> RenderableType:
    """Return rows below their heads; in a terminal that is too narrow, each row as a paragraph.

    Args:
        heads: The columns' titles.
        rows: The cells of each row.
        cut: Titles of the columns that are cut where the width ends, the widest first; by default
            all but the first.
        right: Titles of the columns that are aligned to the right.
    """
    if cut is None:
        cut = heads[1:]
    rows = [[sanitize(cell) for cell in row] for row in rows]
    if _least_width(heads, rows, cut) > terminal_width():
        return _records(heads, rows)
    made = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        made.add_column(
            head,
            justify="right" if head in right else "left",
            no_wrap=head not in cut,
            overflow="ellipsis",
            min_width=len(head),
        )
    for row in rows:
        made.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in row))
    return made


def _least_width(heads: Sequence[str], rows: Sequence[Sequence[str]], cut: Collection[str]) -> int:
    """Return the width below which a table's cells could not be read."""
    widest = [
        max((cell_len(row[number]) for row in rows), default=0) for number in range(len(heads))
    ]
    least = [
        max(len(head), min(wide, CUT_LEAST) if head in cut else wide)
        for head, wide in zip(heads, widest, strict=True)
    ]
    return sum(least) + 2 * (len(heads) - 1)


def _records(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> RenderableType:
    """Return rows below each other, for a narrow terminal: the first cell, and the rest below."""
    parts: list[RenderableType] = []
    for first, *rest in rows:
        parts.append(Text(first, overflow="fold"))
        named = (
            f"{head.lower()} {cell}".strip()
            for head, cell in zip(heads[1:], rest, strict=True)
            if cell
        )
        parts.append(indented(Text(", ".join(named), overflow="fold")))
    return Group(*parts)


def indented(*parts: RenderableType) -> RenderableType:
    """Return parts two columns to the right."""
    return Padding(Group(*parts), (0, 0, 0, 2))


def folded(text: str) -> Text:
    """Return a text that goes on in the next line where the width ends."""
    return Text(sanitize(text.expandtabs(4), lines=True), overflow="fold")
