"""What pages show of lines, events and crash reports: harmless, bounded, and in words."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from garrison.ipc.log_events import LogEvent
from garrison.ipc.record_pages import LATEST, Cursor, Line
from garrison.workers.services.console.records import following as module
from garrison.workers.services.console.records.death_words import (
    facts,
    listed,
    logs_around,
    threads_of,
)
from garrison.workers.services.console.records.event_words import TEXT_MOST, row_of
from garrison.workers.services.console.records.following import (
    FOLLOWERS_MOST,
    KEPT_CHARS,
    KEPT_MOST,
    SENT_CHARS,
    SENT_MOST,
    Following,
)
from garrison.workers.services.console.records.line_words import Row, Rows, clean, overlap
from garrison.workers.services.console.records.live_events import LiveEvents
from garrison.workers.services.console.records.live_lines import LiveLines
from garrison.workers.services.console.records.query import (
    Wrong,
    cursor_of,
    place_of,
    query_of,
    question_of,
)

NOW = 1_778_072_400.0  # 2026-05-06T13:00:00Z


def own(second: int, generation: int, text: str, level: str = "INFO", logger: str = "bot") -> str:
    at = f"2026-05-06T12:00:{second:02}.000Z"
    return (
        f"{at} {level} service=bot generation={generation} pid={100 + generation} {logger}: {text}"
    )


def line(second: int, generation: int, text: str, **more: str) -> Line:
    at = NOW - 3600 + second
    return Line(
        at, "bot", own(second, generation, text, **more), generation, 100 + generation, True
    )


# --- lines --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\r\n", "plain"),
        ("a\tb", "a\tb"),
        ("bell\x07 null\x00", "bell\ufffd null\ufffd"),
        ("\u202egnp.exe", "\ufffdgnp.exe"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),  # text, which templates escape
        ("next\u2028line", "next\ufffdline"),
        ("c1 \x9b31m", "c1 \ufffd31m"),
    ],
)
def test_a_line_has_no_controls(text: str, shown: str) -> None:
    """Nothing in it moves, hides or reorders what is shown."""
    assert clean(text) == shown


def test_lines_get_their_time_level_and_incarnation_apart() -> None:
    """A new day and a new incarnation have a row of their own; an unknown form stays whole."""
    lines = [
        line(1, 1, "hello"),
        Line(NOW - 3599, "bot", "printed", 1, 101),
        line(2, 2, "odd", level="WARNING", logger="library"),
        Line(NOW + 86_400, "bot", "2026-05-07 13:00:00 another form", 2, 102, True),
    ]
    rows = list(Rows().of(lines))

    assert [(row.kind, row.clock, row.tone, row.text) for row in rows] == [
        ("day", "", "", "2026-05-06 UTC"),
        ("incarnation", "", "", "incarnation 1, pid 101"),
        ("line", "12:00:01", "", "hello"),
        ("line", "", "", "printed"),
        ("incarnation", "", "", "incarnation 2, pid 102"),
        ("line", "12:00:02", "odd", "library: odd"),
        ("day", "", "", "2026-05-07 UTC"),
        ("line", "13:00:00", "", "2026-05-07 13:00:00 another form"),
    ]


@pytest.mark.parametrize(
    ("shown", "added", "count"),
    [
        ([], ["a"], 0),
        (["a", "b"], ["c"], 0),
        (["a", "b"], ["b", "c"], 1),
        (["a", "b"], ["a", "b"], 2),
        (["a", "a"], ["a", "a", "a"], 2),
        (["b", "a"], ["b"], 0),
    ],
)
def test_what_is_on_the_page_does_not_come_again(
    shown: list[str], added: list[str], count: int
) -> None:
    """Following begins before the page is read."""
    assert overlap(shown, added) == count


def texts(rows: list[Row]) -> list[str]:
    return [row.text for row in rows if row.kind in {"line", "note"}]


def test_live_lines_go_on_after_the_page() -> None:
    """Without those that the page has, and with the search of the page."""
    live = LiveLines(True, "e")
    live.go_on_after([line(1, 1, "one"), line(3, 1, "three")])
    added = [("bot", own(3, 1, "three")), ("bot", own(4, 1, "four")), ("bot", own(5, 1, "five"))]

    assert texts(list(live.rows(added))) == ["four", "five"]  # "service=" has the letter
    assert texts(list(live.rows([("bot", own(3, 1, "three"))]))) == ["three"]


def test_live_lines_of_one_incarnation_end_with_it() -> None:
    """Which is noted once."""
    live = LiveLines(True)
    live.go_on_after([line(1, 1, "one")], 1, 101)

    assert texts(list(live.rows([("bot", "print"), ("bot", own(2, 2, "two"))]))) == [
        "print",
        "the next incarnation has begun: load the page again for its lines",
    ]
    assert texts(list(live.rows([("bot", own(3, 2, "three")), ("bot", own(4, 3, "x"))]))) == []


# --- following ----------------------------------------------------------------------------


async def endless(text: str) -> AsyncIterator[str]:
    """Yield more than a follower keeps, then nothing more."""
    for number in range(3 * KEPT_MOST):
        yield f"{number} {text}"
        if number % 100 == 0:
            await asyncio.sleep(0)
    await asyncio.Event().wait()


@pytest.mark.parametrize("text", ["", "x" * 10_000])
async def test_a_slow_page_gets_the_last_lines_and_how_many_are_missing(text: str) -> None:
    """Its buffer is bounded by lines and by characters."""
    following: Following[str, None] = Following(len)
    begun = following.begin(1, None, lambda: endless(text))
    assert begun is not None
    taken: list[str] = []
    missing = 0
    while not taken or not taken[-1].startswith(f"{3 * KEPT_MOST - 1} "):
        found, left = await begun.take()
        assert len(found) <= KEPT_MOST
        assert sum(map(len, found)) <= KEPT_CHARS
        taken += found
        missing += left
        for _ in range(50):
            await asyncio.sleep(0)
    await following.close()

    assert len(taken) + missing == 3 * KEPT_MOST
    assert missing > 0


async def test_followers_are_bounded_and_belong_to_their_user() -> None:
    """One stream at a time has one; the oldest that no stream has makes room."""
    following: Following[str, int] = Following(len)
    begun = [following.begin(1, number, lambda: endless("")) for number in range(FOLLOWERS_MOST)]
    keys = [one.key for one in begun if one is not None]
    assert len(set(keys)) == FOLLOWERS_MOST
    assert await following.resume(keys[1], 2) is None
    first = await following.resume(keys[0], 1)
    assert first is not None
    for key in keys[2:]:
        assert await following.resume(key, 1) is not None
    more = following.begin(1, 99, lambda: endless(""))
    assert more is not None
    assert await following.resume(keys[1], 1) is None  # it has made room
    assert await following.resume(more.key, 1) is more
    assert following.begin(1, 0, lambda: endless("")) is None
    again = asyncio.create_task(following.resume(keys[0], 1))
    await asyncio.sleep(0)
    following.pause(first)
    assert await again is first
    await following.close()


async def test_a_follower_that_a_stream_has_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of a tab gets one of its own, after the time that a former stream may take to end."""
    monkeypatch.setattr(module, "FREE_S", 0.01)
    following: Following[str, int] = Following(len)
    begun = following.begin(1, 0, lambda: endless(""))
    assert begun is not None
    assert await following.resume(begun.key, 1) is begun
    assert await following.resume(begun.key, 1) is None
    await following.close()


