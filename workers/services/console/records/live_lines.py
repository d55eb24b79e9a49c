"""Turns what services write into rows for a page that is already shown. Pure.

Times are Unix seconds.
"""

from collections.abc import Iterable, Iterator, Sequence

from garrison.ipc.log_span import unix_time
from garrison.ipc.record_pages import Line, Marks, shown

from .line_words import Row, Rows, overlap

OVERLAP_MOST = 200  # last lines of a service that are remembered


class LiveLines:
    """Goes on after a page.

    Args:
        is_alone: The page is of one service.
        grep: A text that lines contain; empty: any.
    """

    def __init__(self, is_alone: bool, grep: str = "") -> None:
        self.is_alone, self._grep = is_alone, grep
        self._only = (0, 0)
        self._marks: dict[str, Marks] = {}
        self._last: dict[str, list[str]] = {}
        self._rows = Rows()
        self._is_over = self._is_to_note = False
        self._at = 0.0

    def go_on_after(self, page: Sequence[Line], generation: int = 0, pid: int = 0) -> None:
        """Note what the page shows.

        Args:
            page: Its lines.
            generation: Of the incarnation that the page is of; 0: of all.
            pid: Of its process.
        """
        self._only = (generation, pid)
        for _ in self._rows.of(page):
            pass
        for line in page:
            self._marks[line.service] = Marks(line.service, line.generation, line.pid)
            self._last.setdefault(line.service, []).append(line.text)
        self._last = {name: lines[-OVERLAP_MOST:] for name, lines in self._last.items()}
        self._at = page[-1].at if page else 0.0

    def rows(self, added: Iterable[tuple[str, str]]) -> Iterator[Row]:
        """Yield the rows of what was added: NAMEs and lines."""
        lines = [line for name, text in added if (line := self._line(name, text)) is not None]
        yield from self._rows.of(self._new(lines))
        if self._is_to_note:
            self._is_to_note = False
            yield Row("note", "the next incarnation has begun: load the page again for its lines")

    def _line(self, name: str, text: str) -> Line | None:
        self._at = unix_time(text) or self._at
        marks = self._marks.setdefault(name, Marks(name))
        line = shown(marks.line(self._at, text))
        if self._only[0] and (line.generation, line.pid) != self._only:
            is_next = line.generation != 0 and not self._is_over
            self._is_over = self._is_over or is_next
            self._is_to_note = self._is_to_note or is_next
            return None
        return line if self._grep in line.text else None

    def _new(self, lines: Sequence[Line]) -> list[Line]:
        """Leave out what the page has already, at the first lines of each service."""
        skip = {
            name: overlap(last, [line.text for line in lines if line.service == name])
            for name, last in self._last.items()
        }
        found = list[Line]()
        for line in lines:
            if skip.get(line.service, 0):
                skip[line.service] -= 1
            else:
                found.append(line)
            self._last.pop(line.service, None)
        return found


def left_out(count: int) -> Row:
    """Return the note about lines that a slow page has not taken."""
    lines = "1 line was" if count == 1 else f"{count:,} lines were"
    return Row("note", f"{lines} left out here: they came faster than this page took them")
