"""Verbs about posted messages: mail ls, show, replay, drop."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import click

from garrison.ipc import OrderFailed, RemoteError, connect
from garrison.supervisor.crashes.store import CrashStore

from .output import DONE, SETTINGS, answer, options, say

MAILBOX = "mailbox"
MOST = 20
STATES = ("waiting", "dead")


@click.group()
@options
def mail() -> None:
    """Look at messages that were posted, and mend what became a dead letter."""


@mail.command()
@click.argument("name", required=False, metavar="[NAME]")
@click.option("-n", "most", type=click.IntRange(1, 1000), default=MOST, show_default=True)
@options
def ls(name: str | None, most: int) -> int:
    """List what waits, and dead letters: the oldest of each, of all receivers or one."""
    from .render import status  # rich takes a while to import

    data = _together(_asked(lambda mailbox: mailbox.ls(name, most)), most)
    answer(data)
    if not SETTINGS.json:
        status.show(*_listed(data))
    return DONE


@mail.command()
@click.argument("letter", metavar="ID")
@options
def show(letter: str) -> int:
    """Show all of one message, its arguments too."""
    from .render import status

    (data,) = _asked(lambda mailbox: mailbox.show(letter))[:1]
    answer(data)
    if not SETTINGS.json:
        status.show(status.pairs(_shown(data)))
    return DONE


@mail.command()
@click.argument("letters", nargs=-1, metavar="ID…")
@click.option("--all", "everything", is_flag=True, help="All dead letters.")
@options
def replay(letters: tuple[str, ...], everything: bool) -> int:
    """Have dead letters delivered again, behind what waits already."""
    if bool(letters) == everything:
        raise click.UsageError("name the dead letters, or say --all")
    wanted = None if everything else list(letters)
    count = sum(_asked(lambda mailbox: mailbox.replay(wanted)))
    return _told(count, letters, "will be delivered again")


@mail.command()
@click.argument("letters", nargs=-1, required=True, metavar="ID…")
@options
def drop(letters: tuple[str, ...]) -> int:
    """Forget messages, waiting or dead. One that its receiver has just now is still handled."""
    return _told(sum(_asked(lambda mailbox: mailbox.drop(list(letters)))), letters, "forgotten")


def _told(count: int, letters: tuple[str, ...], what: str) -> int:
    answer({"count": count})
    say(f"{count} {'message' if count == 1 else 'messages'} {what}")
    if count < len(letters):
        raise OrderFailed("no_such_message", f"{len(letters) - count} of the IDs are no messages")
    return DONE


def _asked(ask: Callable[[Any], Awaitable[Any]]) -> list[Any]:
    """Return what the mailboxes say: there is one, or one for each agent.

    Raises:
        OrderFailed: There is none, or no such message.
    """

    async def asked() -> list[Any]:
        async with connect(SETTINGS.home) as client:
            mailboxes = client.get_services_by_type(MAILBOX)
            if not mailboxes:
                raise OrderFailed(
                    "no_such_service",
                    f"there is no mailbox here: add [plugins.{MAILBOX}] to the config",
                )
            said, problem = [], ""
            for mailbox in mailboxes:
                try:
                    said.append(await ask(mailbox))
                except RemoteError as error:
                    if error.type_name != "LookupError":
                        raise
                    problem = error.detail.partition(": ")[2]
            if not said:
                raise OrderFailed("no_such_message", problem)
            return said

    return asyncio.run(asked())


def _together(said: list[dict[str, Any]], most: int) -> dict[str, Any]:
    """Return several mailboxes' lists as one: a receiver's rows stand one below the other."""
    both: dict[str, list[Any]] = {
        key: [row for one in said for row in one[key]]
        for key in ("receivers", "letters", "damaged")
    }
    both["receivers"].sort(key=lambda row: str(row["receiver"]))
    both["letters"].sort(key=lambda row: (row["state"] == "dead", -row["age_s"]))
    of = {state: [row for row in both["letters"] if row["state"] == state] for state in STATES}
    both["letters"] = [row for rows in of.values() for row in rows[:most]]
    return both


def _listed(data: dict[str, Any]) -> Iterable[Any]:
    from .render import status

    if not data["receivers"]:
        yield "nothing waits, and there are no dead letters"
    else:
        yield status.table(
            ("RECEIVER", "WAITING", "OLDEST", "DEAD", "OLDEST"),
            (
                (
                    row["receiver"],
                    str(row["waiting"]),
                    _age(row["oldest_s"]),
                    str(row["dead"]),
                    _age(row["oldest_dead_s"]),
                )
                for row in data["receivers"]
            ),
        )
    if data["letters"]:
        yield ""
        yield status.table(
            ("ID", "FOR", "METHOD", "STATE", "AGE", "TRIES", "WHY"),
            (
                (
                    row["id"],
                    row["receiver"],
                    row["method"],
                    row["state"],
                    status.span(row["age_s"]),
                    str(row["attempts"] + row["deaths"]),
                    row["reason"].splitlines()[0] if row["reason"] else "",
                )
                for row in data["letters"]
            ),
        )
    for path in data["damaged"]:
        yield f"a damaged file was set aside: {path}"


def _shown(data: dict[str, Any]) -> list[tuple[str, Any]]:
    from .render import status

    return [
        ("message", data["id"]),
        ("for", f"{data['receiver']}.{data['method']}"),
        ("from", data["sender"]),
        ("state", data["state"]),
        ("age", status.span(data["age_s"])),
        ("key", data["key"]),
        ("expires in", status.span(data["expires_s"]) if data["expires_s"] is not None else None),
        ("refused", f"{data['attempts']} times" if data["attempts"] else None),
        ("deaths", f"{data['deaths']} of its receiver" if data["deaths"] else None),
        ("last death", _death(data["death"])),
        ("why", data["reason"]),
        ("args", status.compact(data["args"])),
        ("kwargs", status.compact(data["kwargs"]) if data["kwargs"] else None),
    ]


def _death(incarnation: str) -> str | None:
    """Return which record tells of the incarnation that died with a message."""
    if not incarnation:
        return None
    name, _, generation = incarnation.rpartition("-")
    store = CrashStore(SETTINGS.home / "state" / "deaths")
    for death_id in reversed(store.ids({name})):
        record = store.read(death_id)
        if record is not None and str(record.generation) == generation:
            return SETTINGS.garrison(f"death {death_id}")
    return f"generation {generation} of {name}, of which there is no record any more"


def _age(seconds: float | None) -> str:
    from .render import status

    return "-" if seconds is None else status.span(seconds)
