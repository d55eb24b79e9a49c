"""The verb that shows services: `status`, once or again and again. Durations are seconds."""

import contextlib
import time
from collections.abc import Collection, Iterable, Iterator
from math import inf
from pathlib import Path
from typing import Any

import click

from garrison.ipc.errors import OrderFailed
from garrison.ipc.system import process_tree
from garrison.ipc.urgency import DOWN, urgency

from .client import Conversation, is_here, is_operator
from .completion import complete_names
from .errors import DONE, NOT_RUNNING
from .output import Invocation, options
from .render.text import sanitize
from .status_order import ORDERS, ordered

COMPARE_S = 5.0  # between two comparisons with the disk
NOTHING: dict[str, list[Any]] = {"pending": [], "pending_host": [], "problems": []}


@click.command(
    epilog="Examples: garrison status; garrison status hello; garrison status 'ada.*'; "
    "garrison status --tree; garrison status --watch"
)
@click.argument("names", nargs=-1, metavar="[NAME…]", shell_complete=complete_names)
@click.option("--tree", is_flag=True, help="Also the processes that services have started.")
@click.option("--watch", is_flag=True, help="Refresh once a second, until q.")
@click.option(
    "--sort",
    "order",
    type=click.Choice(ORDERS),
    default=ORDERS[0],
    show_default=True,
    help="The order of the table.",
)
@options
def status(
    invocation: Invocation, names: tuple[str, ...], tree: bool, watch: bool, order: str
) -> int:
    """Show all services, or every detail of some.

    Those that need you come first; garrison why NAME says why. Exits 3 if a service that is wanted
    is not running, or a platform has lost its connection for good.
    """
    if watch:
        from .status_watch import watch_status

        looks = Looks(invocation.home, names, tree)
        return watch_status(
            invocation, looks, lambda data, marked: _lines(invocation, data, names, order, marked)
        )
    data = Looks(invocation.home, names, tree).look()
    invocation.answer(data)
    for line in () if invocation.json else _lines(invocation, data, names, order):
        invocation.say(line)
    ok = all(_works(row) for row in data["services"] if row["wanted"])
    return DONE if ok else NOT_RUNNING


class Looks:
    """Reads what is shown of a host, again and again over one connection.

    Args:
        home: Its home.
        names: NAMEs and globs of the services whose details are read; none is all, in short.
        tree: Whether to read the processes of services, too.
    """

    def __init__(self, home: Path, names: tuple[str, ...], tree: bool) -> None:
        self._home, self._names, self._tree = home, names, tree
        self._host = Conversation(home)
        self._pending = NOTHING
        self._compared_at = -inf

    def look(self) -> dict[str, Any]:
        """Return what is shown of the host now. Raises as `request`."""
        if time.monotonic() - self._compared_at >= COMPARE_S:
            # First: it finds that a rejected part of the config is corrected.
            self._pending, self._compared_at = self._differences(), time.monotonic()
        data: dict[str, Any] = self._host.request("status", self._names)
        if self._tree:
            _add_processes(data)
        return {**data, **self._pending}

    def _differences(self) -> dict[str, list[Any]]:
        """Return what differs from the disk, as far as no plugin has to be read for it."""
        if is_operator(self._home):
            return NOTHING
        with contextlib.suppress(OrderFailed):  # of an older release, or a config that is no TOML
            found = self._host.request("diff", quick=True)
            return {
                "pending": found["services"],
                "pending_host": found["host"],
                "problems": found["problems"],
            }
        return NOTHING


def _add_processes(data: dict[str, Any]) -> None:
    """Add to each service that runs the processes below it.

    Raises:
        OrderFailed: They are in a PID namespace that this process does not see.
    """
    from .processes import as_data, below  # psutil is slow to import

    if not process_tree.is_pid_namespace(data["supervisor"].get("pid_namespace", 0)):
        text = "the host's processes are in another PID namespace: run garrison status --tree there"
        raise OrderFailed("failed", text)
    found = below([row["pid"] for row in data["services"] if row["pid"] and is_here(row)])
    for row in data["services"]:
        row["processes"] = as_data(found.get(row["pid"], ()) if is_here(row) else ())


def _lines(
    invocation: Invocation,
    data: dict[str, Any],
    names: Collection[str],
    order: str,
    marked: Iterable[str] = (),
) -> Iterator[str]:
    """Yield the lines that are printed.

    Args:
        invocation: The command line.
        data: As `Looks` has it.
        names: Show every detail of each service, if there are any.
        order: Of the table.
        marked: Services that have changed.
    """
    from .render.status_table import rejected_line, status_table, wrapped

    rows = ordered(data["services"], order)
    if names:
        yield from _details(invocation, rows)
    else:
        yield from status_table({**data, "services": rows}, frozenset(marked))
        first = min(rows, key=urgency, default=None)
        if first is not None and urgency(first) <= DOWN:
            yield from wrapped(f"why: {invocation.command('why ' + first['name'])}")
    chosen = {row["name"] for row in rows}
    shown = [one for one in data["pending"] if not names or one["name"] in chosen]
    words = [f"{sanitize(one['name'])} ({one['change']})" for one in shown]
    if not names:
        words += [f"[host] {one['key']}" for one in data["pending_host"]]
        rejected = {one["text"] for one in data["supervisor"].get("config_rejected", ())}
        for problem in data["problems"]:
            if problem not in rejected:
                yield rejected_line(problem, "config on disk cannot be used")
    if words:
        more = f" and {len(words) - 5} more" if len(words) > 5 else ""
        listed = ", ".join(words[:5])
        yield from wrapped(f"! pending: {listed}{more}; see {invocation.command('diff')}")


def _details(invocation: Invocation, rows: Iterable[dict[str, Any]]) -> list[str]:
    from .render import status, table  # rich is slow to import

    return table.lines_of(*(status.service_detail(row, invocation.command) for row in rows))


def _works(row: dict[str, Any]) -> bool:
    """Return whether a service runs, and a platform is not disconnected for good."""
    return row["state"] == "running" and not (row.get("link") or {}).get("disconnected")
