"""Recorded events and lines of services as async iterators, read from the files of the host.

The files are read in a thread: a disk can block. Times are seconds.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from .errors import OrderFailed
from .log_events import EventReader, LogEvent
from .log_files import LogReader, service_logs
from .log_span import Span, matches, recorded_events, recorded_lines
from .session import Session

POLL_S = 0.1  # between reads of the files

NO_LOGS = "this supervisor does not name its logs; run: garrison upgrade"


def logs_folder(session: Session) -> Path:
    """Return the folder of the host's logs. Raises OrderFailed: the supervisor is too old."""
    if not session.logs:
        raise OrderFailed("failed", NO_LOGS)
    return Path(session.logs)


async def events(
    session: Session, names: tuple[str, ...], number: int, follow: bool, poll: float = POLL_S
) -> AsyncIterator[LogEvent]:
    """Yield recorded events; see `Client.events`."""
    path = logs_folder(session) / "events.jsonl"
    reader = await asyncio.to_thread(EventReader, path)
    try:
        last: LogEvent | None = None
        if number:
            span = Span(last=number)
            for event in await asyncio.to_thread(recorded_events, path, names, span):
                last = event
                yield event
        skipping = True  # what there was before: the reader begins with the first event
        while follow:
            found = await asyncio.to_thread(reader.read)
            if not found:
                skipping = False
                if session.closed:
                    return
                await asyncio.sleep(poll)
            for event in found:
                is_new = not skipping if last is None else _is_after(event, last)
                if is_new and (not names or matches(event.service, names)):
                    yield event
    finally:
        reader.close()


def _is_after(event: LogEvent, last: LogEvent) -> bool:
    return (event.time, event.n) > (last.time, last.n)


async def lines(
    session: Session, names: tuple[str, ...], number: int, follow: bool, poll: float = POLL_S
) -> AsyncIterator[tuple[str, str]]:
    """Yield the NAME and line of what services wrote; see `Client.logs`."""
    folder = logs_folder(session)

    def begin() -> tuple[LogReader, list[tuple[str, str]]]:
        tail = LogReader(folder, lambda name: not names or matches(name, names))
        chosen = [name for name in service_logs(folder) if not names or matches(name, names)]
        return tail, list(recorded_lines(folder, chosen, Span(last=number)))

    tail, before = await asyncio.to_thread(begin)
    try:
        for name, line in before:
            yield name, line
        while follow:
            found = await asyncio.to_thread(tail.read)
            for name, line in found:
                yield name, line
            if not found:
                if session.closed:
                    return
                await asyncio.sleep(poll)
    finally:
        tail.close()
