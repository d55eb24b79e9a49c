"""Host: version, disk, limits, and what is pending, with `apply`."""

from starlette.responses import Response

from garrison.ipc import OrderFailed, SupervisorGone

from ..visit import Visit
from .page import Page

READ_S = 20.0
LIMITED_MOST = 200


async def show(visit: Visit) -> Response:
    """Return the page."""
    pending, problem = None, ""
    try:
        pending = await visit.order("diff", timeout=READ_S)
    except (OrderFailed, SupervisorGone) as error:
        problem = str(error)
    limited = [
        row
        for row in visit.picture.services.values()
        if row.get("memory_max") or row.get("processes_max")
    ]
    return visit.render(
        "host.html",
        host=visit.picture.supervisor,
        limited=limited[:LIMITED_MOST],
        pending=pending,
        problem=problem,
    )


PAGES = (Page("/host", show, "Host"),)
