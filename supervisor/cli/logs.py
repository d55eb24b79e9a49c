"""Verbs that show what happened: logs and events."""

import contextlib
import time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click
import msgspec

from garrison.ipc import OrderFailed, SupervisorGone
from garrison.supervisor.logs.events import RECALLED, EventLog, LogEvent, local_time, localized
from garrison.supervisor.logs.tail import LogReader, last_lines, service_logs

from .client import follow, request
from .errors import DONE, no_such_service
from .output import Invocation, options

POLL_S = 0.1  # between reads of the files


@click.command(epilog="Examples: garrison logs hello -n 100; garrison logs -f")
@click.argument("names", nargs=-1, metavar="[NAME…]")
@click.option("-f", "--follow", "following", is_flag=True, help="Continue with new lines.")
@click.option(
    "-n",
    "number",
    type=click.IntRange(min=0),
    default=50,
    show_default=True,
    metavar="N",
    help="How many lines of each service, the last.",
)
@options
def logs(invocation: Invocation, names: tuple[str, ...], following: bool, number: int) -> int:
    """Show the output of services. Works without a supervisor, too."""
    folder = invocation.home / "logs"
    files = service_logs(folder)
    chosen = _choose(invocation, names, files)
    alone = len(chosen) == 1 and len(names) == 1 and chosen[0] == names[0]
    tail = LogReader(folder, lambda name: not names or _matches(name, names))
    for name in chosen:
        for line in last_lines(files[name], number):
            _print_line(invocation, name, line, alone)
    while following:
        for name, line in tail.read():
            _print_line(invocation, name, line, alone)
        time.sleep(POLL_S)  # without inotify there is no event to wait for
    return DONE


def _choose(invocation: Invocation, names: tuple[str, ...], files: dict[str, Path]) -> list[str]:
    for name in names:
        has_log = any(_matches(known, (name,)) for known in files)
        if not has_log and not _is_known(invocation.home, name):
            raise no_such_service(name, list(files))
    return [known for known in files if not names or _matches(known, names)]


def _is_known(home: Path, name: str) -> bool:
    """Return True if the supervisor knows this service, which has not written anything."""
    with contextlib.suppress(SupervisorGone, OrderFailed):
        request(home, "status", (name,))
        return True
    return False


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _print_line(invocation: Invocation, name: str, line: str, alone: bool) -> None:
    invocation.answer({"service": name, "line": line})
    line = localized(line)
    invocation.say(line if alone else f"{click.style(name, fg='cyan')} | {line}")


@click.command(epilog="Examples: garrison events -n 20; garrison events hello -f")
@click.argument("names", nargs=-1, metavar="[NAME…]")
@click.option("-f", "--follow", "following", is_flag=True, help="Continue with new events.")
@click.option(
    "-n",
    "number",
    type=click.IntRange(min=0),
    default=50,
    show_default=True,
    metavar="N",
    help="How many events, the last.",
)
@options
def events(invocation: Invocation, names: tuple[str, ...], following: bool, number: int) -> int:
    """Show events, one a line; with --json, a JSON value a line.

    Without a supervisor, the events that the last one recorded are shown.
    """
    if following:
        for data in follow(invocation.home, "events", names, number=number):
            for event in data if isinstance(data, list) else [data]:
                _print_event(invocation, event)
        return DONE
    try:
        last = request(invocation.home, "events", names, number=number)
    except SupervisorGone:
        last = _recorded(invocation.home, names, number)
        if not last:
            raise
    for event in last:
        _print_event(invocation, event)
    return DONE


def _recorded(home: Path, names: tuple[str, ...], number: int) -> list[dict[str, Any]]:
    journal = EventLog(home / "logs" / "events.jsonl")
    journal.recall()
    last: list[LogEvent] = journal.last(RECALLED)
    chosen = [event for event in last if not names or _matches(event.service, names)]
    return [msgspec.to_builtins(event) for event in chosen[-number:] if number]


def _print_event(invocation: Invocation, data: dict[str, Any]) -> None:
    invocation.answer(data)
    event = msgspec.convert(data, LogEvent)
    invocation.say(f"{local_time(event.time)} {event.text()}")
