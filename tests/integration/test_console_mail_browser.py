"""Mail, answers, tasks, models and chat of a real host, in a browser, at the width of a phone."""

import json
import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.browser import Browser, overflow, violations
from tests.support.console import CONFIG, Visitor, log_in
from tests.support.host import Host, hosting
from tests.support.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.external
PHONE = 360
MARKUP = "<img src=x onerror=alert(1)><b>bold</b>"
SERVICES = """
[plugins.mailbox]
[services.mailbox.config]
max_attempts = 1
[plugins.task]
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
from datetime import UTC, datetime, timedelta

from garrison.workers import Plugin, Service, Task


class ShopService(Service):
    """Refuses what it is sent, until it is mended."""

    service_type = "shop"
    mended = False

    async def order(self, number: int, text: str = "") -> int:
        if not self.mended:
            raise ValueError(f"no stock for {text}")
        return number

    async def mend(self, mended: bool) -> None:
        type(self).mended = mended

    async def fill(self, count: int, text: str) -> list[str]:
        return [await self.runtime.post("shop", "order", n, text=text) for n in range(count)]

    async def plan(self, name: str) -> str:
        at = datetime.now(UTC) + timedelta(days=1)
        task = Task(name=name, tags=["queue"], scheduled_for=at)
        return await self.runtime.database_adapter.create_task(task)


plugin = Plugin(name="shop", services=[ShopService])
'''


def call(host: Host, method: str, *args: object) -> Any:
    """Call the shop."""
    words = [one if isinstance(one, str) else json.dumps(one) for one in args]
    ran = host.run("call", "shop", method, *words, json=True)
    assert ran.code == 0, ran
    return ran.data


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Run a host with dead letters, a task and a chat."""
    with hosting(CONFIG + SERVICES, files={"shop.py": SHOP}) as host:
        call(host, "fill", 3, MARKUP)
        call(host, "plan", MARKUP)
        yield host


@pytest.fixture
def visitor(running: Host) -> Visitor:
    """Return the host's own user, logged in."""
    return log_in(running)


@pytest.fixture(scope="module")
def room(running: Host) -> str:
    """Return the page of a chat."""
    sent = log_in(running).post("/chat/begin", {"text": f"I am sad {MARKUP}", "key": "first"})
    return sent.headers["location"].removesuffix("#end")


@pytest.mark.parametrize("dark", [False, True])
def test_pages_fit_a_phone_and_a_screen_reader(
    running: Host, visitor: Visitor, room: str, browser: Browser, dark: bool
) -> None:
    """Nothing is wider than 360 pixels, axe-core finds nothing serious, and no text of others is
    markup."""
    until(lambda: "no stock" in visitor.get("/mail").text)
    until(lambda: "Why this answer" in visitor.get(room).text)
    mail = visitor.get("/mail").text
    letter = mail.partition('href="/mail/messages/')[2].partition('"')[0]
    tasks = visitor.get("/tasks").text
    task = tasks.partition('<th scope="row" data-label="Task"><a href="')[2].partition('"')[0]
    why = visitor.get(room).text.partition('href="/answers')[2].partition('"')[0]
    pages = ["/mail", f"/mail/messages/{letter}", f"/mail/replayed?ids={letter}", "/tasks", task]
    pages += ["/answers", f"/answers{why}", "/models", "/chat", room]
    pages = [one.replace("&amp;", "&") for one in pages]

    def look(page: "Page") -> dict[str, tuple[int, list[str], int]]:
        found = {}
        for path in pages:
            page.goto(visitor.address + path)
            page.locator("h1").wait_for()
            for closed in page.locator("details:not([open]) > summary").all():
                closed.click()
            images = page.locator("main img").count()
            found[path] = (overflow(page), violations(page), images)
        return found

    found = browser.visit(visitor.address, look, visitor.cookie, PHONE, dark=dark)
    assert {path: one for path, one in found.items() if one != (0, [], 0)} == {}


