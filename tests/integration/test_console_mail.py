"""The console's pages of mail, tasks, answers, models and chat, with real workers."""

import asyncio
import os
import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.console import CONFIG, Page, Visitor, log_in
from tests.support.host import Host, hosting
from tests.support.waiting import until

EVIL = "<script>alert(1)</script>"

SERVICES = """
[plugins.mailbox]
[services.mailbox.config]
max_attempts = 1
[plugins.task]
[services.task.config]
retries = 1
steady = 0.0
[plugins.chat]
[plugins.agent]
[plugins.eliza]
[plugins.shop]
use = "shop:plugin"
[defaults]
intensity = 0
watchdog = 30
"""

SHOP = '''
import asyncio

from garrison.workers import Action, Plugin, Service, Task, TaskWorker


class ShopService(Service):
    """Refuses what it is sent, until it is mended."""

    service_type = "shop"

    @classmethod
    async def start(cls, runtime):
        service = cls(runtime)
        runtime.register_task_worker(TaskWorker("count", service.count))
        return service

    async def count(self):
        raise ValueError("cannot count <b>")

    async def order(self, number: int, text: str = "") -> int:
        if not (self.runtime.data_folder / "mended").exists():
            raise ValueError(f"no stock for {text}")
        return number

    async def mend(self) -> None:
        (self.runtime.data_folder / "mended").touch()

    async def breaks(self) -> None:
        (self.runtime.data_folder / "mended").unlink(missing_ok=True)

    async def release(self) -> None:
        (self.runtime.data_folder / "released").touch()

    async def fill(self, count: int, text: str) -> list[str]:
        return [await self.runtime.post("shop", "order", n, text=text) for n in range(count)]

    async def plan(self) -> str:
        task = Task(name="count", tags=["queue", "repeat"], cron="0 0 1 1 *")
        return await self.runtime.database_adapter.create_task(task)


def wants_count(runtime, memory):
    return "count" in memory.content.text


async def count_slowly(runtime, memory):
    yield "one"
    while not (runtime.data_folder / "released").exists():
        await asyncio.sleep(0.02)
    yield "two"


COUNT = Action("COUNT", "Counts", validate=wants_count, handler=count_slowly)
plugin = Plugin(name="shop", services=[ShopService], actions=[COUNT])
'''


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """Run the bundled services and a shop."""
    with hosting(CONFIG + SERVICES, files={"shop.py": SHOP}) as host:
        yield host


@pytest.fixture
def visitor(host: Host) -> Visitor:
    """Return the host's own user."""
    return log_in(host)


def call(host: Host, method: str, *args: object) -> Any:
    """Call the shop."""
    return asyncio.run(host.call("shop", method, *args))


def dead_letters(host: Host, visitor: Visitor, count: int, text: str = "x") -> list[str]:
    """Return the ids of so many new dead letters."""
    ids: list[str] = call(host, "fill", count, text)
    until(lambda: all(f'"id.{one}"' in visitor.get("/mail?name=shop&n=80").text for one in ids))
    until(lambda: "No message waits" in visitor.get("/mail").text)
    return ids


def outcome(visitor: Visitor, sent: Page) -> str:
    """Return what a replay leads to, once it is known."""
    assert sent.status == 303, sent.text
    there = sent.headers["location"]
    until(lambda: "looked again" not in visitor.get(there).text, what="the replay ended")
    return visitor.get(there).text


def test_a_dead_letter_is_replayed(host: Host, visitor: Visitor) -> None:
    """It is found with its reason; a replay that fails is dead again, with the new reason; one
    that works is handled. What it holds stays text."""
    one, two, three = dead_letters(host, visitor, 3, EVIL)
    listed = visitor.get("/mail").text
    assert EVIL not in listed
    assert "no stock for &lt;script&gt;" in listed
    shown = visitor.get(f"/mail/messages/{one}").text
    assert "shop.order" in shown
    assert "{&#34;text&#34;:&#34;&lt;script&gt;" in shown
    again = outcome(visitor, visitor.post("/mail/replay", {f"id.{one}": "1"}))
    assert "dead again" in again
    call(host, "mend")
    try:
        done = outcome(visitor, visitor.post("/mail/replay", {f"id.{one}": "1", f"id.{two}": "1"}))
    finally:
        call(host, "breaks")
    assert done.count("handled by its receiver") == 2
    assert visitor.get(f"/mail/messages/{one}").status == 404
    confirmation = visitor.post("/mail/drop", {f"id.{three}": "1"})
    assert "cannot be brought back" in confirmation.text
    assert visitor.get(f"/mail/messages/{three}").status == 200
    dropped = visitor.post("/mail/drop", {f"id.{three}": "1", "sure": "yes"})
    assert "1 message dropped" in visitor.get(dropped.headers["location"]).text
    assert visitor.get(f"/mail/messages/{three}").status == 404


def test_a_task_is_run_paused_and_dropped(host: Host, visitor: Visitor) -> None:
    """One that failed is listed with its error; each button says what it did."""
    task_id: str = call(host, "plan")
    page = f"/tasks/{task_id}"

    def press(verb: str, **more: str) -> str:
        sent = visitor.post("/tasks/act", {"do": verb, "id": task_id, "agent": "", **more})
        return visitor.get(sent.headers["location"]).text if sent.status == 303 else sent.text

    until(lambda: "will run now" in press("run"), what="it was scheduled")
    until(lambda: "cannot count &lt;b&gt;" in visitor.get("/tasks").text, what="it failed")
    assert "1 in a row" in visitor.get(page).text
    assert "is resumed" in press("resume")
    assert "is paused" in press("pause")
    assert "an operator paused it" in visitor.get(page).text
    assert "will run now" in press("run")
    until(lambda: "1 in a row" in visitor.get(page).text, what="it failed again")
    assert "cannot be brought back" in press("drop")
    assert "is dropped" in press("drop", sure="yes")
    assert visitor.get(page).status == 404
    assert "it runs already" not in visitor.post("/tasks/act", {"do": "run", "id": "x"}).text