async def test_parts_that_did_not_arrive_are_sent_again() -> None:
    """Those after the last one that the browser has got; the number that is kept is bounded."""
    following: Following[str, int] = Following(len)
    begun = following.begin(1, 0, lambda: endless(""))
    assert begun is not None
    ids = [begun.sent(f"part {number}")[2] for number in range(SENT_MOST + 5)]
    assert [text for _, text, _ in begun.not_arrived(ids[-3])] == ["part 23", "part 24"]
    assert begun.not_arrived(ids[-1]) == []
    for other in ("", "x.3", "nonsense"):
        assert len(begun.not_arrived(other)) == SENT_MOST
    begun.sent("x" * SENT_CHARS)
    assert len(begun.not_arrived("")) == 1
    await following.close()


async def test_the_end_of_what_is_followed_ends_the_batches() -> None:
    """And its failure is raised, behind what came before it."""

    async def short() -> AsyncIterator[str]:
        yield "last"

    async def failing() -> AsyncIterator[str]:
        yield "last"
        raise RuntimeError("gone")

    following: Following[str, None] = Following(len)
    ended, failed = (following.begin(1, None, one) for one in (short, failing))
    assert ended is not None
    assert failed is not None
    assert [one async for one in ended.batches()] == [(["last"], 0)]
    assert await failed.take() == (["last"], 0)
    with pytest.raises(RuntimeError, match="gone"):
        await failed.take()
    await following.close()


