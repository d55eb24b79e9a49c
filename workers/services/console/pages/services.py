"""Services: all of them, what is unwell first, live."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.responses import Response

from ..live_parts import Changes, partial
from ..picture import Picture
from ..service_rows import shown_rows
from ..visit import Visit
from .page import Page


async def show(visit: Visit) -> Response:
    """Return the page."""
    return visit.render("services.html", rows=await _rows(visit, visit.picture))


async def live(visit: Visit) -> Response:
    """Return the stream of its rows that have changed."""
    return visit.event_stream(_parts(visit))


async def _rows(visit: Visit, picture: Picture) -> list[Mapping[str, Any]]:
    """Return what is shown of the services. An operator of a team is shown no calls."""
    rates = await visit.tools.rates.now() if visit.session.trusted else {}
    return [
        {
            **row,
            "rate": rates.get(row["name"]),
            "spark": visit.tools.history.sparkline(row["name"]),
        }
        for row in shown_rows(list(picture.services.values()))
    ]


async def _parts(visit: Visit) -> AsyncIterator[str]:
    order: list[str] | None = None
    frame, lines = Changes(), Changes()
    async for picture in visit.pictures():
        rows = await _rows(visit, picture)
        now = {
            row["id"]: visit.rendered("services.html", "row", row=row, picture=picture)
            for row in rows
        }
        changed = lines.parts(now, "outerMorph")
        if list(now) != order:
            order = list(now)
            lines.forget(now)
            changed = partial("services", "".join(now.values()))
        head = frame.parts(
            {
                "summary": visit.rendered("services.html", "summary", rows=rows, picture=picture),
                "gone": visit.rendered("base.html", "gone", picture=picture),
            }
        )
        if head or changed:
            yield head + changed


PAGES = (
    Page("/", show, "Services", needs="status"),
    Page("/live/services", live, needs="status"),
)