def begin(visitor: Visitor, text: str) -> str:
    """Begin a chat; return its page."""
    sent = visitor.post("/chat/begin", {"text": text, "key": f"key {text}"})
    assert sent.status == 303, sent.text
    return sent.headers["location"].removesuffix("#end")


def answers_in(visitor: Visitor, page: str) -> list[str]:
    """Return the texts of the agent in a chat, without its greeting."""
    text = visitor.get(page).text
    found = re.findall(r'class="line agent">.*?<div class="text">(.*?)</div>', text, re.DOTALL)
    return found[1:]


def test_a_chat_is_answered_and_can_be_explained(visitor: Visitor) -> None:
    """By the same person in two chats; the record of the answer is found by its link, by the room
    and by the person. A form that is sent twice is one line."""
    page = begin(visitor, f"I am sad {EVIL}")
    until(lambda: len(answers_in(visitor, page)) == 1, what="it is answered")
    assert EVIL not in visitor.get(page).text
    for _ in range(2):
        visitor.post(f"{page}/say", {"text": "My mother", "key": "twice"})
    until(lambda: len(answers_in(visitor, page)) == 2, what="the second line is answered")
    assert visitor.get(page).text.count("My mother") == 1
    link = re.findall(r'href="(/answers[^"]*)">Why this answer', visitor.get(page).text)[-1]
    why = visitor.get(link.replace("&amp;", "&")).text
    assert "answered by <a" in why
    (room,) = set(re.findall(r'href="(/answers\?find=chat%2F[^"]*)"', why))
    assert visitor.get(room).text.count("My mother") >= 1
    user = re.findall(r"from</dt>\s*<dd>(\w+) ", why)[0]
    other = begin(visitor, "Hm.")
    until(lambda: len(answers_in(visitor, other)) == 1, what="the other chat is answered")
    people = visitor.get(f"/answers?who={user}").text
    assert "My mother" in people
    assert "Hm." in people
    assert "Eliza" in visitor.get("/chat").text
    assert EVIL not in visitor.get("/answers").text


@pytest.mark.parametrize("victim", ["agent", "console"])
def test_a_line_outlasts_a_kill(host: Host, victim: str) -> None:
    """It is on disk, and answered once; the page shows that the agent was restarted."""
    visitor = log_in(host)
    page = begin(visitor, f"hello {victim}")
    until(lambda: len(answers_in(visitor, page)) == 1, what="it is answered")
    eliza = host.kill("eliza", signal.SIGSTOP)
    try:
        # without JavaScript the form waits a little for its answer
        assert visitor.post(f"{page}/say", {"text": "I am sad", "key": victim}).status == 303
        until(lambda: host.status("agent")["in_flight"], what="the agent has the line")
        assert "is answering" in visitor.get(page).text
        host.until_reborn(victim, host.kill(victim))
        host.ask("reset", victim)
        if victim == "console":
            visitor = log_in(host)
        if victim == "agent":
            until(lambda: "was restarted while it answered" in visitor.get(page).text)
    finally:
        os.kill(eliza, signal.SIGCONT)
    until(lambda: len(answers_in(visitor, page)) == 2, what="it is answered")
    assert "is answering" not in visitor.get(page).text
    assert visitor.get(page).text.count("I am sad</div>") == 1
    visitor.post(f"{page}/say", {"text": "Hm.", "key": f"{victim} after"})
    until(lambda: len(answers_in(visitor, page)) == 3, what="the next line is answered")


def test_a_stream_shows_an_answer(visitor: Visitor) -> None:
    """First the whole chat, then each new line; a text of the agent arrives by itself."""
    page = begin(visitor, "hello")
    with visitor.stream(f"{page}/live") as events:
        assert "hello" in next(events)
        visitor.post(f"{page}/say", {"text": "I am sad", "key": "stream"})
        seen = ""
        while "sorry" not in seen:
            seen += next(events)
    assert 'hx-swap="beforeend"' in seen
    assert "I am sad" in seen


def test_parts_and_actions_are_shown_while_they_happen(host: Host, visitor: Visitor) -> None:
    """In the stream, before the answer is whole; then it has what it used."""
    page = begin(visitor, "hello")
    with visitor.stream(f"{page}/live") as events:
        next(events)
        visitor.post(f"{page}/say", {"text": "please count", "key": "count"})
        seen = ""
        while "used COUNT" not in seen or '<div class="text">one</div>' not in seen:
            seen = next(events)
        assert "is answering" in seen
        call(host, "release")
        while "two" not in seen:
            seen = next(events)
    until(lambda: "is answering" not in visitor.get(page).text, what="it is answered")
    assert answers_in(visitor, page)[-1] == "one\ntwo"
    assert "used COUNT: ended" in visitor.get(page).text


def test_models_are_listed(visitor: Visitor) -> None:
    """With the one that is called first."""
    text = visitor.get("/models").text
    assert "TEXT_LARGE" in text
    assert "is called first" in text
    assert "It counts no requests" in text
