"""Death: the list of crashes, one crash report, and why a service is as it is."""

import time
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from garrison.ipc import OrderFailed
from garrison.ipc.log_span import unix_time

from ..records.death_words import facts, listed, logs_around, moment, threads_of
from ..records.line_words import clean
from ..records.query import query_of
from ..visit import Visit
from .page import Page

LISTED = 100  # deaths on one page
FORMER = 20  # of one service, that are compared
MESSAGES_OPEN = 8  # last messages that are shown at once


async def deaths(visit: Visit) -> Response:
    """Return the list."""
    query = query_of(visit.query)
    words = [f"--{key}={value}" for key in ("since", "until") if (value := getattr(query, key))]
    problem, found = "", dict[str, Any]()
    try:
        found = await visit.verb("deaths", "-n", str(LISTED + 1), *words, "--", *query.names)
    except OrderFailed as error:
        if error.code not in {"usage", "no_such_service"}:
            raise
        problem = str(error)
    rows = listed(found.get("deaths", []))
    return visit.render(
        "deaths.html",
        404 if problem else 200,
        query=query,
        rows=rows[:LISTED],
        more=len(rows) > LISTED,
        most=LISTED,
        unreadable=found.get("unreadable", []),
        services=sorted({*visit.picture.services, *(row.service for row in rows)}),
        problem=problem,
        now=time.time(),
        unix=unix_time,
    )


async def death(visit: Visit) -> Response:
    """Return one report."""
    report = await visit.verb("death", "--", visit.path["id"])
    service = str(report["service"])
    former: list[Any] = []
    try:
        found = await visit.verb("deaths", "-n", str(FORMER), "--", service)
        former = listed(found["deaths"])
    except OrderFailed:
        pass  # the report itself is there; the list may be pruned meanwhile
    others = [one for one in former if one.id != report["id"]]
    return visit.render(
        "death.html",
        report=report,
        cause=clean(str(report["cause"])),
        facts=facts(report),
        threads=threads_of(str(report.get("stacks") or "")),
        log=[clean(line) for line in report.get("log") or ()],
        before=[clean(line) for line in report.get("before") or ()],
        former=others,
        alike=[one for one in others if one.cause == clean(str(report["cause"]))],
        around=f"/logs?{urlencode(logs_around(service, str(report['at'])))}",
        incarnation=_incarnation(report),
        open=MESSAGES_OPEN,
        now=time.time(),
        at=unix_time(str(report["at"])) or 0.0,
        moment=moment,
    )


def _incarnation(report: dict[str, Any]) -> str:
    if not report.get("generation") or not report.get("pid"):
        return ""
    values = {
        "name": report["service"],
        "generation": report["generation"],
        "pid": report["pid"],
    }
    return f"/logs?{urlencode(values)}"


async def why(visit: Visit) -> Response:
    """Return why a service is as it is: a part of other pages, or a page."""
    found = await visit.verb("why", "--", visit.path["name"])
    return visit.render("why.html", name=found["name"], why=found["why"], mend=found["mend"])


PAGES = (
    Page("/deaths", deaths, "Deaths"),
    Page("/deaths/{id}", death),
    Page("/services/{name}/why", why),
)
