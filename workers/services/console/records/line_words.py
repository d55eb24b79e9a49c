"""What a line of a log is on a page: its time, level and text apart, and harmless. Pure.

Times are Unix seconds, shown in UTC.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import msgspec

from garrison.ipc.record_pages import Line

# As garrison's workers write it: what the page shows elsewhere is not repeated in the text.
OWN = re.compile(r"\S+ ([A-Z]+) service=\S+ generation=\d+ pid=\d+ (\S+?): ?(.*)", re.DOTALL)
TROUBLE = {"WARNING": "odd", "ERROR": "bad", "CRITICAL": "bad"}
# Controls, separators of lines, and what reorders text: a line shows what is in it, in order.
UNSAFE = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


class Row(msgspec.Struct, frozen=True):
    """One row of the list of lines.

    Attributes:
        kind: "line", "day", "incarnation", or "note".
        text: The text of any of them.
        at: The time of a line that has one; 0: it belongs to the line before it.
        clock: That time, of the day.
        service: NAME.
        level: "INFO".
        tone: "odd" for a warning, "bad" for an error.
        generation: Of the incarnation that wrote it.
        pid: Of its process.
        cut: Characters that are left out at its end.
        goes_on: It belongs to the row before it.
    """

    kind: str
    text: str
    at: float = 0.0
    clock: str = ""
    service: str = ""
    level: str = ""
    tone: str = ""
    generation: int = 0
    pid: int = 0
    cut: int = 0
    goes_on: bool = False


class Rows:
    """Makes rows of lines, one after the other: a new day and a new incarnation get a row."""

    def __init__(self) -> None:
        self._day = ""
        self._service = ""  # of the last line
        self._incarnations: dict[str, tuple[int, int]] = {}

    def of(self, lines: Iterable[Line]) -> Iterator[Row]:
        """Yield the rows of the next lines."""
        for line in lines:
            moment = _moment(line.at)
            day, clock = moment[:10], moment[11:19]
            if day != self._day:
                self._day = day
                yield Row("day", f"{day} UTC")
            incarnation = (line.generation, line.pid)
            if line.generation and self._incarnations.get(line.service) != incarnation:
                self._incarnations[line.service] = incarnation
                yield Row(
                    "incarnation",
                    f"incarnation {line.generation}, pid {line.pid}",
                    service=line.service,
                    generation=line.generation,
                    pid=line.pid,
                )
            goes_on = not line.is_timed and line.service == self._service
            self._service = line.service
            yield _row(line, clock, goes_on)


def _row(line: Line, clock: str, goes_on: bool) -> Row:
    level, text = "", line.text
    own = OWN.fullmatch(line.text) if line.generation else None
    if own is not None:
        level, logger, text = own.groups()
        text = text if logger == line.service else f"{logger}: {text}"
    return Row(
        "line",
        clean(text),
        at=line.at if line.is_timed else 0.0,
        clock=clock if line.is_timed else "",
        service=line.service,
        level=level,
        tone=TROUBLE.get(level, ""),
        generation=line.generation,
        pid=line.pid,
        cut=line.cut,
        goes_on=goes_on,
    )


def clean(text: str) -> str:
    """Return text without controls and what reorders it: a replacement character for each."""
    return UNSAFE.sub("\ufffd", text.rstrip("\r\n"))


def _moment(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(" ", "seconds")
    except (OverflowError, ValueError, OSError):
        return ""


def overlap(shown: list[str], added: list[str]) -> int:
    """Return how many of the first added lines are already shown as the last ones.

    A page is read after following has begun: what was written in between is in both.
    """
    for count in range(min(len(shown), len(added)), 0, -1):
        if shown[-count:] == added[:count]:
            return count
    return 0
