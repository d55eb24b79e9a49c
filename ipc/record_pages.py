"""Pages of recorded lines and events: which are on one, and where others begin. Pure.

Times are Unix seconds. Items are in the order of their times, which never decrease.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import dropwhile, islice
from math import inf
from typing import TypeVar

import msgspec

from .log_events import LogEvent
from .log_span import unix_time

T = TypeVar("T")

SHOWN_CHARS = 2000  # of one line
INCARNATIONS_MOST = 200  # that are listed; of more, the last ones
# The beginning of a line of a service's log, as garrison's workers write it.
MARK = re.compile(r"\S+ [A-Z]+ service=(\S+) generation=(\d{1,9}) pid=(\d{1,9}) ")
OTHERS = "other"  # as group
LATEST = -1  # as generation: that of the last mark
# Escape sequences of terminals: CSI, OSC, and those of two characters.
ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")


class Line(msgspec.Struct, frozen=True, array_like=True):
    """One line of a service's log."""

    at: float  # its time, or that of the last line before it that has one
    service: str
    text: str
    generation: int = 0  # of the last mark before it; 0: there is none
    pid: int = 0
    is_timed: bool = False  # it has a time of its own
    cut: int = 0  # characters that are left out at its end


class Incarnation(msgspec.Struct, frozen=True):
    """One process of a service, as far as its log has marks of it."""

    generation: int
    pid: int
    at: float  # of the first line with its mark
    lines: int


class Cursor(msgspec.Struct, frozen=True):
    """A place between two items: `skip` items with the time `at` are on the other side."""

    at: float
    skip: int = 0


class Question(msgspec.Struct):
    """A request for a page.

    Attributes:
        folder: That of the host's logs; empty: `texts` and `events` have what there is.
        texts: NAME → the end of its log.
        events: Events, the oldest first.
        of_events: Events are wanted, not lines.
        names: NAMEs and globs; none: all.
        groups: The first words of the events' names; none: all. `OTHERS` is every word that is
            not in `known_groups`.
        known_groups: First words that are chosen by themselves.
        since: The earliest time; None: any.
        until: The latest time; None: any.
        now: The time of lines in `texts` without any time.
        pattern: A regular expression.
        generation: Of one incarnation, of one service; `LATEST`: the last one; 0: any.
        pid: Of its process; 0: any.
        cursor: Where the page begins, or ends.
        forward: The page begins there, or at the first item; else it ends there, or at the last.
        most: Items of a page.
    """

    folder: str = ""
    texts: dict[str, bytes] = {}
    events: list[LogEvent] = []
    of_events: bool = False
    names: list[str] = []
    groups: list[str] = []
    known_groups: list[str] = []
    since: float | None = None
    until: float | None = None
    now: float = 0.0
    pattern: str = ""
    generation: int = 0
    pid: int = 0
    cursor: Cursor | None = None
    forward: bool = False
    most: int = 1000


class Answer(msgspec.Struct):
    """A page.

    Attributes:
        lines: The lines, if lines were wanted.
        events: The events.
        is_earlier: There are others before these.
        is_later: There are others after these.
        services: The NAMEs that have a log, or events.
        incarnations: Those of the one service of the request, if it names one incarnation.
        generation: Which of them is on the page; 0: it is not in the log.
        pid: Of its process.
        problem: Why there is no page.
    """

    lines: list[Line] = []
    events: list[LogEvent] = []
    is_earlier: bool = False
    is_later: bool = False
    services: list[str] = []
    incarnations: list[Incarnation] = []
    generation: int = 0
    pid: int = 0
    problem: str = ""


def page_of(
    items: Iterable[tuple[float, T]], cursor: Cursor | None, forward: bool, most: int
) -> tuple[list[tuple[float, T]], bool, bool]:
    """Return a page of items, whether there are earlier ones, and whether there are later ones."""
    if forward:
        at, skip = (cursor.at, cursor.skip) if cursor else (-inf, 0)
        rest = dropwhile(lambda item: item[0] < at, items)
        shown = list(islice(_without_first(rest, at, skip), most + 1))
        return shown[:most], cursor is not None, len(shown) > most
    if cursor is None:
        last = deque(items, maxlen=most + 1)
        return list(last)[-most:], len(last) > most, False
    last = deque((one for one in items if one[0] <= cursor.at), maxlen=most + 1 + cursor.skip)
    shown = list(last)
    left = cursor.skip
    while left and shown and shown[-1][0] == cursor.at:
        shown.pop()
        left -= 1
    return shown[-most:], len(shown) > most, True


