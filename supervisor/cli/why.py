"""The verb that shows the chain of causes behind a service's state: `why`."""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click

from garrison.ipc import OrderFailed, SupervisorGone
from garrison.ipc.causes import (
    RECENT_S,
    Cause,
    Evidence,
    Explanation,
    LostCalls,
    cause_lines,
    mends,
    services_of,
)
from garrison.ipc.log_span import unix_time
from garrison.supervisor.crashes.report import CrashReport
from garrison.supervisor.crashes.store import CrashStore
from garrison.supervisor.lifecycle.order_note import OPERATOR

from .client import request
from .completion import complete_names
from .crash_excerpt import calls_in_flight, last_frames, log_excerpt
from .edges import of_team
from .errors import DONE, no_such_service
from .output import Invocation, options

ROUNDS_MOST = 16  # requests for the services that a service depends on, one level each
EVENTS_MOST = 2000  # latest events
SAME_S = 2.0  # between an order and the event about it, at most
REPORTS_MOST = 40  # latest crash reports that are searched for lost calls


@click.command(epilog="Examples: garrison why discord; garrison why discord --json")
@click.argument("name", metavar="NAME", shell_complete=complete_names)
@options
def why(invocation: Invocation, name: str) -> int:
    """Show why a service is as it is, and what mends it.

    The chain of causes: its last death, the service that it waits for and why that does not run, an
    order, a config that was rejected, a secret that is missing; of one that runs, also calls that
    it lost. Without a supervisor, its last death.
    """
    home, now = invocation.home, time.time()
    store = CrashStore(home / "state" / "deaths")
    try:
        rows = _rows(home, name)
    except SupervisorGone:
        explained = _without_supervisor(home, name, store, now)
    else:
        reports = [death["id"] for row in rows.values() for death in row.get("deaths") or ()]
        evidence = _evidence(store, reports)
        events = request(home, "events", number=EVENTS_MOST)
        add_users(rows, events)
        lost, taken = _lost_calls(store, name, now), _taken_along(events, name, now)
        explained = Explanation(rows, now, evidence, lost, taken).of(name)
    found = mends(explained)
    mend = [{"advice": one.advice or None, "command": _command(invocation, one)} for one in found]
    invocation.answer({"name": name, "why": explained, "mend": mend})
    if not invocation.json:
        from .render import why as render  # rich is slow to import
        from .render.table import show

        again = invocation.command(f"why {name}")
        show(*render.explanation(cause_lines(explained), mend, again))
    return DONE


def _taken_along(
    events: Sequence[dict[str, Any]], name: str, now: float
) -> dict[str, tuple[str, float]]:
    """Return with which service this one was restarted last, and how long ago."""
    for event in reversed(events):
        if event["event"] == "service.taken_along" and event["service"] == name:
            age = now - (unix_time(event["time"]) or 0.0)
            return {name: (event["data"]["by"], age)}
    return {}


def add_users(rows: Mapping[str, dict[str, Any]], events: Sequence[dict[str, Any]]) -> None:
    """Add to the last order of each service the user who gave it, where the events have that.

    Args:
        rows: NAME → row, as `status NAME` has it.
        events: The last ones.
    """
    given = [
        (unix_time(event["time"]) or 0.0, event["data"])
        for event in events
        if event["event"] == "order.given"
    ]
    for name, row in rows.items():
        order = row.get("order")
        if not order or order["who"] != OPERATOR:
            continue
        for at, data in reversed(given):
            patterns = data["names"].split(", ")
            alike = data["verb"] == order["verb"] and abs(at - order["at"]) <= SAME_S
            if alike and (name in patterns or any(fnmatchcase(name, one) for one in patterns)):
                order["user"] = data["user"]
                break


def _rows(home: Path, name: str) -> dict[str, dict[str, Any]]:
    """Return the details of a service and of every service below it."""
    rows: dict[str, dict[str, Any]] = {}
    missing, known, restricted = {name}, set[str](), False
    for _ in range(ROUNDS_MOST):
        try:
            found = request(home, "status", tuple(sorted(missing)))["services"]
        except OrderFailed:
            if not rows:
                raise
            break  # an operator of a team may not see all that it depends on
        rows |= {row["name"]: row for row in found}
        if len(rows) == len(found) and name not in rows:  # it was a pattern
            raise OrderFailed("usage", f"why takes one NAME, not {name!r}")
        if not known:
            whole = request(home, "status")
            known = {row["name"] for row in whole["services"]}
            restricted = not whole["supervisor"]["config"]
        missing = services_of(rows.values()) & known - set(rows)
        if not missing:
            break
    return {name: of_team(row, known) for name, row in rows.items()} if restricted else rows


def _command(invocation: Invocation, cause: Cause) -> str:
    """Return what to type; of a crash report that this user cannot read, the log instead."""
    of_report = cause.command.startswith("death ")
    if of_report and not os.access(invocation.home / "state", os.R_OK):
        return invocation.command(f"logs {cause.service}")
    return invocation.command(cause.command)


def _evidence(store: CrashStore, ids: Iterable[str]) -> dict[str, Evidence]:
    """Return what these crash reports show, in short."""
    found = {}
    for one in ids:
        if (report := store.read(one)) is not None:
            parts = (calls_in_flight(report), last_frames(report), log_excerpt(report))
            found[one] = Evidence(*map(tuple, parts))
    return found


def _lost_calls(store: CrashStore, caller: str, now: float) -> dict[str, list[LostCalls]]:
    """Return the calls of a service that ended with the death of another."""
    found = list[LostCalls]()
    for report in _reports(store, store.ids()[-REPORTS_MOST:]):
        methods = tuple(
            one.method
            for one in report.in_flight
            if one.direction == "in" and one.service == caller and report.service != caller
        )
        age = now - (unix_time(report.at) or 0.0)
        if methods and age <= RECENT_S:
            found.append(LostCalls(report.service, report.id, age, methods))
    return {caller: found[::-1]}


def _reports(store: CrashStore, ids: Iterable[str]) -> Iterator[CrashReport]:
    for one in ids:
        if (report := store.read(one)) is not None:
            yield report


def _without_supervisor(home: Path, name: str, store: CrashStore, now: float) -> Cause:
    """Return what the files have of a service.

    Raises:
        SupervisorGone: No supervisor has run in this home.
        OrderFailed: There is nothing of such a service.
    """
    if not (home / "state").is_dir():
        raise SupervisorGone(str(home))
    dead = store.ids({name})
    if not dead and not (home / "logs" / f"{name}.log").exists():
        raise no_such_service(name, sorted({one.rpartition("-")[0] for one in store.ids()}))
    host = Cause(name, "host", "no supervisor runs in this home", command="up --detach")
    whole = Cause(name, "state", f"{name} does not run", causes=[host])
    last = next(_reports(store, dead[-1:]), None)
    if last is not None:
        row = {"name": name, "state": "failed", "wanted": True, "deaths": [_summary(last)]}
        explained = Explanation({name: row}, now, _evidence(store, dead[-1:])).of(name)
        for death in explained.causes:
            death.text, death.command = f"its last death: {death.text}", ""
        whole.causes += explained.causes
    return whole


def _summary(report: CrashReport) -> dict[str, Any]:
    return {
        "id": report.id,
        "n": report.n,
        "at": report.at,
        "cause": report.cause,
        "kind": report.kind,
        "node": report.node,
    }
