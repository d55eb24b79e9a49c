"""The verb that shows which services depend on and call which: `graph`."""

import time
from collections import Counter
from pathlib import Path

import click

from garrison.ipc import OrderFailed
from garrison.ipc.call_rates import awaiting, pair_rates
from garrison.supervisor.cli.edges import Live, dot, edges_of, of_team

from .client import request
from .completion import complete_names
from .counters import read_totals
from .errors import DONE
from .output import Invocation, options
from .progress import Progress

COUNT_S = 1.2  # between two readings of what workers count: each sends it once a second


@click.command(epilog="Examples: garrison graph; garrison graph database; garrison graph --dot")
@click.argument("names", nargs=-1, metavar="[NAME…]", shell_complete=complete_names)
@click.option("--dot", "as_dot", is_flag=True, help="Print a graph for Graphviz.")
@options
def graph(invocation: Invocation, names: tuple[str, ...], as_dot: bool) -> int:
    """Show which services depend on which, and which call which.

    With the calls that end in a second now, those in flight, and whether they go directly. With
    NAMEs, what each needs and what needs it.
    """
    home = invocation.home
    whole = request(home, "status")
    every = [row["name"] for row in whole["services"]]
    restricted = not whole["supervisor"]["config"]  # to what an operator of a team may see
    chosen = [row["name"] for row in request(home, "status", names)["services"]] if names else every
    rows = request(home, "status", tuple(every))["services"] if every else []
    with Progress(None, "counting calls", quiet=invocation.hides_progress, goes_on="") as shown:
        live = None if restricted else _live(home)
        shown.update(None)
    if restricted:
        rows = [of_team(row, every) for row in rows]
    edges = edges_of(rows, live)
    near = [one for one in edges if not names or {one.source, one.target} & set(chosen)]
    kept = {name for one in near for name in (one.source, one.target)} | set(chosen)
    states = {row["name"]: row["state"] for row in rows if row["name"] in kept}
    services = [{"name": name, "state": state} for name, state in states.items()]
    invocation.answer({"services": services, "edges": near, "calls_known": live is not None})
    if as_dot:
        for line in dot(states, near):
            invocation.say(line)
    elif not invocation.json:
        from .render import graph, table  # rich is slow to import

        table.show(*graph.graph(rows, edges, chosen if names else []))
    return DONE


def _live(home: Path) -> Live | None:
    """Return the calls between services; None if the supervisor does not count them."""
    try:
        before = read_totals(home)
        time.sleep(COUNT_S)
        after = read_totals(home)
    except OrderFailed:  # an older one
        return None
    ended = Counter[tuple[str, str]]()
    for row in after.calls:
        ended[row.caller, row.service] += row.number
    return Live(ended, pair_rates(before, after), awaiting(after), set(after.direct))
