"""Events: what happened, of the host and of services, chosen by kind and time, and followed."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import TypeAlias

import msgspec
from starlette.responses import Response

from garrison.ipc import OrderFailed
from garrison.ipc.log_events import LogEvent
from garrison.ipc.log_span import unix_time
from garrison.ipc.record_pages import Answer, Question, after_page, before_page
from garrison.ipc.watching import logs_folder

from ..records.event_words import GROUPS, EventRow, row_of
from ..records.following import Follower
from ..records.live_events import LiveEvents
from ..records.query import Query, Wrong, place_of, query_of, question_of
from ..streams import Part
from ..visit import Visit
from .page import Page

EventFollower: TypeAlias = Follower[LogEvent, LiveEvents]

POLL_S = 0.5  # between reads of the file
TEAM_POLL_S = 2.0  # between two orders for an operator of a team
IN_MEMORY = 4096  # events that the supervisor has for an operator of a team
RECENT = 200  # of them, that may be new after `TEAM_POLL_S`


async def show(visit: Visit) -> Response:
    """Return the page."""
    query, now = query_of(visit.query), time.time()
    try:
        question = question_of(query, now, of_events=True)
    except Wrong as error:
        return _page(visit, query, Answer(), now, problem=str(error), status=400)
    follower = _begin(visit, query)
    try:
        await _take_what_is_allowed(visit, question)
        found = await visit.tools.records.reading.page(question)
    except OrderFailed as error:
        if follower is not None:
            visit.tools.records.events.end(follower)
        if error.code not in {"usage", "timed_out"}:
            raise
        status = 400 if error.code == "usage" else 504
        return _page(visit, query, Answer(), now, problem=str(error), status=status)
    if follower is not None and found.is_later:
        visit.tools.records.events.end(follower)
        follower = None
    if follower is not None:
        follower.page.go_on_after(found.events)
    return _page(visit, query, found, now, question, follower)


async def _take_what_is_allowed(visit: Visit, question: Question) -> None:
    """Have the files read, or of an operator of a team, what the supervisor answers."""
    if visit.session.trusted:
        question.folder = str(logs_folder(visit.runtime.client.session))
        return
    data = await visit.order("events", question.names, number=IN_MEMORY)
    question.events = msgspec.convert(data, list[LogEvent])


def _begin(visit: Visit, query: Query) -> EventFollower | None:
    if not query.is_live:
        return None
    page = LiveEvents(query.groups, query.grep)

    def items() -> AsyncIterator[LogEvent]:
        if visit.session.trusted:
            return visit.runtime.client.events(*query.names, poll=POLL_S)
        return _of_team(visit, query.names)

    return visit.tools.records.events.begin(visit.session.uid, page, items)


async def _of_team(visit: Visit, names: Sequence[str]) -> AsyncIterator[LogEvent]:
    """Yield the events that an operator of a team may see, the last ones too."""
    last = ("", 0)
    while True:
        data = await visit.order("events", names, number=RECENT)
        for event in msgspec.convert(data, list[LogEvent]):
            if (event.time, event.n) > last:
                last = (event.time, event.n)
                yield event
        await asyncio.sleep(TEAM_POLL_S)


def _page(
    visit: Visit,
    query: Query,
    found: Answer,
    now: float,
    question: Question | None = None,
    follower: EventFollower | None = None,
    problem: str = "",
    status: int = 200,
) -> Response:
    times = [unix_time(event.time) or 0.0 for event in found.events]
    forward = question is not None and question.forward
    cursor = question.cursor if question is not None else None
    earlier = later = ""
    if found.is_earlier:
        place = place_of(before_page(times, cursor, forward))
        earlier = query.address("/events", earlier=place, later="")
    elif question is not None and question.since is not None and cursor is None:
        earlier = query.address("/events", since="", earlier=f"{question.since!r},0")
    if found.is_later:
        place = place_of(after_page(times, cursor, forward))
        later = query.address("/events", earlier="", later=place)
    return visit.render(
        "events.html",
        status,
        query=query,
        rows=[row_of(event) for event in found.events],
        services=sorted({*found.services, *visit.picture.services}),
        groups=GROUPS,
        note="",
        now=now,
        earlier=earlier,
        later=later,
        live=query.address("/live/events", earlier="", later="", key=follower.key)
        if follower
        else "",
        problem=problem,
    )


async def live(visit: Visit) -> Response:
    """Return the stream of what happens after the page."""
    query = query_of(visit.query)
    following = visit.tools.records.events
    follower = await following.resume(visit.query.get("key", ""), visit.session.uid)
    note = ""
    if follower is None:  # the browser was away for long, or this is a copy of a tab
        begun = _begin(visit, query)
        if begun is None:
            return visit.message("too many tabs follow events: close one of them", 503)
        follower = await following.resume(begun.key, visit.session.uid) or begun
        clock = time.strftime("%H:%M:%S", time.gmtime())
        note = f"following again since {clock} UTC: load the page again for what was before"
    return visit.event_stream(_parts(visit, follower, note))


async def _parts(visit: Visit, follower: EventFollower, note: str) -> AsyncIterator[Part]:
    try:
        for part in follower.not_arrived(visit.last_part):
            yield part
        if note:
            yield follower.sent(_rendered(visit, [], note))
        async with aclosing(follower.batches()) as batches:
            async for items, missing in batches:
                rows = list(follower.page.rows(items))
                left = f"{missing:,} events were left out here" if missing else ""
                if rows or left:
                    yield follower.sent(_rendered(visit, rows, left))
    finally:
        visit.tools.records.events.pause(follower)


def _rendered(visit: Visit, rows: Sequence[EventRow], note: str) -> str:
    return visit.rendered("events.html", "rows", rows=rows, note=note, now=time.time())


PAGES = (
    Page("/events", show, "Events", needs="logs"),
    Page("/live/events", live, needs="logs"),
)
