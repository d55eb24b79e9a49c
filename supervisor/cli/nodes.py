"""The verbs about machines: `nodes` lists them, `drain` empties one."""

from collections.abc import Iterator
from typing import Any

import click

from garrison.supervisor.cli.render.text import counted, sanitize, size, span

from .client import request
from .completion import completes
from .errors import DONE, NOT_RUNNING
from .output import Invocation, options
from .services import WAIT_S


@click.command(epilog="Examples: garrison nodes; garrison nodes --json")
@options
def nodes(invocation: Invocation) -> int:
    """List the machines of this host, and what runs where.

    Exits 3 if a node has no contact.
    """
    data = request(invocation.home, "nodes")
    rows = data["nodes"]
    invocation.answer(data)
    down = [row for row in rows if not row["up"]]
    if not invocation.json:
        from .render import table  # rich is slow to import

        if rows:
            heads = ("NODE", "CONTACT", "LEASE", "FREE", "SERVICES")
            table.show(table.table(heads, map(_cells, rows), cut=("FREE", "SERVICES")))
        else:
            invocation.say("one machine: without [engine] in the config, all runs here")
        for line in _remarks(data):
            invocation.say(line)
    return NOT_RUNNING if down else DONE


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    age = row["lease_age_s"]
    return (
        row["name"],
        _contact(row),
        "-" if age is None or not row["up"] else f"{age:.1f}s",
        _free(row),
        " ".join(row["services"]) or "-",
    )


def _contact(row: dict[str, Any]) -> str:
    if not row["up"]:
        return "never" if row["lease_age_s"] is None else f"lost {span(row['lease_age_s'])}"
    if row["leaving"]:
        return "leaving"
    return "drained" if row["drained"] else "yes"


def _free(row: dict[str, Any]) -> str:
    """Return what no service has, of each resource."""
    free = {
        key: max(amount - row["taken"].get(key, 0.0), 0.0)
        for key, amount in row["resources"].items()
    }
    shown = [
        f"{key} {size(int(amount)) if key == 'memory' else f'{amount:g}'}"
        for key, amount in free.items()
    ]
    return ", ".join(shown) or "-"


def _remarks(data: dict[str, Any]) -> Iterator[str]:
    if data["problem"]:
        yield f"! {sanitize(data['problem'])}"
    for row in data["nodes"]:
        if not row["up"]:
            yield f"! {row['name']} {row['problem']}"


@click.command(epilog="Examples: garrison drain gpu-box; garrison drain gpu-box --back")
@click.argument(
    "node",
    metavar="NODE",
    shell_complete=completes(lambda home, ctx: [one["name"] for one in _rows(home)]),
)
@click.option("--back", is_flag=True, help="Let the node take services again.")
@click.option("--why", default="", metavar="TEXT", help="Why; the events show it.")
@options
def drain(invocation: Invocation, node: str, back: bool, why: str) -> int:
    """Move services off a machine, and start no others there.

    Each is restarted where there is room for it. What its config or its data binds to the machine
    stays there, and is listed. Exits 3 if a service found no room elsewhere.
    """
    data = request(invocation.home, "drain", (node,), WAIT_S, back=back, why=why)
    invocation.answer(data)
    if not data["drained"]:
        invocation.say(f"{node} takes services again; what has left it stays where it is")
        return DONE
    for name, place in data["moved"].items():
        invocation.say(f"{name} runs on {place}")
    for name, reason in data["stays"].items():
        invocation.say(f"{name} stays on {node}: {reason}")
    for name, reason in data["stuck"].items():
        invocation.say(f"! {name} stays on {node}: {reason.replace('waits', 'it waits', 1)}")
    undo = invocation.command(f"drain {node} --back")
    invocation.say(f"{node} takes nothing more ({counted(len(data['moved']), 'service')} moved)")
    invocation.say(f"to let it take services again: {undo}")
    return NOT_RUNNING if data["stuck"] else DONE


def _rows(home: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = request(home, "nodes")["nodes"]
    return rows
