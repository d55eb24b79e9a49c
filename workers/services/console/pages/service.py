"""One service: its state, its history, its calls, its limits, its deaths, and its log."""

import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.responses import JSONResponse, Response

from garrison.ipc import OrderFailed
from garrison.ipc.log_span import unix_time

from ..action_words import fitting
from ..call_table import ROWS_MOST, awaited, calls_of, calls_to
from ..history.recorder import SPANS
from ..live_parts import Changes
from ..service_rows import shown
from ..visit import Visit
from .page import Page

FACTS_MOST = 16
DEFAULT_SPAN = "24h"
NO_DETAIL: dict[str, Any] = dict.fromkeys(
    (
        *("again_in_s", "bind_to", "capability_description", "deaths", "depends_on", "dependents"),
        *("differs", "order", "restart", "unheld"),
    )
)  # of a service, in the order's answer with `detail`


async def show(visit: Visit) -> Response:
    """Return the page."""
    row = await _detail(visit)
    history = visit.tools.history
    span = visit.query.get("span", DEFAULT_SPAN)
    span = span if span in SPANS else DEFAULT_SPAN
    return visit.render(
        "service.html",
        row=shown(row),
        name=row["name"],
        actions=_actions(visit, row),
        span=span,
        spans=history.spans,
        now=time.time(),
        unix=unix_time,
        summary=history.chart(str(row["name"]), span)["summary"],
        **await _calls(visit, str(row["name"])),
    )


async def history(visit: Visit) -> Response:
    """Return the lines of the charts, as JSON."""
    name = visit.path["name"]
    if name not in visit.picture.services:
        raise OrderFailed("no_such_service", f"there is no service {name}")
    return JSONResponse(visit.tools.history.chart(name, visit.query.get("span", DEFAULT_SPAN)))


async def live(visit: Visit) -> Response:
    """Return the stream of what changes."""
    if visit.path["name"] not in visit.picture.services:
        raise OrderFailed("no_such_service", f"there is no service {visit.path['name']}")
    return visit.event_stream(_parts(visit, visit.path["name"]))


async def _parts(visit: Visit, name: str) -> AsyncIterator[str]:
    changes = Changes()
    last: tuple[Any, ...] | None = None
    async for picture in visit.pictures():
        row = picture.services.get(name)
        parts = {"gone": visit.rendered("base.html", "gone", picture=picture)}
        if row is None:
            parts["head"] = "<p>There is no such service any more.</p>"
        else:
            values: dict[str, Any] = {"row": shown(row), "name": name}
            values["actions"] = _actions(visit, row)
            parts["head"] = visit.rendered("service.html", "head", **values)
            parts["actions"] = visit.rendered("service.html", "actions", **values)
            now = (row["state"], row["generation"], row["restarts"])
            if last is not None and now != last and not picture.gone:
                values |= {"row": shown(await _detail(visit)), "now": time.time()}
                values["unix"] = unix_time
                parts["details"] = visit.rendered("service.html", "details", **values)
            last = now
        if changed := changes.parts(parts):
            yield changed


async def _detail(visit: Visit) -> Mapping[str, Any]:
    """Return everything that is known of the service; its last picture without a supervisor."""
    name = visit.path["name"]
    known = visit.picture.services.get(name)
    if visit.picture.gone and known is not None:
        return {**NO_DETAIL, **known}
    if known is None:
        raise OrderFailed("no_such_service", f"there is no service {name}")
    data = await visit.order("status", [name], detail=True)
    row: Mapping[str, Any] = data["services"][0]
    return {**NO_DETAIL, **row}  # what could not be read has fewer


def _actions(visit: Visit, row: Mapping[str, Any]) -> list[Any]:
    return [one for one in fitting(row) if visit.acts(one.needs)]


async def _calls(visit: Visit, name: str) -> dict[str, Any]:
    """Return the calls to and of a service; an operator of a team is shown none."""
    totals = await visit.tools.rates.totals() if visit.session.trusted else None
    if totals is None:
        return {"calls": None, "made": None, "awaited": {}, "rate": None, "most": ROWS_MOST}
    rates = await visit.tools.rates.now()
    return {
        "calls": calls_to(totals, name),
        "made": calls_of(totals, name),
        "awaited": awaited(totals, name),
        "rate": rates.get(name),
        "most": ROWS_MOST,
    }


PAGES = (
    Page("/services/{name}", show, needs="status"),
    Page("/services/{name}/history", history, needs="status"),
    Page("/live/services/{name}", live, needs="status"),
)
