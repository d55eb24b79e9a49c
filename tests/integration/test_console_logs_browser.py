"""Logs, events and deaths of a real host, in a browser, at the width of a phone."""

import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from tests.support.browser import Browser, overflow, violations
from tests.support.console import CONFIG, Visitor, log_in
from tests.support.host import Host, hosting
from tests.support.waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.external
PHONE = 360
MARKUP = "<img src=x onerror=alert(1)><b>bold</b> \x1b[31mred\x1b[0m"
BOT = """
import asyncio, os
from garrison.workers import Plugin, Service

class Bot(Service):
    service_type = "bot"
    async def say(self, text: str) -> None:
        self.runtime.logger.info("%s", text)
    async def many(self, count: int) -> None:
        for number in range(count):
            self.runtime.logger.info("line %d of many", number)
    async def fail(self, user: str) -> None:
        os._exit(3)

plugin = Plugin(name="bot", services=[Bot])
"""
SERVICES = "[plugins.bot]\n[services.bot]\n[services.night]\nplugin='bot'\ntype='bot'\n"


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Run a console and two services of which one has died."""
    with hosting(CONFIG + SERVICES, files={"bot.py": BOT}) as host:
        ran = host.run("call", "night", "fail", "ann")
        assert ran.code == 1
        host.wait_for("night", "running")
        until(lambda: host.run("deaths", "night", json=True).data["deaths"])
        yield host


@pytest.fixture(scope="module")
def visitor(running: Host) -> Visitor:
    """Return the host's own user, logged in."""
    return log_in(running)


PAGES = ("/logs", "/logs?name=bot&generation=last", "/events", "/deaths", "/deaths/night-1",
         "/services/night/why")  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("dark", [False, True])
def test_pages_fit_a_phone_and_a_screen_reader(
    visitor: Visitor, browser: Browser, path: str, dark: bool
) -> None:
    """Nothing is wider than 360 pixels, and axe-core finds nothing serious."""

    def look(page: "Page") -> tuple[int, list[str]]:
        page.goto(visitor.address + path)
        page.locator("h1").wait_for()
        for closed in page.locator("details:not([open]) > summary").all():
            closed.click()
        return overflow(page), violations(page)

    assert browser.visit(visitor.address, look, visitor.cookie, PHONE, dark=dark) == (0, [])


def test_why_a_bot_died_is_found_on_a_phone(
    running: Host, visitor: Visitor, browser: Browser
) -> None:
    """From the first page to its last words, by links alone."""

    def find(page: "Page") -> None:
        page.goto(visitor.address + "/")
        page.get_by_role("link", name="Deaths").click()
        page.get_by_role("link", name="night-1").click()
        page.get_by_text("its process exited with code 3").first.wait_for()
        page.get_by_text("it was handling fail of a program").wait_for()  # of why, below
        page.get_by_role("link", name="Logs around it").or_(
            page.get_by_role("link", name="logs around it")
        ).first.click()
        page.get_by_role("heading", name="Logs of night").wait_for()

    browser.visit(visitor.address, find, visitor.cookie, PHONE)


def test_lines_with_markup_stay_text(running: Host, visitor: Visitor, browser: Browser) -> None:
    """On the page, and where they are followed; without colours."""
    assert running.run("call", "bot", "say", f"before {MARKUP}").code == 0

    def look(page: "Page") -> None:
        page.goto(visitor.address + "/logs?name=bot")
        lines = page.locator("#lines li")
        lines.filter(has_text="before <img src=x onerror=alert(1)><b>bold</b> red").wait_for()
        assert running.run("call", "bot", "say", f"after {MARKUP}").code == 0
        lines.filter(has_text="after <img src=x onerror=alert(1)><b>bold</b> red").wait_for()
        assert page.locator("#lines img").count() == 0
        assert lines.filter(has_text="after <img").count() == 1

    browser.visit(visitor.address, look, visitor.cookie, PHONE)


def test_following_keeps_the_last_lines_and_can_be_paused(
    running: Host, visitor: Visitor, browser: Browser
) -> None:
    """1,000 lines in the browser; by a key the page stays as it is, and then goes on."""

    def look(page: "Page") -> None:
        from playwright.sync_api import expect

        page.goto(visitor.address + "/logs?name=bot")
        lines = page.locator("#lines li")
        assert running.run("call", "bot", "many", "1500").code == 0
        lines.filter(has_text="line 1499 of many").wait_for()
        expect(lines).to_have_count(1000)
        page.locator("#log").focus()
        page.keyboard.press("p")
        expect(page.locator("#pause")).to_have_text("Go on")
        assert running.run("call", "bot", "say", "while paused").code == 0
        expect(page.locator("#waiting")).to_have_text("1 new")
        expect(lines.filter(has_text="while paused")).to_have_count(0)
        page.locator("#pause").click()
        lines.filter(has_text="while paused").wait_for()
        expect(lines).to_have_count(1000)

    browser.visit(visitor.address, look, visitor.cookie, PHONE)


def test_a_death_is_on_the_open_page_of_events(
    running: Host, visitor: Visitor, browser: Browser
) -> None:
    """With its cause in words, and a link to its report."""

    def look(page: "Page") -> None:
        page.goto(visitor.address + "/events?name=bot&service=1")
        page.locator("#lines li").first.wait_for()
        os.kill(running.status("bot")["pid"], signal.SIGKILL)
        row = page.locator("#lines li").filter(has_text="its process was killed by SIGKILL")
        row.get_by_role("link", name="crash report bot-").click()
        page.get_by_role("heading", name="bot died").wait_for()

    browser.visit(visitor.address, look, visitor.cookie, PHONE)
