"""Selects lines and events of log files: a span of time, a pattern, the last ones.

Times are Unix seconds. Lines of several services are merged by time.
"""

import heapq
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import datetime
from fnmatch import fnmatchcase
from itertools import chain
from math import inf
from operator import itemgetter
from pathlib import Path
from typing import TypeAlias

import msgspec

from .log_events import EventReader, LogEvent
from .log_files import LogReader, last_lines, service_logs

# A time at the beginning of a line, as Python's logging and most others write it.
TIME = re.compile(
    r"\[?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?)(?:[.,](\d{1,6})\d*)?(Z|[+-]\d\d:?\d\d)?"
)
LEADING_MOST = 1000  # lines without a time at a log's beginning that wait for one
SETTLE_S = 0.02  # between reads of a file that is being rotated
SETTLE_MOST = 50  # such reads

Timed: TypeAlias = tuple[float, str, str]  # time, NAME, line


class Span(msgspec.Struct, frozen=True):
    """A selection.

    Args:
        since: The earliest time.
        until: The latest time.
        pattern: A regular expression that a line, or an event as text, contains.
        last: How many, the last ones; None: all.
    """

    since: float = -inf
    until: float = inf
    pattern: re.Pattern[str] | None = None
    last: int | None = None

    @property
    def is_whole(self) -> bool:
        """Return True if only the number is limited."""
        return self.since == -inf and self.until == inf and self.pattern is None

    def has(self, at: float, text: str) -> bool:
        """Return True if a line of that time is selected."""
        if not self.since <= at <= self.until:
            return False
        return self.pattern is None or self.pattern.search(text) is not None


def unix_time(text: str) -> float | None:
    """Return the time at the beginning of a line; local time if it names no offset."""
    found = TIME.match(text)
    if found is None:
        return None
    moment, fraction, offset = found.groups()
    try:
        at = datetime.fromisoformat(moment + (offset or ""))
        return at.timestamp() + float(f"0.{fraction or 0}")
    except (ValueError, OverflowError, OSError):
        return None


# --- events -------------------------------------------------------------------------------


def recorded_events(path: Path, names: Iterable[str], span: Span) -> list[LogEvent]:
    """Return the selected events in the files, the oldest first.

    Args:
        path: The file, `logs/events.jsonl`.
        names: NAMEs and globs; none: of all services and of the host.
        span: The selection.
    """
    reader = EventReader(path)
    try:
        return _last(_matching_events(reader, tuple(names), span), span)
    finally:
        reader.close()


def _matching_events(reader: EventReader, names: tuple[str, ...], span: Span) -> Iterator[LogEvent]:
    while events := reader.read():
        for event in events:
            if (not names or matches(event.service, names)) and has_event(span, event):
                yield event


def has_event(span: Span, event: LogEvent) -> bool:
    """Return True if an event is selected."""
    return span.is_whole or span.has(unix_time(event.time) or 0.0, f"{event.time} {event.text()}")


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Return True if a NAME fits one of the NAMEs and globs."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


# --- lines of services --------------------------------------------------------------------


def recorded_lines(folder: Path, names: Iterable[str], span: Span) -> Iterator[tuple[str, str]]:
    """Yield the NAME and line of what services wrote, merged by time.

    A line without a time belongs to the last line before it that has one.

    Args:
        folder: The folder of logs.
        names: NAMEs of services.
        span: The selection; its number is that of each service.
    """
    files = service_logs(folder)
    timed = [_timed(folder, name, files[name], span) for name in names if name in files]
    for _, name, line in heapq.merge(*timed, key=itemgetter(0)):
        yield name, line


def _timed(folder: Path, name: str, path: Path, span: Span) -> Iterable[Timed]:
    """Return the lines of one service with their times, which never decrease."""
    if span.last == 0:
        return ()
    if span.is_whole and span.last is not None:
        lines = stamped(last_lines(path, span.last + LEADING_MOST), path)
        return _ascending(name, _last(lines, span))
    lines = stamped(all_lines(folder, name, span.since), path)
    chosen = ((at, line) for at, line in lines if span.has(at, line))
    return _ascending(name, _last(chosen, span) if span.last is not None else chosen)


def _ascending(name: str, stamped: Iterable[tuple[float, str]]) -> Iterator[Timed]:
    latest = -inf  # a clock that was set back must not change the order of one log
    for at, line in stamped:
        latest = max(latest, at)
        yield latest, name, line


def stamped(
    lines: Iterable[str], path: Path | None, latest: float = inf
) -> Iterator[tuple[float, str]]:
    """Yield lines with their times; without any time in the log, when it was written last.

    Args:
        lines: Of one service, the oldest first.
        path: Its log; None: lines without any time are as old as `latest`.
        latest: The latest time that lines without any time get.
    """
    rest, leading, at = iter(lines), list[str](), None
    for line in rest:
        leading.append(line)
        at = unix_time(line)
        if at is not None or len(leading) >= LEADING_MOST:
            break
    if at is None:
        at = min(_written(path), latest)
    current = at
    for line in chain(((line) for line in leading), rest):
        own = unix_time(line)
        current = current if own is None else own
        yield current, line


def _written(path: Path | None) -> float:
    try:
        return inf if path is None else path.stat().st_mtime
    except OSError:
        return 0.0


def all_lines(folder: Path, name: str, since: float) -> Iterator[str]:
    """Yield the lines that a log has now, of its rotated files too, the oldest first."""
    reader = LogReader(folder, lambda one: one == name, since=since)
    tries = 0
    try:
        while not reader.is_complete and tries < SETTLE_MOST:
            lines = reader.read()
            yield from (line for _, line in lines)
            if not lines:  # it is being rotated
                tries += 1
                time.sleep(SETTLE_S)
        yield from reader.unfinished()
    finally:
        reader.close()


def _last(items: Iterable, span: Span) -> list:  # type: ignore[type-arg]
    """Return the last items, at most the selected number."""
    return list(items if span.last is None else deque(items, maxlen=span.last))