def _without_first(
    items: Iterable[tuple[float, T]], at: float, skip: int
) -> Iterator[tuple[float, T]]:
    for item in items:
        if skip and item[0] == at:
            skip -= 1
            continue
        yield item


def before_page(times: Sequence[float], cursor: Cursor | None, forward: bool) -> Cursor | None:
    """Return where the page before one ends, by the times of its items; None: it has none."""
    if not times:
        return cursor if forward else None
    at = times[0]
    is_same = not forward and cursor is not None and cursor.at == at
    return Cursor(at, times.count(at) + (cursor.skip if is_same and cursor else 0))


def after_page(times: Sequence[float], cursor: Cursor | None, forward: bool) -> Cursor | None:
    """Return where the page after one begins."""
    if not times:
        return None if forward else cursor
    at = times[-1]
    is_same = forward and cursor is not None and cursor.at == at
    return Cursor(at, times.count(at) + (cursor.skip if is_same and cursor else 0))


class Marks:
    """Finds out which incarnation has written each line of one log, one line after the other.

    Args:
        service: Its NAME.
        generation: That of the last line before; 0: it is not known.
        pid: Of its process.
    """

    def __init__(self, service: str, generation: int = 0, pid: int = 0) -> None:
        self._service, self._generation, self._pid = service, generation, pid

    def line(self, at: float, raw: str) -> Line:
        """Return the next line, with the incarnation whose mark is the last one up to it."""
        text = without_escapes(raw)
        mark = MARK.match(text)
        if mark is not None and mark[1] == self._service:
            self._generation, self._pid = int(mark[2]), int(mark[3])
        return Line(at, self._service, text, self._generation, self._pid)


def marked(stamped: Iterable[tuple[float, str]], service: str) -> Iterator[tuple[float, Line]]:
    """Yield the lines of one log by their times, with their incarnations."""
    marks, latest = Marks(service), -inf
    for at, raw in stamped:
        latest = max(latest, at)  # a clock that was set back must not change the order
        yield latest, marks.line(latest, raw)


def incarnations(lines: Iterable[tuple[float, Line]]) -> list[Incarnation]:
    """Return the incarnations that lines have marks of, the oldest first."""
    found: dict[tuple[int, int], list[float]] = {}
    for at, line in lines:
        if line.generation:
            found.setdefault((line.generation, line.pid), [at, 0.0])[1] += 1
    made = [Incarnation(*key, at, int(count)) for key, (at, count) in found.items()]
    return made[-INCARNATIONS_MOST:]


def chosen_incarnation(
    known: Sequence[Incarnation], generation: int, pid: int
) -> Incarnation | None:
    """Return the requested one, the latest of several; None: it is not there."""
    for one in reversed(known):
        if generation in {LATEST, one.generation} and pid in {0, one.pid}:
            return one
    return None


def shown(line: Line) -> Line:
    """Return a line as it is on a page: of a bounded length, with whether it has a time."""
    cut = max(len(line.text) - SHOWN_CHARS, 0)
    is_timed = unix_time(line.text) is not None
    return msgspec.structs.replace(line, text=line.text[:SHOWN_CHARS], cut=cut, is_timed=is_timed)


def without_escapes(text: str) -> str:
    """Return text without the escape sequences of terminals, such as colours."""
    return ESCAPES.sub("", text) if "\x1b" in text else text


def has_group(event: LogEvent, groups: Sequence[str], known: Sequence[str]) -> bool:
    """Return whether an event is of one of these groups; see `Question.groups`."""
    word = event.event.partition(".")[0]
    return not groups or word in groups or (OTHERS in groups and word not in known)
