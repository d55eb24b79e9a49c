"""Logs, events and deaths of a real host, by requests."""

import asyncio
import os
import re
import signal
from collections.abc import Iterator
from urllib.parse import parse_qs

import pytest
from tests.support.console import CONFIG, Visitor, log_in
from tests.support.host import Host, hosting
from tests.support.waiting import until

from garrison.ipc import ServiceLost

BOT = """
import os
from garrison.workers import Plugin, Service

class Bot(Service):
    service_type = "bot"
    async def say(self, text: str) -> None:
        self.runtime.logger.info("%s", text)
    async def fail(self) -> None:
        os._exit(3)

plugin = Plugin(name="bot", services=[Bot])
"""
SERVICES = "[plugins.bot]\n[services.bot]\n[services.dead]\nplugin='bot'\ntype='bot'\n"


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Run a console and two services."""
    with hosting(CONFIG + SERVICES, files={"bot.py": BOT}) as host:
        yield host


@pytest.fixture(scope="module")
def visitor(running: Host) -> Visitor:
    """Return the host's own user, logged in."""
    return log_in(running)


def say(host: Host, text: str) -> None:
    asyncio.run(host.call("bot", "say", text))


def stream_of(page: str) -> str:
    """Return the address of the stream that goes on with a page."""
    found = re.search(r'hx-sse:connect="([^"]+)"', page)
    assert found is not None
    return found[1].replace("&amp;", "&")


def test_each_line_is_once_on_the_page_or_in_its_stream(running: Host, visitor: Visitor) -> None:
    """Also those that are written between the two, and while the browser is away."""
    say(running, "word-1")
    page = visitor.get("/logs?name=bot").text
    assert page.count("word-1") == 1
    say(running, "word-2")
    path = stream_of(page)
    with visitor.stream(path) as parts:
        part = next(parts)
        assert "word-2" in part
        assert "word-1" not in part
        say(running, "word-3")
        assert "word-3" in next(parts)
    say(running, "word-4")
    key = parse_qs(path.partition("?")[2])["key"][0]
    with visitor.stream(path, last=f"{key}.2") as parts:
        part = next(parts)
        assert "word-4" in part
        assert "word-3" not in part
    with visitor.stream(path, last=f"{key}.1") as parts:  # what had not arrived comes again
        assert "word-3" in next(parts)
        assert "word-4" in next(parts)


def test_incarnations_are_apart(running: Host, visitor: Visitor) -> None:
    """The page of the last one has its lines alone, and leads to the one before."""
    say(running, "of the first")
    old = running.kill("bot", signal.SIGKILL)
    running.until_reborn("bot", old)
    say(running, "of the next")

    page = visitor.get("/logs?name=bot&generation=last").text
    assert "of the next" in page
    assert "of the first" not in page
    before = re.search(r'<a href="(/logs[^"]+)">← incarnation', page)
    assert before is not None
    page = visitor.get(before[1].replace("&amp;", "&")).text
    assert "of the first" in page
    assert "of the next" not in page


def test_a_search_finds_lines_in_rotated_files_by_pages(running: Host, visitor: Visitor) -> None:
    """Of a log that no service writes any more, too: 1,000 on a page, each once."""
    folder = running.home / "logs"
    lines = [f"2026-05-06T12:{n // 60:02}:{n % 60:02}.000Z old {n}\n" for n in range(1500)]
    (folder / "gone.log.1").write_text("".join(lines[:800]))
    (folder / "gone.log").write_text("".join(lines[800:]))

    page = visitor.get("/logs?name=gone&grep=old+%5Cd").text
    assert page.count(">2026-05-06T12") == 1000
    earlier = re.search(r'href="([^"]+)" rel="prev"', page)
    assert earlier is not None
    former = visitor.get(earlier[1].replace("&amp;", "&")).text
    found = re.findall(r"old (\d+)<", former) + re.findall(r"old (\d+)<", page)
    assert found == [str(n) for n in range(1500)]
    assert 'rel="prev"' not in former


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/logs?grep=(", 400, "is no regular expression: missing )"),
        ("/logs?since=soon", 400, "is no time; write one as in"),
        ("/logs?name=nobody", 404, "there is no service nobody"),
        ("/events?grep=(", 400, "is no regular expression"),
        ("/deaths?name=nobody", 404, "no service nobody"),
        ("/deaths/bot-999", 404, "no death bot-999"),
        ("/deaths/--help", 404, "no death --help"),
        ("/services/nobody/why", 404, "no service nobody"),
    ],
)
def test_a_mistake_is_said(visitor: Visitor, path: str, status: int, text: str) -> None:
    """With the status code that belongs to it."""
    page = visitor.get(path)
    assert (page.status, text in page.text) == (status, True), page.text


def test_a_death_has_its_cause_and_how_often_it_was_the_same(
    running: Host, visitor: Visitor
) -> None:
    """In the list, in its report, and in what `why` says now."""
    reports = running.home / "state" / "deaths"
    for _ in range(2):
        before = len(list(reports.glob("dead-*.json")))
        pid = running.status("dead")["pid"]
        with pytest.raises(ServiceLost):
            asyncio.run(running.call("dead", "fail"))
        running.until_reborn("dead", pid)
        until(lambda: len(list(reports.glob("dead-*.json"))) > before)  # noqa: B023
    listed = visitor.get("/deaths?name=dead").text
    assert "2 times" in listed
    ids = re.findall(r"/deaths/(dead-\d+)", listed)
    page = visitor.get(f"/deaths/{ids[0]}").text
    assert "its process exited with code 3" in page
    assert "fail" in page
    assert "1 more death of" in page
    assert ids[1] in page
    why = visitor.get("/services/dead/why", **{"HX-Request": "true"}).text
    assert "it was handling fail of a program" in why
    assert "<html" not in why


def test_events_are_in_words_and_followed(running: Host, visitor: Visitor) -> None:
    """Of the chosen kinds and services alone."""
    page = visitor.get("/events?name=bot&service=1").text
    assert "starting → running" in page
    assert "order.given" not in page
    with visitor.stream(stream_of(page)) as parts:
        os.kill(running.status("bot")["pid"], signal.SIGKILL)
        shown = ""
        while "killed by SIGKILL" not in shown:
            shown += next(parts)
        assert "/deaths/bot-" in shown
