"""Logs: the lines of services, merged by time, searched, by incarnation, and followed."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, TypeAlias

from starlette.responses import Response

from garrison.ipc import OrderFailed
from garrison.ipc.log_span import matches
from garrison.ipc.record_pages import Answer, Incarnation, Question, after_page, before_page
from garrison.ipc.watching import logs_folder

from ..records.following import Follower
from ..records.line_words import Row, Rows
from ..records.live_lines import LiveLines, left_out
from ..records.operator_logs import OperatorLogs
from ..records.query import Query, Wrong, place_of, query_of, question_of
from ..streams import Part
from ..visit import Visit
from .page import Page

LineFollower: TypeAlias = Follower[tuple[str, str], LiveLines]

POLL_S = 0.5  # between reads of the files


async def show(visit: Visit) -> Response:
    """Return the page."""
    query = query_of(visit.query)
    try:
        question = question_of(query, time.time())
    except Wrong as error:
        return _page(visit, query, Answer(), problem=str(error), status=400)
    follower = await _begin(visit, query, question)
    try:
        found = await visit.tools.records.reading.page(question)
        _check_names(visit, query, found)
    except OrderFailed as error:
        if follower is not None:
            visit.tools.records.lines.end(follower)
        if error.code not in {"usage", "timed_out", "no_such_service"}:
            raise
        status = {"usage": 400, "timed_out": 504, "no_such_service": 404}[error.code]
        return _page(visit, query, Answer(), problem=str(error), status=status)
    if follower is not None and found.is_later:
        visit.tools.records.lines.end(follower)
        follower = None
    if follower is not None:
        follower.page.go_on_after(found.lines, found.generation, found.pid)
    return _page(visit, query, found, question, follower)


async def _begin(visit: Visit, query: Query, question: Question) -> LineFollower | None:
    """Have the question read what this user may, and begin to follow it."""
    following, page = visit.tools.records.lines, LiveLines(_is_alone(query), query.grep)
    if visit.session.trusted:
        client = visit.runtime.client
        question.folder = str(logs_folder(client.session))
        names = tuple(question.names)
        if not query.is_live:
            return None
        return following.begin(visit.session.uid, page, lambda: client.logs(*names, poll=POLL_S))
    known = list(visit.picture.services)
    names = tuple(one for one in known if not question.names or matches(one, question.names))
    logs = OperatorLogs(visit.order, names)
    if names:
        question.texts = await logs.texts()
    return following.begin(visit.session.uid, page, logs.added) if query.is_live else None


def _check_names(visit: Visit, query: Query, found: Answer) -> None:
    """Raise OrderFailed if a NAME is neither that of a service nor of a log."""
    known = {*found.services, *visit.picture.services}
    for name in query.names:
        if not any(matches(one, (name,)) for one in known):
            raise OrderFailed("no_such_service", f"there is no service {name}, nor a log of it")


def _is_alone(query: Query) -> bool:
    return len(query.names) == 1 and not set(query.name) & set("*?[")


def _page(
    visit: Visit,
    query: Query,
    found: Answer,
    question: Question | None = None,
    follower: LineFollower | None = None,
    problem: str = "",
    status: int = 200,
) -> Response:
    times = [line.at for line in found.lines]
    forward = question is not None and question.forward
    cursor = question.cursor if question is not None else None
    begins = question is not None and question.since is not None and cursor is None
    earlier = later = ""
    if found.is_earlier:
        place = place_of(before_page(times, cursor, forward))
        earlier = query.address("/logs", earlier=place, later="")
    elif begins and question is not None and question.since is not None and not query.generation:
        earlier = query.address("/logs", since="", earlier=f"{question.since!r},0")
    if found.is_later:
        later = query.address(
            "/logs", earlier="", later=place_of(after_page(times, cursor, forward))
        )
    before, after = _neighbours(found)
    return visit.render(
        "logs.html",
        status,
        query=query,
        rows=list(Rows().of(found.lines)),
        count=len(found.lines),
        alone=_is_alone(query),
        services=sorted({*found.services, *visit.picture.services}),
        found=found,
        earlier=earlier,
        later=later,
        before=before,
        after=after,
        live=query.address("/live/logs", earlier="", later="", key=follower.key)
        if follower
        else "",
        problem=problem,
    )


def _neighbours(found: Answer) -> tuple[Incarnation | None, Incarnation | None]:
    """Return the incarnations before and after the one on the page."""
    keys = [(one.generation, one.pid) for one in found.incarnations]
    if (found.generation, found.pid) not in keys:
        return None, None
    at = keys.index((found.generation, found.pid))
    known = found.incarnations
    return known[at - 1] if at else None, known[at + 1] if at + 1 < len(known) else None


# --- live ---------------------------------------------------------------------------------


async def live(visit: Visit) -> Response:
    """Return the stream of what is written after the page."""
    query = query_of(visit.query)
    following = visit.tools.records.lines
    follower = await following.resume(visit.query.get("key", ""), visit.session.uid)
    notes: list[Row] = []
    if follower is None:  # the browser was away for long, or this is a copy of a tab
        try:
            question = question_of(query, time.time())
        except Wrong as error:
            return visit.message(str(error), 400)
        begun = await _begin(visit, query, question)
        if begun is None:
            return visit.message("too many tabs follow logs: close one of them", 503)
        follower = await following.resume(begun.key, visit.session.uid) or begun
        clock = time.strftime("%H:%M:%S", time.gmtime())
        text = f"following again since {clock} UTC: load the page again for what was before"
        notes = [Row("note", text)]
    return visit.event_stream(_parts(visit, follower, notes))


async def _parts(visit: Visit, follower: LineFollower, notes: Sequence[Row]) -> AsyncIterator[Part]:
    page = follower.page
    try:
        for part in follower.not_arrived(visit.last_part):
            yield part
        if notes:
            yield follower.sent(_rendered(visit, notes, page.is_alone))
        async with aclosing(follower.batches()) as batches:
            async for items, missing in batches:
                rows = [left_out(missing)] if missing else []
                rows += page.rows(items)
                if rows:
                    yield follower.sent(_rendered(visit, rows, page.is_alone))
    finally:
        visit.tools.records.lines.pause(follower)


def _rendered(visit: Visit, rows: Sequence[Row], alone: bool) -> str:
    values: dict[str, Any] = {"rows": rows, "alone": alone}
    return visit.rendered("logs.html", "rows", **values)


PAGES = (
    Page("/logs", show, "Logs", needs="logs"),
    Page("/live/logs", live, needs="logs"),
)
