"""Verbs that look on: logs and events."""

import contextlib
import time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click
import msgspec

from garrison.ipc import OrderFailed, SupervisorGone
from garrison.supervisor.logs.events import RECALLED, Event, EventLog, local_time
from garrison.supervisor.logs.tail import LogTail, last_lines, service_logs

from .client import follow, request
from .output import DONE, SETTINGS, answer, no_such_service, options, say

LOOK_S = 0.1  # between looks at the files


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME…]")
@click.option("-f", "--follow", "following", is_flag=True, help="Go on with what is added.")
@click.option(
    "-n", "number", type=click.IntRange(min=0), default=50, show_default=True, help="Last lines."
)
@options
def logs(names: tuple[str, ...], following: bool, number: int) -> int:
    """Show what services wrote. Works without a supervisor, too."""
    folder = SETTINGS.home / "logs"
    found = service_logs(folder)
    chosen = _chosen(names, found)
    alone = len(chosen) == 1 and len(names) == 1 and chosen[0] == names[0]
    follower = LogTail(folder, lambda name: not names or _matches(name, names))
    for name in chosen:
        for line in last_lines(found[name], number):
            _show(name, line, alone)
    while following:
        for name, line in follower.read():
            _show(name, line, alone)
        time.sleep(LOOK_S)  # a file has no event to wait for without inotify
    return DONE


def _chosen(names: tuple[str, ...], found: dict[str, Path]) -> list[str]:
    for name in names:
        if not any(_matches(known, (name,)) for known in found) and not _silent(name):
            raise no_such_service(name, list(found))
    return [known for known in found if not names or _matches(known, names)]


def _silent(name: str) -> bool:
    """Tell whether there is such a service that has never written anything."""
    with contextlib.suppress(SupervisorGone, OrderFailed):
        request(SETTINGS.home, "status", (name,))
        return True
    return False


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _written_down(names: tuple[str, ...], number: int) -> list[dict[str, Any]]:
    journal = EventLog(SETTINGS.home / "logs" / "events.jsonl")
    journal.recall()
    last: list[Event] = journal.last(RECALLED)
    told = [event for event in last if not names or _matches(event.service, names)]
    return [msgspec.to_builtins(event) for event in told[-number:] if number]


def _show(name: str, line: str, alone: bool) -> None:
    answer({"service": name, "line": line})
    say(line if alone else f"{click.style(name, fg='cyan')} | {line}")


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME…]")
@click.option("-f", "--follow", "following", is_flag=True, help="Go on with what happens.")
@click.option(
    "-n", "number", type=click.IntRange(min=0), default=50, show_default=True, help="Last events."
)
@options
def events(names: tuple[str, ...], following: bool, number: int) -> int:
    """Show what happened, a line an event; with --json, a JSON value a line.

    Without a supervisor, what the last one wrote down.
    """
    if not following:
        try:
            last = request(SETTINGS.home, "events", names, number=number)
        except SupervisorGone:
            last = _written_down(names, number)
            if not last:
                raise
        for event in last:
            _tell(event)
        return DONE
    for data in follow(SETTINGS.home, "events", names, number=number, follow=True):
        for event in data if isinstance(data, list) else [data]:
            _tell(event)
    return DONE


def _tell(event: dict[str, Any]) -> None:
    answer(event)
    happened = msgspec.convert(event, Event)
    say(f"{local_time(happened.time)} {happened.text()}")
