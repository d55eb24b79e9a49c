"""Verbs about tasks: tasks ls, show, run, pause, resume, drop."""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import click

from garrison.ipc import OrderFailed, RemoteError, connect
from garrison.supervisor.cli.render.text import compact, counted, span

from .durations import Whole
from .errors import DONE
from .output import Invocation, options
from .verbs import VerbGroup

TASK = "task"
SHOWN = 50
STATUSES = ("pending", "running", "paused", "failed", "done")
OF_AGENT = click.option("--agent", metavar="AGENT", help="Only tasks of this agent.")
IDS = click.argument("ids", nargs=-1, required=True, metavar="ID…")


@click.group(cls=VerbGroup, epilog="Example: garrison tasks ls")
@options
def tasks(_: Invocation) -> None:
    """List, run, pause and drop tasks.

    A task runs when it is due, in the service that knows how. One that failed too often is paused,
    with the reason.
    """


@tasks.command(epilog="Examples: garrison tasks ls; garrison tasks ls --status done -n 100")
@click.option(
    "--status",
    type=click.Choice(STATUSES),
    help="Only tasks of this status. Default: all but done ones.",
)
@click.option(
    "-n",
    "most",
    type=Whole(1, 1000),
    default=SHOWN,
    show_default=True,
    metavar="N",
    help="How many tasks.",
)
@OF_AGENT
@options
def ls(invocation: Invocation, status: str | None, most: int, agent: str | None) -> int:
    """List tasks: those that run, then by their next time."""
    data = _merge(_query(invocation, lambda service: service.ls(agent, status, most)), most)
    invocation.answer(data)
    if not invocation.json:
        from .render import table  # rich is slow to import

        table.show(*_list(data))
    return DONE


@tasks.command(epilog="Example: garrison tasks show ID")
@click.argument("task_id", metavar="ID")
@OF_AGENT
@options
def show(invocation: Invocation, task_id: str, agent: str | None) -> int:
    """Show one task with all that it has."""
    (data,) = _query(invocation, lambda service: service.show(task_id, agent))[:1]
    invocation.answer(data)
    if not invocation.json:
        from .render import table

        table.show(table.pairs(_details(data)))
    return DONE


@tasks.command(epilog="Example: garrison tasks run ID")
@IDS
@OF_AGENT
@options
def run(invocation: Invocation, ids: tuple[str, ...], agent: str | None) -> int:
    """Run tasks now, whatever their time. A repeated one goes on as before."""
    return _change(invocation, ids, "will run now", lambda one, ids: one.run(ids, agent))


@tasks.command(epilog="Example: garrison tasks pause ID")
@IDS
@OF_AGENT
@options
def pause(invocation: Invocation, ids: tuple[str, ...], agent: str | None) -> int:
    """Keep tasks from running. A run that is under way goes on."""
    return _change(invocation, ids, "paused", lambda one, ids: one.pause(ids, agent))


@tasks.command(epilog="Example: garrison tasks resume ID")
@IDS
@OF_AGENT
@options
def resume(invocation: Invocation, ids: tuple[str, ...], agent: str | None) -> int:
    """Let paused and failed tasks run again. A repeated one runs at its next time."""
    return _change(invocation, ids, "resumed", lambda one, ids: one.resume(ids, agent))


@tasks.command(epilog="Example: garrison tasks drop ID")
@IDS
@OF_AGENT
@options
def drop(invocation: Invocation, ids: tuple[str, ...], agent: str | None) -> int:
    """Delete tasks. A run that is under way is not interrupted."""
    return _change(invocation, ids, "dropped", lambda one, ids: one.drop(ids, agent))


def _change(
    invocation: Invocation,
    ids: tuple[str, ...],
    outcome: str,
    order: Callable[[Any, list[str]], Awaitable[int]],
) -> int:
    """Change tasks, one after the other: what was done before an error stays done."""
    count = 0
    for task_id in ids:
        count += sum(_query(invocation, functools.partial(_order, order, task_id)))
    invocation.answer({"count": count})
    invocation.say(f"{counted(count, 'task')} {outcome}")
    return DONE


def _order(
    order: Callable[[Any, list[str]], Awaitable[int]], task_id: str, service: Any
) -> Awaitable[int]:
    return order(service, [task_id])