# --- addresses ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"since": "soon"}, "since: 'soon' is no time; write one as in 10m"),
        ({"until": "9" * 400}, "until:"),
        ({"generation": "2"}, "an incarnation is of one service"),
        ({"generation": "2", "name": "b*"}, "an incarnation is of one service"),
        ({"generation": "x", "name": "bot"}, "generation: 'x' is no number"),
        ({"generation": "\u0663", "name": "bot"}, "is no number"),
        ({"pid": "-1"}, "pid: '-1' is no number"),
        ({"earlier": "nan,0"}, "is no place"),
        ({"later": "1,-1"}, "is no place"),
        ({"later": "<b>"}, "is no place"),
        ({"grep": "x" * 501}, "at most 500 characters"),
    ],
)
def test_an_address_says_what_is_wrong_with_it(values: dict[str, str], problem: str) -> None:
    """With what to write instead."""
    with pytest.raises(Wrong, match=problem.replace("'", ".")):
        question_of(query_of(values), NOW)


def test_an_address_is_a_question() -> None:
    """Times are in UTC; with a beginning the page begins there, else it ends now."""
    query = query_of({"name": "bot, o*", "since": "12:30", "grep": "a+b", "service": "1"})
    question = question_of(query, NOW)
    assert question.names == ["bot", "o*"]
    assert question.since == NOW - 1800
    assert question.forward
    assert not question.cursor
    assert question.groups == ["service"]
    assert not query.is_live  # a regular expression could hold up the console
    assert query_of({"grep": "a b"}).is_live
    assert not query_of({"until": "1h"}).is_live
    last = question_of(query_of({"name": "bot", "generation": "last"}), NOW)
    assert (last.generation, last.forward) == (LATEST, True)
    assert not question_of(query_of({"name": "bot"}), NOW).forward


def test_an_address_of_another_page_keeps_the_rest() -> None:
    """Values are encoded, and a place is exact."""
    query = query_of({"name": "a b", "grep": "&<", "order": "1"})
    place = place_of(Cursor(1778072400.123456, 7))
    address = query.address("/events", earlier=place)
    assert address == "/events?name=a+b&grep=%26%3C&earlier=1778072400.123456%2C7&order=1"
    assert cursor_of(place) == Cursor(1778072400.123456, 7)


# --- events -------------------------------------------------------------------------------


def event(name: str, service: str = "bot", n: int = 1, **data: object) -> LogEvent:
    """Return one; `from_` is its field `from`."""
    data = {key.rstrip("_"): value for key, value in data.items()}
    return LogEvent(n, "2026-05-06T12:00:00.000Z", name, service, data)


