"""Verbs that show what happened: logs and events. Both read the files in the home."""

import contextlib
import time
from pathlib import Path

import click
import msgspec

from garrison.ipc import OrderFailed, SupervisorGone
from garrison.ipc.log_events import LogEvent
from garrison.ipc.log_files import LogReader, service_logs
from garrison.ipc.log_span import Span, has_event, matches, recorded_events, recorded_lines
from garrison.supervisor.logs.events import KEPT, local_time, localized

from .client import follow, is_operator, request
from .completion import complete_names
from .errors import DONE, no_such_service
from .operator_logs import log_folder
from .output import Invocation, options
from .selection import SpanOf, selection

LOST_MOST = 512  # events that a full disk did not accept, and a selection is made from
POLL_S = 0.1  # between reads of the files


@click.command(epilog="Examples: garrison logs hello -n 100; garrison logs -f")
@click.argument("names", nargs=-1, metavar="[NAME…]", shell_complete=complete_names)
@click.option("-f", "--follow", "following", is_flag=True, help="Continue with new lines.")
@selection("lines of each service")
@options
def logs(
    invocation: Invocation,
    names: tuple[str, ...],
    following: bool,
    span_of: SpanOf,
) -> int:
    """Show the output of services, merged by time.

    A line without a time of its own belongs to the line before it. Rotated files are read as well.
    Works without a supervisor, too.
    """
    span = span_of(following)
    with log_folder(invocation.home, names) as (folder, refresh):
        files = service_logs(folder)
        chosen = _choose(invocation, names, files)
        alone = len(chosen) == 1 and len(names) == 1 and chosen[0] == names[0]
        tail = LogReader(folder, lambda name: not names or matches(name, names))
        for name, line in recorded_lines(folder, chosen, span):
            _print_line(invocation, name, line, alone)
        while following:
            refresh()
            for name, line in tail.read():
                if span.pattern is None or span.pattern.search(line):
                    _print_line(invocation, name, line, alone)
            time.sleep(POLL_S)  # without inotify there is no event to wait for
    return DONE


def _choose(invocation: Invocation, names: tuple[str, ...], files: dict[str, Path]) -> list[str]:
    for name in names:
        has_log = any(matches(known, (name,)) for known in files)
        if not has_log and not _is_known(invocation.home, name):
            raise no_such_service(name, list(files))
    return [known for known in files if not names or matches(known, names)]


def _is_known(home: Path, name: str) -> bool:
    """Return True if the supervisor knows this service, which has not written anything."""
    with contextlib.suppress(SupervisorGone, OrderFailed):
        request(home, "status", (name,))
        return True
    return False


def _print_line(invocation: Invocation, name: str, line: str, alone: bool) -> None:
    invocation.answer({"service": name, "line": line})
    line = localized(line)
    invocation.say(line if alone else f"{click.style(name, fg='cyan')} | {line}")


@click.command(epilog="Examples: garrison events -n 20; garrison events hello --since 2h -f")
@click.argument("names", nargs=-1, metavar="[NAME…]", shell_complete=complete_names)
@click.option("-f", "--follow", "following", is_flag=True, help="Continue with new events.")
@selection("events")
@options
def events(
    invocation: Invocation,
    names: tuple[str, ...],
    following: bool,
    span_of: SpanOf,
) -> int:
    """Show events, one a line; with --json, a JSON value a line.

    All that the files have, of earlier supervisors too. Works without a supervisor, too.
    """
    span = span_of(following)
    shown = _recorded(invocation.home, names, span)
    for event in shown:
        _print_event(invocation, event)
    if following:
        _follow_events(invocation, names, span, shown[-1] if shown else None)
    return DONE


def _recorded(home: Path, names: tuple[str, ...], span: Span) -> list[LogEvent]:
    """Return the events in the files, and those that a full disk did not accept.

    Raises:
        SupervisorGone: No supervisor answers, and none has recorded anything here.
        OrderFailed: It knows no such service.
    """
    if is_operator(home):  # who cannot read the files
        found = msgspec.convert(request(home, "events", names, number=KEPT), list[LogEvent])
        chosen = [event for event in found if has_event(span, event)]
        return chosen if span.last is None else chosen[-span.last :] if span.last else []
    gone: SupervisorGone | None = None
    kept: list[LogEvent] = []
    try:
        number = min(span.last or 0, KEPT) if span.is_whole else LOST_MOST
        kept = msgspec.convert(request(home, "events", names, number=number), list[LogEvent])
    except SupervisorGone as error:
        gone = error
    found = recorded_events(home / "logs" / "events.jsonl", names, span)
    if gone is not None and not found and not (home / "logs").is_dir():
        raise gone
    known = {(event.n, event.time) for event in found}
    begun = found[0].time if found else ""
    lost = [
        event
        for event in kept
        if (event.n, event.time) not in known and event.time >= begun and has_event(span, event)
    ]
    both = sorted([*found, *lost], key=lambda event: event.time) if lost else found
    return both if span.last is None else both[-span.last :] if span.last else []


def _follow_events(
    invocation: Invocation, names: tuple[str, ...], span: Span, last: LogEvent | None
) -> None:
    """Print what comes after the last event that was shown."""
    began = last.time if last is not None else ""
    number = KEPT if last is not None else 0
    for data in follow(invocation.home, "events", names, number=number):
        for event in msgspec.convert(data if isinstance(data, list) else [data], list[LogEvent]):
            is_shown = last is not None and (event.time, event.n) <= (began, last.n)
            if not is_shown and has_event(span, event):
                _print_event(invocation, event)


def _print_event(invocation: Invocation, event: LogEvent) -> None:
    invocation.answer(event)
    invocation.say(f"{local_time(event.time)} {event.text()}")
