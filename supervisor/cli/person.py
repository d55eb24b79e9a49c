"""Verbs about what is kept of a person: person export, person forget."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import IO, Any

import click

from garrison.ipc import Client, OrderFailed, connect, with_timeout
from garrison.ipc.errors import CallError
from garrison.ipc.messages import Entry, encodable

from .client import request
from .errors import DONE
from .output import Invocation, encode, options
from .person_services import (
    EXPORT,
    FORGET,
    KEPT_FILES,
    Away,
    Person,
    beyond,
    sources_of,
    with_method,
)
from .verbs import VerbGroup

CALL_S = 600.0  # for one service to forget; of an export, for each next record
INCOMPLETE = "incomplete"  # error code


@click.group(cls=VerbGroup, epilog="Example: garrison person export discord:1122334455")
@options
def person(_: Invocation) -> None:
    """Export or erase what is kept of a person.

    SOURCE is the NAME of the platform's service, or its type; ID is the person's id there.
    """


@person.command(
    name="export",
    epilog="Example: garrison person export discord:1122334455 --out ada.json",
)
@click.argument("who", metavar="SOURCE:ID")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write to a file that you alone can read. Default: standard output.",
)
@options
def export(invocation: Invocation, who: str, out: Path | None) -> int:
    """Write everything that is kept of a person, as JSON.

    Exit code 1: a service that keeps something was not reached; the output says which.
    """
    wanted = _parsed(who)
    if out is None:
        report = asyncio.run(_export(invocation, wanted, sys.stdout))
    else:
        report = _export_to_file(invocation, wanted, out)
        invocation.say(f"{sum(report['rows'].values())} records are in {out}")
        if invocation.json and not report["not_reached"]:
            invocation.answer(report | {"file": str(out)})
    _raise_if_incomplete(invocation, report, "export")
    return DONE


@person.command(epilog="Example: garrison person forget discord:1122334455")
@click.argument("who", metavar="SOURCE:ID")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@options
def forget(invocation: Invocation, who: str, yes: bool) -> int:
    """Erase everything that is kept of a person.

    It may be repeated. What a service restores from an older backup later is erased again when it
    starts. Exit code 1: a service that keeps something was not reached; the output says which.
    """
    wanted = _parsed(who)
    entries = asyncio.run(_entries(invocation))
    sources = sources_of(entries, wanted.source)
    if not yes:
        _confirm(invocation, wanted, sources)
    cleared = request(invocation.home, "forget", sources=sources, person=wanted.id)
    report = asyncio.run(_forget(invocation, wanted, sources))
    report["reports"] = cleared["reports"]
    if invocation.json and not report["not_reached"]:
        invocation.answer(report)
    elif not invocation.json:
        _show(invocation, report)
    _raise_if_incomplete(invocation, report, "forget")
    return DONE


def _parsed(text: str) -> Person:
    try:
        return Person.parse(text)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _confirm(invocation: Invocation, wanted: Person, sources: tuple[str, ...]) -> None:
    """Ask whether to erase.

    Raises:
        UsageError: There is no terminal to ask at.
        Abort: The answer is no.
    """
    if invocation.json or not sys.stdin.isatty():
        raise click.UsageError("forget erases for good: add --yes where there is no terminal")
    where = " and ".join(sources)
    text = f"Erase what is kept of {encodable(wanted.id)} of {where}? It cannot be undone."
    click.confirm(text, abort=True)


async def _entries(invocation: Invocation) -> list[Entry]:
    async with connect(invocation.home) as client:
        return list(client.directory)


# --- forget -------------------------------------------------------------------------------------


async def _forget(
    invocation: Invocation, wanted: Person, sources: tuple[str, ...]
) -> dict[str, Any]:
    """Have each service erase what it keeps; return the report."""
    async with connect(invocation.home) as client:
        entries = list(client.directory)
        called, away = with_method(entries, FORGET)
        services = []
        for entry in called:
            counts: dict[str, int] = {}
            try:
                for source in sources:
                    _add(counts, await _call(client, entry.name, source, wanted.id))
            except CallError as error:
                away.append(Away(entry.name, str(error)))
            services.append({"service": entry.name, "erased": counts})
    without = [one.name for one in entries if one not in called and not _is_away(one, away)]
    return {
        "person": f"{wanted.source}:{wanted.id}",
        "sources": list(sources),
        "services": services,
        "not_reached": [one._asdict() for one in away],
        "beyond": beyond(without, kept_files(invocation.home)),
    }


async def _call(client: Client, name: str, source: str, person: str) -> dict[str, int]:
    proxy: Any = with_timeout(client.get_service(name), CALL_S)
    found = await proxy.forget_person(source, person)
    return found if isinstance(found, dict) else {}


def _add(counts: dict[str, int], more: dict[str, int]) -> None:
    for key, value in more.items():
        counts[key] = counts.get(key, 0) + value


def _is_away(entry: Entry, away: Iterable[Away]) -> bool:
    return any(one.service == entry.name for one in away)


def kept_files(home: Path) -> list[str]:
    """Return the files in the data folders of services that were set aside, within the home."""
    folder = home / "state" / "services"
    found = {path for pattern in KEPT_FILES for path in folder.glob(f"*/{pattern}")}
    return sorted(str(path.relative_to(home)) for path in found)


def _show(invocation: Invocation, report: dict[str, Any]) -> None:
    from .render import table  # rich is slow to import

    rows = [
        (one["service"], what, str(count))
        for one in report["services"]
        for what, count in one["erased"].items()
    ]
    if report["reports"]:
        rows.append(("(crash reports)", "with recorded values cleared", str(report["reports"])))
    table.show(table.table(("SERVICE", "ERASED", "COUNT"), rows, right=("COUNT",)))
    invocation.say()
    invocation.say("Not erased, because garrison cannot reach it:")
    for line in report["beyond"]:
        invocation.say(f"- {line}")


def _raise_if_incomplete(invocation: Invocation, report: dict[str, Any], verb: str) -> None:
    """Raise the error about services that were not reached.

    Raises:
        OrderFailed: There are some.
    """
    away = [Away(**one) for one in report["not_reached"]]
    if not away:
        return
    what = "; ".join(f"{one.service}: {one.why}" for one in away)
    starts = " ".join(one.service for one in away)
    command = invocation.command(f"start {starts}")
    text = f"not everything was reached: {what}. See to it ({command}), then repeat person {verb}"
    raise OrderFailed(INCOMPLETE, text, report)


# --- export -------------------------------------------------------------------------------------


def _export_to_file(invocation: Invocation, wanted: Person, out: Path) -> dict[str, Any]:
    """Write an export to a file of mode 600, which takes the place of a former one at the end.

    Raises:
        OSError: It cannot be written.
    """
    unfinished = out.with_name(f"{out.name}.new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            report = asyncio.run(_export(invocation, wanted, file))
        unfinished.rename(out)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    return report


async def _export(invocation: Invocation, wanted: Person, out: IO[str]) -> dict[str, Any]:
    """Write a JSON document, record by record; return its last part, the report."""
    async with connect(invocation.home) as client:
        entries = list(client.directory)
        sources = sources_of(entries, wanted.source)
        called, away = with_method(entries, EXPORT)
        head = {"v": 1, "person": f"{wanted.source}:{wanted.id}", "exported_at": time.time()}
        out.write(f'{encode(head).decode()[:-1]},"held":[')
        rows: dict[str, int] = {}
        for entry in called:
            try:
                async for row in _held(client, entry.name, sources, wanted.id):
                    line = encode({"service": entry.name, **row}).decode()
                    out.write(f"{',' if sum(rows.values()) else ''}\n{line}")
                    _add(rows, {entry.name: 1})
            except CallError as error:
                away.append(Away(entry.name, str(error)))
        report = {
            "sources": list(sources),
            "rows": rows,
            "not_reached": [one._asdict() for one in away],
        }
        out.write(f"\n],{encode(report).decode()[1:]}\n")
    return report


async def _held(
    client: Client, name: str, sources: tuple[str, ...], person: str
) -> AsyncIterator[dict[str, Any]]:
    proxy: Any = with_timeout(client.get_service(name), CALL_S)
    for source in sources:
        async for row in proxy.export_person(source, person):
            yield row if isinstance(row, dict) else {"value": row}
