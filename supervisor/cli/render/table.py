"""Tables and lists of rich, within the terminal's width."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .text import sanitize


def show(*parts: RenderableType) -> None:
    """Print to the terminal, within its width; 80 columns if there is no terminal.

    A text with the overflow "ignore" stays one line: what is searched for must not be cut in two.
    """
    console = Console(highlight=False, emoji=False, markup=False)
    with console.capture() as captured:
        for part in parts:
            one_line = isinstance(part, Text) and part.overflow == "ignore"
            console.print(part, soft_wrap=one_line)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())  # without the blanks that fill the last column


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
) -> Table:
    """Return rows below their heads.

    Args:
        heads: The columns' titles.
        rows: The cells of each row.
        cut: Titles of the columns that are cut where the width ends, the widest first; by default
            all but the first.
        right: Titles of the columns that are aligned to the right.
    """
    if cut is None:
        cut = heads[1:]
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
        made.add_row(*(Text(sanitize(cell), no_wrap=True, overflow="ellipsis") for cell in row))
    return made


def indented(*parts: RenderableType) -> RenderableType:
    """Return parts two columns to the right."""
    return Padding(Group(*parts), (0, 0, 0, 2))


def folded(text: str) -> Text:
    """Return a text that goes on in the next line where the width ends."""
    return Text(sanitize(text.expandtabs(4), lines=True), overflow="fold")
