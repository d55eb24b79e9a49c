"""Mail: what waits and what is dead by receiver; one message; replay, drop, and what followed."""

import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

from starlette.responses import HTMLResponse, RedirectResponse, Response

from garrison.ipc import OrderFailed

from ..call_all import Answers, call_all
from ..mail_rows import (
    SELECTED_MOST,
    facts,
    first_line,
    is_settled,
    listed,
    merged,
    outcomes,
    selected,
    tries,
)
from ..values import compact, number
from ..visit import Visit
from .page import Page

MAILBOX = "mailbox"
SHOWN = 40  # messages of each state
MOST = SELECTED_MOST
NONE_SELECTED = "select the messages first"


async def show(visit: Visit) -> Response:
    """Return the lists."""
    name = visit.query.get("name", "")
    most = number(visit.query.get("n", ""), SHOWN, 1, MOST)
    problem = ""
    try:
        answers = await call_all(visit, MAILBOX, "ls", name or None, most)
    except OrderFailed as error:
        answers, problem = Answers(), str(error)
    return visit.render(
        "mail.html",
        mail=merged(answers.results.values(), most),
        away=answers.away,
        problem=problem,
        name=name,
        most=most,
        more=min(most * 2, MOST) if most < MOST else 0,
        dropped=number(visit.query.get("dropped", ""), -1, 0, MOST),
        now=time.time(),
        tries=tries,
        first_line=first_line,
        acts=visit.acts("host"),
    )


async def show_one(visit: Visit) -> Response:
    """Return one message."""
    message = (await call_all(visit, MAILBOX, "show", visit.path["id"])).one
    return visit.render(
        "mail_message.html",
        message=message,
        facts=facts(message),
        compact=compact,
        now=time.time(),
        acts=visit.acts("host"),
    )


async def replay(visit: Visit) -> Response:
    """Replay what is selected; the next page shows what became of it."""
    ids = _ids(visit)
    answers = await _act(visit, "replay", ids)
    count = sum(answers.results.values())
    parameters = urlencode({"ids": ",".join(ids), "count": count})
    return RedirectResponse(f"/mail/replayed?{parameters}", 303)


async def drop(visit: Visit) -> Response:
    """Ask once more; drop what was confirmed."""
    ids = _ids(visit)
    if visit.form.get("sure") != "yes":
        rows = outcomes((await call_all(visit, MAILBOX, "outcomes", ids)).results.values())
        return visit.render("mail_drop.html", rows=rows, first_line=first_line)
    answers = await _act(visit, "drop", ids)
    return RedirectResponse(f"/mail?dropped={sum(answers.results.values())}", 303)


async def replayed(visit: Visit) -> Response:
    """Return what became of replayed messages; the part alone where htmx asks again."""
    ids = listed(visit.query.get("ids", ""))
    answers = await call_all(visit, MAILBOX, "outcomes", ids)
    rows = outcomes(answers.results.values())
    again = "" if is_settled(rows) else f"/mail/replayed?ids={quote(','.join(ids))}"
    values: dict[str, Any] = {
        "rows": rows,
        "again": again,
        "count": number(visit.query.get("count", ""), -1, 0, MOST),
        "first_line": first_line,
        "away": answers.away,
        "acts": visit.acts("host"),
    }
    if visit.part:
        return HTMLResponse(visit.rendered("mail_replayed.html", "outcomes", **values))
    return visit.render("mail_replayed.html", **values)


def _ids(visit: Visit) -> list[str]:
    ids = selected(visit.form)
    if not ids:
        raise OrderFailed("usage", NONE_SELECTED)
    return ids


async def _act(visit: Visit, verb: str, ids: Sequence[str]) -> Answers:
    answers = await call_all(visit, MAILBOX, verb, ids)
    visit.runtime.logger.info(
        "console.acted verb=mail.%s user=%s ids=%s", verb, visit.session.user, ",".join(ids)
    )
    if not answers.results:
        raise OrderFailed("failed", "; ".join(answers.away.values()))
    return answers


PAGES = (
    Page("/mail", show, "Mail"),
    Page("/mail/messages/{id}", show_one),
    Page("/mail/replayed", replayed),
    Page("/mail/replay", replay, method="POST", acts=True),
    Page("/mail/drop", drop, method="POST", acts=True),
)
