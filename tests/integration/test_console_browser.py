"""The console of a real host, in a browser, most of it at the width of a phone."""

import os
import re
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.browser import Browser, overflow, violations
from tests.support.console import CONFIG, Visitor, log_in
from tests.support.host import Host, hosting
from tests.support.waiting import until

from garrison.supervisor.cli.console import link_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.external
PHONE = 360
MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script><b>bold</b>"
BOT = f"""
from garrison.workers import PermanentFailure, Plugin, Service

class Bot(Service):
    service_type = "bot"
    async def say(self, text: str) -> None:
        self.runtime.logger.info("%s", text)

class Broken(Service):
    service_type = "broken"
    @classmethod
    async def start(cls, runtime):
        raise PermanentFailure({MARKUP!r})

plugin = Plugin(name="bot", services=[Bot, Broken])
"""
SERVICES = """
[services.glass]
plugin = "console"
type = "console"
[services.glass.config]
port = 0
readonly = true
[plugins.bot]
[services.bot]
[services.broken]
"""
PAGES = ("/", "/services/bot", "/services/broken", "/host", "/logs", "/events", "/deaths")


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Run a console that acts, one that is read-only, a service, and one that has failed."""
    graced = "[host]\norphan_grace = 60.0\n"
    with hosting(graced + CONFIG + SERVICES, files={"bot.py": BOT}) as host:
        host.wait_for("broken", "failed")
        yield host


@pytest.fixture(scope="module")
def visitor(running: Host) -> Visitor:
    """Return the host's own user, logged in."""
    return log_in(running)


def row(host: Host, name: str) -> dict[str, Any]:
    """Return what `status` shows of a service."""
    found: dict[str, Any] = host.ask("status", name)["services"][0]
    return found


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_a_page_fits_a_phone_and_everyone(
    browser: Browser, visitor: Visitor, path: str, dark: bool
) -> None:
    """No error, no request to elsewhere, nothing sideways, and nothing serious for axe-core."""
    from playwright.sync_api import expect

    def look(page: "Page") -> tuple[int, list[str]]:
        page.goto(visitor.address + path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        if path.startswith("/services/"):
            expect(page.locator("#log")).to_be_visible()
        return overflow(page), violations(page)

    assert browser.visit(visitor.address, look, visitor.cookie, PHONE, dark=dark) == (0, [])


def test_a_link_opens_the_console_once(browser: Browser, running: Host) -> None:
    """In the browser too: the second time it says that it was used."""
    from playwright.sync_api import expect

    data = running.ask("console", service="console")
    link = link_of(data["address"], data["ticket"])

    def enter(page: "Page") -> None:
        page.goto(link)
        expect(page).to_have_url(f"{data['address']}/")
        expect(page.get_by_role("heading", name="Services")).to_be_visible()
        page.goto(link)
        expect(page.get_by_role("alert")).to_contain_text("used already")
        page.goto(data["address"])
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_text("You are logged out")).to_be_visible()
        page.goto(data["address"])
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()

    browser.visit(data["address"], enter, allowed=(401, 403))


def test_a_killed_service_shows_in_two_tabs(
    browser: Browser, running: Host, visitor: Visitor
) -> None:
    """Within two seconds, without a reload; both tabs have one `status` a second."""
    from playwright.sync_api import expect

    def look(page: "Page") -> None:
        other = page.context.new_page()
        for tab in (page, other):
            tab.goto(visitor.address)
            expect(tab.locator("#s-bot .state")).to_have_text("running")
        before = row(running, "bot")
        for tab in (page, other):
            expect(tab.locator("#s-bot [data-label=Restarts]")).to_have_text(
                str(before["restarts"])
            )
        os.kill(before["pid"], signal.SIGKILL)
        for tab in (page, other):
            expect(tab.locator("#s-bot [data-label=Restarts]")).to_have_text(
                str(before["restarts"] + 1)
            )

    browser.visit(visitor.address, look, visitor.cookie)


def test_a_button_restarts_a_service(browser: Browser, running: Host, visitor: Visitor) -> None:
    """By keyboard; the result is shown, and the page shows the next process."""
    from playwright.sync_api import expect

    def press(page: "Page") -> tuple[str, str]:
        page.goto(f"{visitor.address}/services/bot")
        before = page.locator("#pid").inner_text()
        button = page.get_by_role("button", name="Restart bot")
        button.focus()
        page.keyboard.press("Enter")
        expect(page.locator("#result")).to_contain_text("bot runs (pid")
        expect(page.locator("#pid")).not_to_have_text(before)
        return before, page.locator("#pid").inner_text()

    before, after = browser.visit(visitor.address, press, visitor.cookie, PHONE)

    assert before != after == str(row(running, "bot")["pid"])