@pytest.mark.parametrize(
    ("found", "text", "tone"),
    [
        (
            event(
                "service.state",
                from_="running",
                to="backoff",
                exit="exited with code 3",
                death="bot-1",
                wait_s=0.25,
            ),
            "running → backoff; its process exited with code 3; tried again after 0.2 s",
            "bad",
        ),
        (
            event(
                "service.state",
                from_="starting",
                to="running",
                pid=7,
                generation=2,
                took_s=0.05,
            ),
            "starting → running; pid 7, incarnation 2; after 0.1 s",
            "good",
        ),
        (event("service.state", from_="backoff", to="failed"), "backoff → failed", "bad"),
        (
            event(
                "order.given", "", verb="restart", names="bot", user="ann", team="ops", why="slow"
            ),
            "ann of ops restarted bot: slow",
            "off",
        ),
        (event("order.given", "", verb="apply", names="", user="ann"), "ann ordered apply", "off"),
        (event("mail.dead", reason="too old", id="m1"), "too old; id=m1", "bad"),
        (event("service.unwell", problem="<b>no\x1b[1m\u202e"), "<b>no\ufffd[1m\ufffd", "odd"),
        (event("new.event"), "new.event", "off"),
        (event("x.y", reason="z" * 2000), "z" * (TEXT_MOST - 1) + "…", "off"),
    ],
)
def test_events_are_in_words(found: LogEvent, text: str, tone: str) -> None:
    """With how serious they are, and nothing that is not text."""
    assert (row_of(found).text, row_of(found).tone) == (text, tone)


def test_live_events_are_those_of_the_page() -> None:
    """After its last one, of its kinds, with its search."""
    live = LiveEvents(["order", "other"], "x")
    live.go_on_after([event("order.given", n=5)])
    added = [
        event("order.given", n=5, why="x"),
        event("order.given", n=6, why="x"),
        event("service.state", n=7, why="x"),
        event("new.event", n=8, why="x"),
        event("new.event", n=9),
    ]
    assert [one.n for one in live.rows(added)] == [6, 8]


# --- deaths -------------------------------------------------------------------------------


def test_deaths_are_listed_with_how_often_they_are_the_same() -> None:
    """The latest first."""
    one = {"id": "bot-1", "service": "bot", "at": "t", "cause": "it\x1b fell", "kind": "exit"}
    rows = listed([one, {**one, "id": "bot-2"}, {**one, "id": "bot-3", "cause": "else"}])
    assert [(row.id, row.alike, row.cause) for row in rows] == [
        ("bot-3", 1, "else"),
        ("bot-2", 2, "it\ufffd fell"),
        ("bot-1", 2, "it\ufffd fell"),
    ]


STACKS = """Thread 0x00007f91764a56c0 (most recent call first):
  File "/x/lib/garrison/workers/process/loop_watch.py", line 69 in _wait_for_turn

Current thread 0x00007f9179dc3b80 (most recent call first):
  File "/tmp/my_bot.py", line 15 in block
  File "/x/garrison/workers/services/task/runner.py", line 1 in run
  File "/x/site-packages/multiprocess/process.py", line 108 in run
  File "<frozen runpy>", line 88 in _run_code
"""


def test_stacks_are_by_thread_without_garrisons_own_frames() -> None:
    """The one that was running is first, and what is left out is counted."""
    first, second = threads_of(STACKS)
    assert first.is_main
    assert [one.strip() for one in first.lines] == [
        'File "/tmp/my_bot.py", line 15 in block',
        'File "/x/garrison/workers/services/task/runner.py", line 1 in run',
    ]
    assert (first.own, second.own, second.lines) == (2, 1, [])
    assert threads_of("") == []


def test_facts_of_a_report_with_little_in_it() -> None:
    """A start that failed has no process, and an older report fewer fields."""
    report = {
        "pid": 0,
        "generation": 3,
        "exit": "did not start",
        "plugin": "p",
        "service_type": "t",
    }
    assert facts(report) == [
        ("Process", "pid none, incarnation 3: did not start"),
        ("Plugin", "p, type t"),
    ]


def test_logs_around_a_death() -> None:
    """A few minutes before it, and what came next."""
    assert logs_around("bot", "2026-05-06T12:00:00.500Z") == {
        "name": "bot",
        "since": "2026-05-06T11:55:00Z",
        "until": "2026-05-06T12:00:30Z",
    }
    assert logs_around("bot", "never") == {"name": "bot"}
