"""Verbs about posted messages: mail ls, show, replay, drop."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import click

from garrison.ipc import OrderFailed, RemoteError, connect
from garrison.supervisor.cli.render.text import compact, counted, span
from garrison.supervisor.crashes.store import CrashStore

from .completion import complete_names
from .durations import Whole
from .errors import DONE
from .output import Invocation, options
from .progress import Progress
from .verbs import VerbGroup

MAILBOX = "mailbox"
SHOWN = 20
STATES = ("waiting", "dead")
REPLAYING = "the mailbox may have replayed them all: garrison mail ls"  # after Ctrl-C


@click.group(cls=VerbGroup, epilog="Example: garrison mail ls")
@options
def mail(_: Invocation) -> None:
    """List, replay and drop posted messages.

    A message is pending until its receiver has handled it. A dead letter is a message that its
    receiver refused or crashed on too often.
    """


@mail.command(epilog="Examples: garrison mail ls; garrison mail ls hello -n 100")
@click.argument("name", required=False, metavar="[NAME]", shell_complete=complete_names)
@click.option(
    "-n",
    "most",
    type=Whole(1, 1000),
    default=SHOWN,
    show_default=True,
    metavar="N",
    help="How many messages of each state, the oldest.",
)
@options
def ls(invocation: Invocation, name: str | None, most: int) -> int:
    """List pending messages and dead letters.

    With NAME, those of one receiver.
    """
    data = _merge(_query(invocation, lambda mailbox: mailbox.ls(name, most)), most)
    invocation.answer(data)
    if not invocation.json:
        from .render import table  # rich is slow to import

        table.show(*_list(data))
    return DONE


@mail.command(epilog="Example: garrison mail show ID")
@click.argument("message_id", metavar="ID")
@options
def show(invocation: Invocation, message_id: str) -> int:
    """Show one message with its arguments."""
    (data,) = _query(invocation, lambda mailbox: mailbox.show(message_id))[:1]
    invocation.answer(data)
    if not invocation.json:
        from .render import table

        table.show(table.pairs(_details(invocation, data)))
    return DONE


@mail.command(
    epilog="Examples: garrison mail replay ID; garrison mail replay hello; garrison mail replay "
    "--all"
)
@click.argument("words", nargs=-1, metavar="[ID|NAME]…", shell_complete=complete_names)
@click.option("--all", "everything", is_flag=True, help="All dead letters.")
@options
def replay(invocation: Invocation, words: tuple[str, ...], everything: bool) -> int:
    """Deliver dead letters again.

    By ID, or all of a receiver by its NAME. They come after the messages that are pending.
    """
    if bool(words) == everything:
        raise click.UsageError("name the dead letters or their receiver, or use --all")

    async def replayed(mailbox: Any) -> tuple[int, int, list[str]]:
        """Return how many by ID, how many by NAME, and which words are the NAME of a receiver."""
        if everything:
            return 0, await shown.during(mailbox.replay(None)), []
        receivers = {row["receiver"] for row in (await mailbox.ls(None, 1))["receivers"]}
        names = [word for word in words if word in receivers]
        by_id = await shown.during(mailbox.replay([one for one in words if one not in receivers]))
        by_name = await shown.during(mailbox.replay([], names)) if names else 0
        return by_id, by_name, names

    with Progress(None, "replaying", quiet=invocation.hides_progress, goes_on=REPLAYING) as shown:
        found = _query(invocation, replayed)
    names = {name for _, _, some in found for name in some}
    ids = tuple(word for word in words if word not in names)
    by_id, by_name = (sum(numbers) for numbers in zip(*(one[:2] for one in found), strict=True))
    return _print_count(invocation, by_id, ids, "will be delivered again", "dead letter", by_name)


@mail.command(epilog="Example: garrison mail drop ID")
@click.argument("ids", nargs=-1, required=True, metavar="ID…")
@options
def drop(invocation: Invocation, ids: tuple[str, ...]) -> int:
    """Delete messages, pending or dead. A delivery that is under way is not interrupted."""
    count = sum(_query(invocation, lambda mailbox: mailbox.drop(list(ids))))
    return _print_count(invocation, count, ids, "dropped", "message")


def _print_count(
    invocation: Invocation,
    count: int,
    ids: tuple[str, ...],
    outcome: str,
    kind: str,
    others: int = 0,
) -> int:
    invocation.answer({"count": count + others})
    if count or others or not ids:
        invocation.say(f"{counted(count + others, 'message')} {outcome}")
    if (missing := len(ids) - count) > 0:  # with --all there are no ids
        absent = (
            f"there is no {kind} {ids[0]}" if len(ids) == 1 else f"no {kind}: {missing} of them"
        )
        look = invocation.command("mail ls")
        raise OrderFailed("no_such_message", f"{absent}; the IDs are in: {look}")
    return DONE


def _query(invocation: Invocation, query: Callable[[Any], Awaitable[Any]]) -> list[Any]:
    """Return the answers of the mailboxes: there is one, or one for each agent.

    Raises:
        OrderFailed: There is no mailbox, or none has such a message.
    """

    async def answers() -> list[Any]:
        async with connect(invocation.home) as client:
            mailboxes = client.get_services_by_type(MAILBOX)
            if not mailboxes:
                raise OrderFailed(
                    "no_such_service",
                    f"there is no mailbox here: add [plugins.{MAILBOX}] to the config",
                )
            results, problem = [], ""
            for mailbox in mailboxes:
                try:
                    results.append(await query(mailbox))
                except RemoteError as error:
                    if error.type_name != "LookupError":
                        raise
                    problem = error.detail.partition(": ")[2]
            if not results:
                raise OrderFailed("no_such_message", problem)
            return results

    return asyncio.run(answers())


def _merge(lists: list[dict[str, Any]], most: int) -> dict[str, Any]:
    """Return the lists of several mailboxes as one, sorted by receiver and by age."""
    merged: dict[str, list[Any]] = {
        key: [row for one in lists for row in one.get(key, [])]  # an older mailbox lacks the last
        for key in ("receivers", "letters", "damaged", "damaged_messages")
    }
    merged["receivers"].sort(key=lambda row: str(row["receiver"]))
    merged["letters"].sort(key=lambda row: (row["state"] == "dead", -row["age_s"]))
    by_state = {
        state: [row for row in merged["letters"] if row["state"] == state] for state in STATES
    }
    merged["letters"] = [row for rows in by_state.values() for row in rows[:most]]
    merged["damaged_messages"].sort(key=lambda row: -row["found_at"])
    del merged["damaged_messages"][most:]
    total = sum(one.get("damaged_count", 0) for one in lists)
    return merged | {"damaged_count": total}


def _list(data: dict[str, Any]) -> Iterable[Any]:
    from .render import table

    if not data["receivers"]:
        yield "no messages wait, and there are no dead letters"
    else:
        yield table.table(
            ("RECEIVER", "WAITING", "OLDEST", "DEAD", "OLDEST"), map(_receiver, data["receivers"])
        )
    if data["letters"]:
        yield ""
        heads = ["ID", "FOR", "METHOD", "STATE", "AGE", "TRIES", "WHY"]
        rows = [list(_message(row)) for row in data["letters"]]
        lanes = [row.get("lane") or "-" for row in data["letters"]]  # an older mailbox has none
        if set(lanes) != {"-"}:
            for cells, lane in zip([heads, *rows], ["LANE", *lanes], strict=True):
                cells.insert(3, lane)
        yield table.table(heads, rows)
        yield from _held_lanes(data["letters"])
    if data.get("damaged_count"):
        yield ""
        yield (
            f"{counted(data['damaged_count'], 'message')} damaged, not delivered; see "
            "garrison mail show ID, then garrison mail drop ID"
        )
        columns = ("ID", "FOR", "METHOD", "FOUND", "WHY")
        yield table.table(columns, map(_damaged, data["damaged_messages"]))
    for path in data["damaged"]:
        yield f"a damaged file was moved aside: {path}"


def _held_lanes(rows: list[dict[str, Any]]) -> Iterable[str]:
    """Yield a line for each lane that waits for a notice; an older mailbox names none."""
    held = {(row["receiver"], row["lane"]): row["notice"] for row in rows if row.get("notice")}
    for (receiver, lane), notice in held.items():
        yield f"lane {lane} of {receiver} waits for the notice {notice}"


def _receiver(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["receiver"],
        str(row["waiting"]),
        _age(row["oldest_s"]),
        str(row["dead"]),
        _age(row["oldest_dead_s"]),
    )


def _message(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["id"],
        row["receiver"],
        row["method"],
        row["state"],
        span(row["age_s"]),
        str(row["attempts"] + row["deaths"]),
        row["reason"].splitlines()[0] if row["reason"] else "",
    )


def _damaged(row: dict[str, Any]) -> tuple[str, ...]:
    found = span(max(time.time() - row["found_at"], 0.0))
    return (row["id"], row["receiver"] or "?", row["method"] or "?", found, row["problem"])


def _details(invocation: Invocation, data: dict[str, Any]) -> list[tuple[str, Any]]:
    return [
        ("message", data["id"]),
        ("for", f"{data['receiver']}.{data['method']}"),
        ("from", data["sender"]),
        ("state", data["state"]),
        ("age", span(data["age_s"])),
        ("key", data["key"]),
        ("lane", data.get("lane")),
        ("next try in", span(data["retry_s"]) if data.get("retry_s") is not None else None),
        ("waits for", f"the notice {data['notice']}" if data.get("notice") else None),
        ("expires in", span(data["expires_s"]) if data["expires_s"] is not None else None),
        ("refused", f"{data['attempts']} times" if data["attempts"] else None),
        ("deaths", f"{data['deaths']} of its receiver" if data["deaths"] else None),
        ("last death", _last_death(invocation, data["death"])),
        ("why", data["reason"]),
        ("args", compact(data["args"]) if data["state"] != "damaged" else None),
        ("row", compact(data["fields"]) if data.get("fields") else None),
        ("kwargs", compact(data["kwargs"]) if data["kwargs"] else None),
    ]


def _last_death(invocation: Invocation, incarnation: str) -> str | None:
    """Return the command that shows the crash report of a receiver's incarnation."""
    if not incarnation:
        return None
    name, _, generation = incarnation.rpartition("-")
    store = CrashStore(invocation.home / "state" / "deaths")
    for death_id in reversed(store.ids({name})):
        report = store.read(death_id)
        if report is not None and str(report.generation) == generation:
            return invocation.command(f"death {death_id}")
    return f"generation {generation} of {name}; its crash report is no longer there"


def _age(seconds: float | None) -> str:
    return "-" if seconds is None else span(seconds)