def test_what_was_applied_is_pending_no_more(
    browser: Browser, running: Host, visitor: Visitor
) -> None:
    """The page says what was done, where it is seen, and reads again what is pending."""
    from playwright.sync_api import expect

    def press(page: "Page") -> None:
        page.goto(f"{visitor.address}/host")
        page.get_by_role("button", name="Apply bot").click()
        expect(page.locator("#result")).to_be_in_viewport()
        expect(page.locator("#result")).to_contain_text("bot")
        expect(page.locator("#pending")).to_contain_text("Nothing is pending")

    config = running.config.read_text()
    running.config.write_text(config.replace("[services.bot]", "[services.bot]\nwatchdog = 31.0"))
    try:
        browser.visit(visitor.address, press, visitor.cookie, PHONE)
    finally:
        running.config.write_text(config)


def test_a_read_only_console_has_no_buttons(browser: Browser, running: Host) -> None:
    """And says what it is."""
    from playwright.sync_api import expect

    glass = log_in(running, "glass")

    def look(page: "Page") -> int:
        page.goto(f"{glass.address}/services/bot")
        expect(page.locator("header")).to_contain_text("read-only")
        return page.locator("#actions button").count()

    assert browser.visit(glass.address, look, glass.cookie, PHONE) == 0


def test_markup_of_a_service_stays_text(browser: Browser, visitor: Visitor) -> None:
    """In a reason, a log line and a death: nothing of it becomes an element."""
    from playwright.sync_api import expect

    def look(page: "Page") -> int:
        found = 0
        for path in ("/", "/services/broken", "/logs?name=broken", "/deaths"):
            page.goto(visitor.address + path)
            expect(page.get_by_text("<img src=x onerror=alert(1)>").first).to_be_visible()
            found += page.locator("main img, main script, main b:text('bold')").count()
        return found

    assert browser.visit(visitor.address, look, visitor.cookie) == 0


def test_a_foreign_name_is_refused(browser: Browser, visitor: Visitor) -> None:
    """As by DNS rebinding: the name resolves to this machine, and the browser believes it."""
    port = visitor.address.rpartition(":")[2]
    address = f"http://rebound.localhost:{port}"  # browsers resolve *.localhost themselves

    def look(page: "Page") -> tuple[int, str]:
        answer = page.goto(address)
        assert answer is not None
        return answer.status, page.locator("body").inner_text()

    status, text = browser.visit(address, look, visitor.cookie, allowed=(421,))

    assert status == 421
    assert "not addressed so" in text


def test_a_supervisor_that_is_gone_is_said(browser: Browser, host: Any) -> None:
    """The last picture stays; with the next supervisor the page goes on by itself."""
    from playwright.sync_api import expect

    graced = "[host]\norphan_grace = 60.0\n"
    home: Host = host(graced + CONFIG + "[plugins.bot]\n[services.bot]\n", files={"bot.py": BOT})
    visitor = log_in(home)

    def look(page: "Page") -> None:
        page.goto(visitor.address)
        expect(page.locator("#s-bot .state")).to_have_text("running")
        home.end(signal.SIGKILL)
        expect(page.locator("#gone")).to_contain_text(re.compile("no supervisor at .*garrison up"))
        expect(page.locator("#s-bot .state")).to_have_text("running")
        home.up()
        expect(page.locator("#gone")).to_be_empty()

    browser.visit(visitor.address, look, visitor.cookie, PHONE)


def test_a_pending_change_is_applied(browser: Browser, host: Any) -> None:
    """Host shows what the config on disk has other, and does it by a button."""
    from playwright.sync_api import expect

    home: Host = host(CONFIG + "[plugins.bot]\n[services.bot]\n", files={"bot.py": BOT})
    visitor = log_in(home)
    text = home.config.read_text()
    home.write("config.toml", text + '[services.second]\nplugin = "bot"\ntype = "bot"\n')

    def apply(page: "Page") -> None:
        page.goto(f"{visitor.address}/host")
        expect(page.locator("main")).to_contain_text("second (new)")
        page.get_by_role("button", name="Apply all").click()
        expect(page.locator("#result")).to_contain_text("second")
        page.goto(visitor.address)
        expect(page.locator("#s-second .state")).to_have_text("running")

    browser.visit(visitor.address, apply, visitor.cookie, PHONE)
    assert until(lambda: row(home, "second")["state"] == "running")


def test_times_of_charts_are_in_utc(browser: Browser, running: Host, visitor: Visitor) -> None:
    """As all others of the page, and each chart is as long as its span."""
    from playwright.sync_api import expect

    def look(page: "Page") -> list[str]:
        page.add_init_script("""
            const drawn = CanvasRenderingContext2D.prototype.fillText;
            window.labels = [];
            CanvasRenderingContext2D.prototype.fillText = function (text, ...more) {
              window.labels.push(text); return drawn.call(this, text, ...more);
            };""")
        page.goto(f"{visitor.address}/services/bot?span=24h")
        expect(page.locator(".chart .u-wrap")).to_have_count(3)
        found: list[str] = page.evaluate("window.labels")
        return found

    # There is a chart once the host has run for a while: so this is the last test of the file
    until(lambda: "memory-text" in visitor.get("/services/bot").text)
    labels = browser.visit(visitor.address, look, visitor.cookie, PHONE)

    assert {"00:00", "12:00"} <= set(labels)
    assert not [one for one in labels if one.endswith(("am", "pm"))]
