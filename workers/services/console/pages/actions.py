"""The actions on a service, and `apply`: by POST, with what came of it."""

from collections.abc import Awaitable, Callable

from starlette.responses import Response

from garrison.ipc import OrderFailed

from ..action_words import ACTIONS, Action, done, reason
from ..visit import Visit
from .page import Page

WAIT_S = 60.0


def _acting(action: Action) -> Callable[[Visit], Awaitable[Response]]:
    async def act(visit: Visit) -> Response:
        name = visit.form.get("name", "")
        if not name or set("*?[") & set(name):
            raise OrderFailed("usage", f"{action.verb}: name one service")
        why = reason(visit.session.user, visit.form.get("why", ""))
        data = await visit.order(action.verb, [name], WAIT_S, why=why)
        back = f"/services/{name}" if name in visit.picture.services else "/"
        return visit.render("done.html", lines=done(action.verb, data), back=back)

    return act


async def apply(visit: Visit) -> Response:
    """Do what is pending, of all or of one service."""
    name = visit.form.get("name", "")
    why = reason(visit.session.user, visit.form.get("why", ""))
    data = await visit.order("apply", [name] if name else [], WAIT_S, why=why)
    lines = [str(one) for one in data["done"]] or ["nothing was applied"]
    lines += [f"! {one}" for one in data["problems"]]
    response = visit.render("done.html", lines=lines, back="/host")
    response.headers["HX-Trigger"] = "applied"  # what is pending is read again
    return response


PAGES = (
    *(
        Page(f"/act/{one.verb}", _acting(one), method="POST", needs=one.needs, acts=True)
        for one in ACTIONS.values()
    ),
    Page("/act/apply", apply, method="POST", acts=True),
)