def test_a_dead_letter_is_replayed_on_a_phone(
    running: Host, visitor: Visitor, browser: Browser
) -> None:
    """From the first page, by links and buttons alone; the page follows what becomes of it. A drop
    needs a confirmation."""
    call(running, "fill", 2, "phone")
    until(lambda: visitor.get("/mail").text.count("no stock for phone") == 2)

    def replay(page: "Page") -> None:
        from playwright.sync_api import expect

        page.goto(visitor.address + "/")
        page.get_by_role("link", name="Mail", exact=True).click()
        row = page.locator("tr").filter(has_text="no stock for phone")
        row.nth(0).get_by_role("checkbox").check()
        page.get_by_role("button", name="Replay selected").click()
        expect(page.get_by_text("dead again")).to_be_visible()
        call(running, "mend", True)
        page.locator(".outcomes a").click()
        page.get_by_role("button", name="Replay").click()
        expect(page.get_by_text("handled by its receiver")).to_be_visible()
        page.get_by_role("link", name="All mail").click()
        expect(row).to_have_count(1)
        row.get_by_role("checkbox").check()
        page.get_by_role("button", name="Drop selected").click()
        expect(page.get_by_text("cannot be brought back")).to_be_visible()
        page.get_by_role("button", name="Drop 1").click()
        expect(page.get_by_text("1 message dropped")).to_be_visible()
        expect(row).to_have_count(0)

    try:
        browser.visit(visitor.address, replay, visitor.cookie, PHONE)
    finally:
        call(running, "mend", False)


def test_a_chat_in_two_tabs(running: Host, visitor: Visitor, room: str, browser: Browser) -> None:
    """A line that is written in one is answered in both, without a reload; markup stays text; what
    the user is typing stays, and Enter sends."""

    def chat(page: "Page") -> None:
        from playwright.sync_api import expect

        page.goto(visitor.address + room)
        other = page.context.new_page()
        other.goto(visitor.address + room)
        other.get_by_label("Message").fill("half a line")
        page.get_by_label("Message").fill(f"My mother {MARKUP}")
        page.get_by_label("Message").press("Enter")
        expect(page.get_by_label("Message")).to_have_value("")
        for tab in (page, other):
            line = tab.locator("#lines .you").filter(has_text="My mother <img")
            expect(line).to_have_count(1)
            expect(line.locator("+ .agent")).to_be_visible()
            expect(tab.locator("#progress")).to_have_text("")
            assert tab.locator("#lines img").count() == 0
        expect(other.get_by_label("Message")).to_have_value("half a line")

    browser.visit(visitor.address, chat, visitor.cookie)


def test_an_agent_that_crashes_while_it_answers(
    running: Host, visitor: Visitor, room: str, browser: Browser
) -> None:
    """The chat says so at once, and shows the answer once when it comes; a reload loses nothing."""

    def chat(page: "Page") -> None:
        from playwright.sync_api import expect

        page.goto(visitor.address + room)
        before = page.locator("#lines .agent").count()
        eliza = running.kill("eliza", signal.SIGSTOP)
        try:
            page.get_by_label("Message").fill("Hm, a crash")
            page.get_by_role("button", name="Send").click()
            expect(page.get_by_text("is answering")).to_be_visible()
            until(lambda: running.status("agent")["in_flight"], what="the agent has the line")
            running.until_reborn("agent", running.kill("agent"))
            expect(page.get_by_text("was restarted while it answered")).to_be_visible()
            page.reload()
            expect(page.locator("#lines .you").filter(has_text="a crash")).to_have_count(1)
        finally:
            os.kill(eliza, signal.SIGCONT)
        expect(page.locator("#lines .agent")).to_have_count(before + 1)
        expect(page.locator("#progress")).to_have_text("")

    browser.visit(visitor.address, chat, visitor.cookie, PHONE)
