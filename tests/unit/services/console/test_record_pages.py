"""Pages of logs, events and deaths: everything from outside is text, whatever it is."""

import html
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, cast

import pytest

from garrison.ipc import OrderFailed
from garrison.ipc.log_events import LogEvent
from garrison.ipc.record_pages import Answer, Incarnation, Line, Question
from garrison.workers.services.console.pages import death, events, logs
from garrison.workers.services.console.picture import Picture
from garrison.workers.services.console.records.event_words import row_of
from garrison.workers.services.console.records.records import Records
from garrison.workers.services.console.rendering import Templates
from garrison.workers.services.console.sessions import Session
from garrison.workers.services.console.streams import Streams
from garrison.workers.services.console.visit import Tools, Visit

HOSTILE = (
    "</span><script src=//evil></script>\"'><img src=x onerror=alert(1)>{{ 7*7 }}\u202e\x1b[2J"
)
AT = "2026-05-06T12:00:00.000Z"


class FakeRuntime:
    """What pages use of a runtime: the client, which follows nothing."""

    class Folder:
        """A session that knows where the logs are."""

        logs = "/nowhere"

    @property
    def client(self) -> Any:
        """Return itself."""
        return self

    session = Folder()

    async def logs(self, *names: str, **options: object) -> AsyncIterator[tuple[str, str]]:
        """Yield nothing."""
        for one in list[tuple[str, str]]():
            yield one

    events = logs


class FakeReading:
    """Answers each question the same."""

    def __init__(self, answer: Answer, requests: list[Question]) -> None:
        self._answer, self._requests = answer, requests

    async def page(self, question: Question) -> Answer:
        """Return the answer."""
        self._requests.append(question)
        if question.pattern == "(":
            raise OrderFailed("usage", f"'(' is no regular expression: {HOSTILE}")
        return self._answer


class FakeVerbs:
    """Answers verbs."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self._answers = answers

    async def run(
        self, verb: Sequence[str], words: Sequence[str], deadline: float, **options: bool
    ) -> tuple[int, str, str]:
        """Return the answer of a verb."""
        data = self._answers[verb[0]]
        return 0, json.dumps({"v": 1, "ok": True, "data": data, "error": None}), ""


def visit_of(
    query: Mapping[str, str] | None = None,
    path: Mapping[str, str] | None = None,
    answer: Answer | None = None,
    verbs: Mapping[str, Any] | None = None,
    requests: list[Question] | None = None,
) -> Visit:
    """Return a visit of the host's own user."""
    records = Records(cast(Any, FakeRuntime()))
    records.reading = cast(
        Any, FakeReading(answer or Answer(), requests if requests is not None else [])
    )

    async def commands() -> Any:
        return FakeVerbs(verbs or {})

    values: dict[str, Any] = {field.name: None for field in fields(Tools)}
    values |= {
        "runtime": FakeRuntime(),
        "commands": commands,
        "templates": Templates(),
        "streams": Streams(),
        "navigation": (),
        "readonly": False,
        "records": records,
    }
    session = Session(1000, "ann", trusted=True)
    return Visit(
        Tools(**values),
        session,
        "/",
        path=path or {},
        query=query or {},
        picture=Picture({"bot": {"name": "bot"}}),
    )


def assert_text(page: str, least: int = 1) -> None:
    """Check that the hostile text is on the page, and is text everywhere."""
    assert page.count(html.escape("<script src=//evil>", quote=False)) >= least
    assert "<script src=//evil" not in page
    assert "<img" not in page
    assert not re.search(r"\son\w+=", re.sub(r"&\S+?;", "", page.replace("onerror=alert", "")))
    assert "49" not in re.sub(r"\d{3,}", "", page)
    assert "\u202e" not in page
    assert "\x1b" not in page


async def body_of(response: Any) -> str:
    """Return a page as text."""
    text: str = bytes(response.body).decode()
    return text


async def test_hostile_lines_are_text() -> None:
    """Lines, NAMEs, what was searched, and what is wrong with it."""
    lines = [
        Line(
            1.0,
            "bot",
            f"{AT} ERROR service=bot generation=1 pid=2 {HOSTILE}: {HOSTILE}",
            1,
            2,
            True,
        ),
        Line(1.0, HOSTILE, HOSTILE, cut=7),
    ]
    answer = Answer(
        lines=lines,
        services=["bot", HOSTILE],
        incarnations=[Incarnation(1, 2, 1.0, 5), Incarnation(2, 3, 2.0, 5)],
        generation=1,
        pid=2,
        is_earlier=True,
    )
    query = {"name": "bot", "grep": HOSTILE, "since": "1h", "generation": "1"}
    visit = visit_of(query, answer=answer)
    page = await body_of(await logs.show(visit))
    assert_text(page, 4)
    assert "7 more characters" in page
    assert "incarnation 2 →" in page

    wrong = await logs.show(visit_of({"grep": "("}))
    assert wrong.status_code == 400
    assert_text((await body_of(wrong)).replace("pattern", ""))
    for values in ({"since": HOSTILE}, {"name": HOSTILE}, {"earlier": HOSTILE}):
        refused = await logs.show(visit_of(values))
        assert refused.status_code in {400, 404}
        assert_text(await body_of(refused))
    await visit.tools.records.close()