def _query(invocation: Invocation, query: Callable[[Any], Awaitable[Any]]) -> list[Any]:
    """Return the answers of the task services: there is one, or one for each agent.

    Raises:
        OrderFailed: There is no task service, or none can do that.
    """

    async def answers() -> list[Any]:
        async with connect(invocation.home) as client:
            services = client.get_services_by_type(TASK)
            if not services:
                raise OrderFailed(
                    "no_such_service",
                    f"there is no task service here: add [plugins.{TASK}] to the config",
                )
            results, problems = [], list[str]()
            for service in services:
                try:
                    results.append(await query(service))
                except RemoteError as error:
                    if error.type_name != "LookupError":
                        raise
                    problems.append(error.detail.partition(": ")[2])
            if not results:
                # of several services, the one that has the task knows most
                problem = next((one for one in problems if not one.startswith("no task")), None)
                raise OrderFailed("no_such_task", problem or problems[0])
            return results

    return asyncio.run(answers())


def _merge(lists: list[dict[str, Any]], most: int) -> dict[str, Any]:
    """Return the lists of several services as one: two services may run the same tasks."""
    merged = {(row["agent"], row["id"]): row for one in lists for row in one["tasks"]}
    rows = list(merged.values())
    if len(lists) > 1:
        rows.sort(key=lambda row: (row["status"] != "running", row["at"] or 0.0))
    return {
        "tasks": rows[:most],
        "more": len(rows) > most or any(one["more"] for one in lists),
    }


def _list(data: dict[str, Any]) -> Iterable[Any]:
    from .render import table

    rows = data["tasks"]
    if not rows:
        yield "no tasks"
        return
    heads = ["ID", "NAME", "STATUS", "NEXT", "REPEATS", "TRIES", "WHY"]
    cells = [_row(row) for row in rows]
    if any(row["agent"] for row in rows):
        for line, agent in zip(
            [heads, *cells], ["AGENT", *(row["agent"] or "-" for row in rows)], strict=True
        ):
            line.insert(1, agent)
    yield table.table(heads, cells)
    if data["more"]:
        yield "there are more: garrison tasks ls -n 1000"


def _row(row: dict[str, Any]) -> list[str]:
    return [
        row["id"],
        row["name"],
        row["status"],
        _next(row),
        _repeats(row) or "-",
        str(row["attempts"]),
        _why(row),
    ]


def _why(row: dict[str, Any]) -> str:
    if not row["is_queued"]:
        return "without the tag queue"
    if row["status"] == "pending" and not row["workers"]:
        return "no worker is registered for it"
    text = str(row["error"])
    return text.splitlines()[0] if text else ""


def _next(row: dict[str, Any]) -> str:
    """Return when a task runs, from now."""
    if row["status"] == "running":
        return "now"
    if row["status"] != "pending":
        return "-"
    wait = (row["at"] or 0.0) - time.time()
    return f"in {span(wait)}" if wait > 0 else "due"


def _repeats(row: dict[str, Any]) -> str:
    if row["cron"]:
        return str(row["cron"])
    return f"every {span(row['every_s'])}" if row["every_s"] else ""


def _details(data: dict[str, Any]) -> list[tuple[str, Any]]:
    return [
        ("task", data["id"]),
        ("name", data["name"]),
        ("agent", data["agent"]),
        ("about", data["description"]),
        ("status", data["status"]),
        ("next", _at(data["at"])),
        ("repeats", _repeats(data)),
        ("zone", data["time_zone"]),
        ("runs in", ", ".join(data["workers"]) or "no worker is registered for it"),
        ("tags", ", ".join(data["tags"])),
        ("finished", f"{data['runs']} runs" if data["runs"] else None),
        ("failed", f"{data['attempts']} runs in a row" if data["attempts"] else None),
        ("deaths", f"{data['deaths']} of its worker" if data["deaths"] else None),
        ("missed", f"{data['missed_count']} times" if data["missed_count"] else None),
        ("last missed", _at(data["missed_until"])),
        ("runner", data["lease_owner"]),
        ("lease until", _at(data["lease_until"])),
        ("why", data["error"]),
        ("room", data["room_id"]),
        ("metadata", compact(data["metadata"]) if data["metadata"] else None),
    ]


def _at(seconds: float | None) -> str | None:
    """Return a time as people read it: local, with its offset."""
    if not seconds:
        return None
    return datetime.fromtimestamp(seconds, UTC).astimezone().isoformat(" ", "seconds")
