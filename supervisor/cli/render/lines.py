"""Lines of text within the terminal's width, for output that must be quick: imports no rich.

Widths are columns.
"""

import os
import sys
import unicodedata
from collections.abc import Iterable, Sequence

import click
import msgspec

FIRST_LEAST = 8  # of a table's first column that are shown
GAP = "  "  # between columns
ELLIPSIS = "…"
USUAL_WIDTH = 80  # where there is no terminal
DUMB = frozenset({"dumb", "unknown"})  # of TERM: a terminal without colours, of any width
WIDE = frozenset({"W", "F"})  # characters of two columns
MARKS = frozenset({"Mn", "Me", "Cf"})  # characters of none
COLOURS = frozenset({"red", "green", "yellow"})


class Cell(msgspec.Struct, frozen=True):
    """A text of one line, and its style: a colour, or `bold`, `dim` or `reverse`."""

    text: str
    style: str = ""


class Column(msgspec.Struct, frozen=True):
    """A column of a table."""

    title: str
    cells: Sequence[Cell]
    right: bool = False  # aligned to the right

    @property
    def width(self) -> int:
        """Return the width of its widest cell."""
        return max(len(self.title), *(width_of(cell.text) for cell in self.cells), 0)


def terminal_width() -> int:
    """Return the width of the terminal; `$COLUMNS` overrides it."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns):
        return int(columns)
    for stream in (0, 1, 2):
        try:
            width = os.get_terminal_size(stream).columns
        except OSError:
            continue
        return USUAL_WIDTH if os.environ.get("TERM") in DUMB else width or USUAL_WIDTH
    return USUAL_WIDTH


def width_of(text: str) -> int:
    """Return the columns of a text."""
    return len(text) if text.isascii() else sum(map(_width_of_character, text))


def _width_of_character(character: str) -> int:
    if unicodedata.category(character) in MARKS:
        return 0
    return 2 if unicodedata.east_asian_width(character) in WIDE else 1


def cut(text: str, width: int) -> str:
    """Return the beginning of a text that is too wide, with an ellipsis."""
    if width_of(text) <= width:
        return text
    return _beginning(text, width - 1) + ELLIPSIS if width > 0 else ""


def _beginning(text: str, width: int) -> str:
    if text.isascii():
        return text[: max(width, 0)]
    used = 0
    for number, character in enumerate(text):
        used += _width_of_character(character)
        if used > width:
            return text[:number]
    return text


def fold(text: str, width: int) -> list[str]:
    """Return a text as lines of at most that width, broken between words where that is possible."""
    width, lines, line = max(width, 2), list[str](), ""
    for word in text.split(" "):
        joined = f"{line} {word}" if line else word
        if width_of(joined) <= width:
            line = joined
            continue
        if line:
            lines.append(line)
        while width_of(word) > width:
            part = _beginning(word, width)
            lines.append(part)
            word = word[len(part) :]
        line = word
    return [*lines, line] if line or not lines else lines


def styled(text: str, style: str) -> str:
    """Return a text with its style, where the terminal has styles and the user wants them."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") in DUMB
    if not style or not text or plain or not sys.stdout.isatty():
        return text
    if style in COLOURS:
        return click.style(text, fg=style)
    return click.style(text, bold=style == "bold", dim=style == "dim", reverse=style == "reverse")


def table_lines(columns: Sequence[Column], drop: Iterable[str]) -> list[str]:
    """Return columns beside each other below their titles, without those that find no room.

    Args:
        columns: The columns; the first is cut where the width ends.
        drop: Titles of those that may be left out, the least important first.
    """
    kept, room = list(columns), terminal_width()
    for title in drop:
        if min(kept[0].width, FIRST_LEAST) + _rest(kept) <= room:
            break
        kept = [column for column in kept if column.title != title]
    first = max(min(kept[0].width, room - _rest(kept)), 1)
    widths = [first, *(column.width for column in kept[1:])]
    titles = [Cell(column.title, "bold") for column in kept]
    rows = zip(*(column.cells for column in kept), strict=True)
    rights = [column.right for column in kept]
    return [_row(cells, widths, rights) for cells in (titles, *rows)]


def _rest(columns: Sequence[Column]) -> int:
    """Return the width of all columns but the first, with the gaps."""
    return sum(len(GAP) + column.width for column in columns[1:])


def _row(cells: Sequence[Cell], widths: Sequence[int], rights: Sequence[bool]) -> str:
    parts = []
    for cell, width, right in zip(cells, widths, rights, strict=True):
        text = cut(cell.text, width)
        blank = " " * (width - width_of(text))
        shown = styled(text, cell.style)
        parts.append(blank + shown if right else shown + blank)
    return GAP.join(parts).rstrip()
