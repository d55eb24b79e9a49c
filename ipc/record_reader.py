"""A program that reads one page of recorded lines or events: a `Question` in, an `Answer` out.

It is a process of its own because a search may take all of a processor and much memory, and a
regular expression can hold up its process for ever: its caller ends it at a deadline.
"""

import heapq
import os
import re
import resource
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from math import inf
from operator import itemgetter
from pathlib import Path
from typing import TypeAlias

import msgspec

from .log_events import EventReader, LogEvent
from .log_files import last_lines, service_logs
from .log_span import LEADING_MOST, Span, all_lines, has_event, matches, stamped, unix_time
from .record_pages import (
    Answer,
    Incarnation,
    Line,
    Question,
    chosen_incarnation,
    has_group,
    incarnations,
    marked,
    page_of,
    shown,
)

Lines: TypeAlias = Iterable[tuple[float, Line]]

MEMORY_BYTES = 1 << 30
PROCESSOR_S = 60
NICE = 10  # services go first


def answer(question: Question) -> Answer:
    """Return a page."""
    try:
        pattern = re.compile(question.pattern) if question.pattern else None
    except (re.error, RecursionError, OverflowError, MemoryError) as error:
        return Answer(problem=f"{question.pattern!r} is no regular expression: {error}")
    since = -inf if question.since is None else question.since
    until = inf if question.until is None else question.until
    span = Span(since, until, pattern)
    return _page_of_events(question, span) if question.of_events else _page(question, span)


# --- lines --------------------------------------------------------------------------------


def _page(question: Question, span: Span) -> Answer:
    names = _names(question)
    chosen = [name for name in names if not question.names or matches(name, question.names)]
    found = Answer(services=names)
    one: Incarnation | None = None
    if question.generation and len(chosen) == 1:
        found.incarnations = incarnations(_lines(question, chosen[0], span, is_whole=True))
        one = chosen_incarnation(found.incarnations, question.generation, question.pid)
        if one is None:
            return found
        found.generation, found.pid = one.generation, one.pid
    is_tail = one is None and span.is_whole and question.cursor is None and not question.forward
    logs = [
        _selected(_lines(question, name, span, is_whole=not is_tail), span, one) for name in chosen
    ]
    merged = heapq.merge(*logs, key=itemgetter(0))
    page, found.is_earlier, found.is_later = page_of(
        merged, question.cursor, question.forward, question.most
    )
    found.lines = [shown(line) for _, line in page]
    return found


def _names(question: Question) -> list[str]:
    if not question.folder:
        return sorted(question.texts)
    return list(service_logs(Path(question.folder)))


def _lines(question: Question, name: str, span: Span, is_whole: bool) -> Lines:
    """Return the lines of one service: all, or at least as many of the last as a page has."""
    latest = inf if question.cursor is None else question.cursor.at
    if not question.folder:
        lines = question.texts[name].decode("utf-8", "replace").split("\n")
        return marked(
            stamped(lines[:-1] if lines[-1] == "" else lines, None, min(latest, question.now)), name
        )
    path = Path(question.folder) / f"{name}.log"
    if is_whole:
        read: Iterable[str] = all_lines(path.parent, name, span.since)
    else:
        read = last_lines(path, question.most + 1 + LEADING_MOST)
    return marked(stamped(read, path, latest), name)


def _selected(lines: Lines, span: Span, one: Incarnation | None) -> Iterator[tuple[float, Line]]:
    for at, line in lines:
        is_of_it = one is None or (line.generation, line.pid) == (one.generation, one.pid)
        if is_of_it and span.has(at, line.text):
            yield at, line


# --- events -------------------------------------------------------------------------------


def _page_of_events(question: Question, span: Span) -> Answer:
    services = set[str]()

    def selected() -> Iterator[tuple[float, LogEvent]]:
        latest = -inf
        for event in _events(question):
            services.add(event.service)
            latest = max(latest, unix_time(event.time) or 0.0)
            if (
                (not question.names or matches(event.service, question.names))
                and has_group(event, question.groups, question.known_groups)
                and has_event(span, event)
            ):
                yield latest, event

    page, is_earlier, is_later = page_of(
        selected(), question.cursor, question.forward, question.most
    )
    return Answer(
        events=[event for _, event in page],
        is_earlier=is_earlier,
        is_later=is_later,
        services=sorted(services - {""}),
    )


def _events(question: Question) -> Iterator[LogEvent]:
    if not question.folder:
        yield from question.events
        return
    reader = EventReader(Path(question.folder) / "events.jsonl")
    try:
        yield from chain.from_iterable(iter(reader.read, []))
    finally:
        reader.close()


def main() -> None:
    """Answer the question on standard input."""
    os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_S, PROCESSOR_S))
    question = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Question)
    sys.stdout.buffer.write(msgspec.msgpack.encode(answer(question)))


if __name__ == "__main__":
    main()
