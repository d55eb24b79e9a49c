"""Verbs about crash reports: `deaths` lists them, `death` shows one. Both read files alone."""

from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path

import click

from garrison.ipc import OrderFailed, SupervisorGone
from garrison.ipc.log_files import service_logs
from garrison.ipc.log_span import Span, unix_time
from garrison.supervisor.crashes.report import CrashSummary
from garrison.supervisor.crashes.store import CrashStore

from .client import request
from .completion import complete_deaths, complete_names
from .errors import DONE, no_such_service
from .output import Invocation, options
from .selection import SpanOf, selection


@click.command(epilog="Examples: garrison deaths; garrison deaths hello -n 5")
@click.argument("names", nargs=-1, metavar="[NAME…]", shell_complete=complete_names)
@selection("crashes")
@options
def deaths(
    invocation: Invocation,
    names: tuple[str, ...],
    span_of: SpanOf,
) -> int:
    """List the crashes of services.

    A crash is every end that no order caused. The latest is last.
    Works without a supervisor, too.
    """
    span = span_of()
    home = invocation.home
    running = _flush(home)
    store = CrashStore(home / "state" / "deaths")
    dead = {death_id.rpartition("-")[0] for death_id in store.ids()}
    known = list(dict.fromkeys([*running, *sorted(dead), *service_logs(home / "logs")]))
    for name in names:
        if not any(fnmatchcase(one, name) for one in known):
            raise no_such_service(name, known)
    chosen = {one for one in dead if not names or any(fnmatchcase(one, name) for name in names)}
    ids = store.ids(chosen) if chosen and span.last != 0 else []
    if span.is_whole and span.last is not None:
        ids = ids[-span.last :]
    lines = store.lines(ids)
    unreadable = sorted({*ids} - {line.id for line in lines})
    lines = [line for line in lines if span.is_whole or _is_asked_for(line, span)]
    lines = lines if span.last is None else lines[-span.last :]
    invocation.answer({"deaths": lines, "unreadable": unreadable})
    if not invocation.json:
        _print_deaths(invocation, lines)
        for death_id in unreadable:
            invocation.say(f"{store.folder / death_id}.json cannot be read", error=True)
    return DONE


def _is_asked_for(line: CrashSummary, span: Span) -> bool:
    text = f"{line.id} {line.service} {line.at} {line.cause}"
    return span.has(unix_time(line.at) or 0.0, text)


def _print_deaths(invocation: Invocation, lines: list[CrashSummary]) -> None:
    if not lines:
        invocation.say("no deaths")
        return
    from .render import crash, table

    table.show(crash.summary_table(lines))
    invocation.say(f"for all of one: {invocation.command(f'death {lines[-1].id}')}")


@click.command(epilog="Examples: garrison death hello; garrison death hello-3")
@click.argument("death_id", metavar="ID", shell_complete=complete_deaths)
@options
def death(invocation: Invocation, death_id: str) -> int:
    """Show one crash report.

    ID is that of a report, or the NAME of a service, which means its latest one.

    Works without a supervisor, too.
    """
    home = invocation.home
    _flush(home)
    store = CrashStore(home / "state" / "deaths")
    ids = store.ids()
    if death_id not in ids:
        of_service = store.ids({death_id})
        if not of_service:
            raise _no_such_death(death_id, ids)
        death_id = of_service[-1]
    report = store.read(death_id)
    if report is None:
        file = store.folder / f"{death_id}.json"
        text = f"{file} cannot be read: it is damaged, or of a newer version of garrison"
        raise OrderFailed("failed", text)
    invocation.answer(report)
    if not invocation.json:
        from .render import crash, table

        table.show(*crash.full_report(report))
    return DONE


def _flush(home: Path) -> list[str]:
    """Have the supervisor, if one runs, write the latest crash reports; return its NAMEs.

    Raises:
        SupervisorGone: None runs, and none has run in this home.
    """
    try:
        names: list[str] = request(home, "deaths")["services"]
        return names
    except SupervisorGone:
        if not (home / "state").is_dir():  # a wrong --home must not show "no deaths"
            raise
    except OrderFailed as error:
        if error.code == "not_allowed":
            raise
        # it is busy or stopping: show the reports that are written
    return []


def _no_such_death(death_id: str, ids: list[str]) -> OrderFailed:
    close = get_close_matches(death_id, ids[::-1], n=1)
    hint = f"did you mean {close[0]}?" if close else "garrison deaths lists them"
    if not ids:
        hint = "there are none"
    return OrderFailed("no_such_death", f"no death {death_id}; {hint}")