async def test_hostile_events_are_text() -> None:
    """Names, reasons, ids of reports."""
    found = [
        LogEvent(1, AT, HOSTILE, HOSTILE, {HOSTILE: HOSTILE}),
        LogEvent(2, HOSTILE, "service.state", "bot", {"reason": HOSTILE, "death": HOSTILE}),
        LogEvent(3, AT, "answer.failed", "bot", {"message": HOSTILE, "reason": HOSTILE}),
    ]
    visit = visit_of({"grep": HOSTILE}, answer=Answer(events=found))
    assert_text(await body_of(await events.show(visit)), 4)
    await visit.tools.records.close()


REPORT = {
    "id": HOSTILE,
    "n": 1,
    "service": HOSTILE,
    "at": AT,
    "kind": "exception",
    "cause": HOSTILE,
    "uptime_s": 1.0,
    "generation": 1,
    "pid": 2,
    "service_type": HOSTILE,
    "plugin": HOSTILE,
    "state": "running",
    "exit": HOSTILE,
    "began": AT,
    "exception": {"phase": "run", "reason": HOSTILE, "traceback": HOSTILE},
    "in_flight": [
        {"direction": "in", "service": HOSTILE, "method": HOSTILE, "size": 1, "since": AT,
         "age_s": 1.0, "call": 1, "value": HOSTILE},
    ],
    "in_flight_count": 70,
    "messages": [
        {"time": AT, "direction": "in", "kind": "call", "service": HOSTILE, "method": HOSTILE,
         "size": 1, "outcome": HOSTILE, "call": 1},
    ],
    "calls": 1,
    "stacks": f'Thread 0x12 (most recent call first):\n  File "{HOSTILE}", line 1 in x\n',
    "log": [HOSTILE],
    "policy": {"next": HOSTILE, "restarts": 1, "crashes": 1, "intensity": 5, "period": 60.0},
    "before": [HOSTILE],
    "left": [],
    "unknown": [HOSTILE],
}  # fmt: skip
CAUSE = {
    "service": HOSTILE,
    "kind": "death",
    "text": HOSTILE,
    "age_s": 1.0,
    "details": [HOSTILE],
    "report": HOSTILE,
    "causes": [],
}
WHY = {
    "name": HOSTILE,
    "why": {**CAUSE, "kind": "state", "causes": [CAUSE]},
    "mend": [{"advice": HOSTILE, "command": HOSTILE}, {"advice": None, "command": "garrison x"}],
}
OTHER = {**REPORT, "id": "bot-1"}


@pytest.mark.parametrize(("trusted", "count"), [(True, 2), (False, 0)])
def test_an_event_links_to_what_its_reader_may_see(trusted: bool, count: int) -> None:
    """Crash reports and answers are for the host's own user; others read their names."""
    session = Session(1000, "ann", trusted, frozenset({"logs"}))
    rows = [
        row_of(LogEvent(1, AT, "service.state", "bot", {"death": "bot-1", "to": "failed"})),
        row_of(LogEvent(2, AT, "answer.failed", "bot", {"message": "m1", "reason": "none"})),
    ]
    visit = replace(visit_of(), session=session)
    html = visit.rendered("events.html", "rows", rows=rows, note="", now=0.0)

    links = ('href="/deaths/bot-1"', 'href="/answers?find=m1"')
    assert sum(link in html for link in links) == count
    assert "bot-1" in html


async def test_hostile_crash_reports_are_text() -> None:
    """All parts of a report, the list, and why it is so."""
    verbs = {"death": REPORT, "deaths": {"deaths": [REPORT, OTHER], "unreadable": [HOSTILE]}}
    page = await body_of(await death.death(visit_of(path={"id": "bot-1"}, verbs=verbs)))
    assert_text(page, 15)
    assert "The last 1 of them" in page
    assert "1 more death of" in page

    listed = await body_of(await death.deaths(visit_of({"name": HOSTILE}, verbs=verbs)))
    assert_text(listed, 4)
    assert listed.count("2 times") == 2

    assert_text(await body_of(await death.why(visit_of(path={"name": "b"}, verbs={"why": WHY}))), 6)


async def test_an_empty_page_says_why() -> None:
    """And what to do."""
    visit = visit_of()
    assert "No service has written anything yet" in await body_of(await logs.show(visit))
    assert "Nothing has happened yet" in await body_of(await events.show(visit))
    none = await body_of(await logs.show(visit_of({"name": "bot", "generation": "7"})))
    assert "This incarnation has no lines" in none
    empty = visit_of(verbs={"deaths": {"deaths": [], "unreadable": []}})
    assert "No service has died" in await body_of(await death.deaths(empty))
    await visit.tools.records.close()


@pytest.mark.parametrize(
    ("query", "is_live"),
    [
        ({}, True),
        ({"name": "bot"}, True),
        ({"grep": "plain"}, True),
        ({"grep": "a.b"}, False),
        ({"until": "1h"}, False),
        ({"earlier": "5.0,1"}, False),
        ({"later": "5.0,1"}, True),
    ],
)
async def test_a_page_follows_where_new_lines_belong_to_it(
    query: dict[str, str], is_live: bool
) -> None:
    """Not one that ends in the past, nor one of a regular expression."""
    visit = visit_of(query)
    assert ("hx-sse:connect" in await body_of(await logs.show(visit))) == is_live
    assert ("hx-sse:connect" in await body_of(await events.show(visit))) == is_live
    await visit.tools.records.close()


async def test_a_page_that_has_later_lines_does_not_follow() -> None:
    """What is followed would not come after them."""
    visit = visit_of({"since": "1h"}, answer=Answer(lines=[Line(1.0, "bot", "x")], is_later=True))
    page = await body_of(await logs.show(visit))
    assert "hx-sse:connect" not in page
    assert "Later lines" in page
    await visit.tools.records.close()
