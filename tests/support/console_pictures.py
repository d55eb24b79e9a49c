"""Takes the pictures of the manual's page: `python -m tests.support.console_pictures`.

Of a real host, with a history of a day that is made up.
"""

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.browser import Browser
from tests.support.console import CONFIG, log_in
from tests.support.host import ROOT, Host, hosting

from garrison.workers.services.console.history.files import HistoryFiles
from garrison.workers.services.console.history.recorder import FINE_S
from garrison.workers.services.console.history.ring import Ring, Sample

if TYPE_CHECKING:
    from playwright.sync_api import Page

FOLDER = ROOT / "docs" / "images" / "console"
DAY_S = 86_400
PHONE = 360  # wide; the heights are below
BOT = """
from garrison.workers import Plugin, Service

class Bot(Service):
    service_type = "bot"
    capability_description = "Answers in the channels of a community"

class Feed(Service):
    service_type = "feed"
    capability_description = "Reads a feed, and announces what is new"
    @classmethod
    async def start(cls, runtime):
        raise ConnectionError("feeds.example: connection refused")

plugin = Plugin(name="bots", services=[Bot, Feed])
"""
SERVICES = """
[plugins.bots]
[services.bot]
memory_max = 268435456
[services.feed]
[plugins.agent]
[plugins.eliza]
[plugins.mailbox]
"""
PICTURES = (
    ("services", "/", 740),
    ("service", "/services/bot", 1500),
    ("host", "/host", 740),
)  # heights


def _day(folder: Path) -> None:
    """Write a day of one service: memory that grows until a restart, calls by the hour."""
    files = HistoryFiles(folder, {"fine": Ring(FINE_S, DAY_S // FINE_S)})
    now = int(time.time())
    for at in range(now - DAY_S + FINE_S, now, FINE_S):
        age = at - (now - DAY_S)
        begun = age % (DAY_S * 2 // 3)
        memory = int((48 + 90 * begun / DAY_S + 3 * math.sin(at / 900)) * 2**20)
        busy = 1 + math.sin(age / DAY_S * 2 * math.pi)
        generation = 1 + age // (DAY_S * 2 // 3)
        sample = Sample(at, generation, memory, 4 * busy, 2 * busy, 0.02 * busy, 0.09 * busy)
        files.write("fine", {"bot": sample})


def _take(browser: Browser, host: Host) -> None:
    visitor = log_in(host)
    for name, path, height in PICTURES:

        def look(page: "Page", name: str = name, path: str = path, height: int = height) -> None:
            from playwright.sync_api import expect

            page.set_viewport_size({"width": PHONE, "height": height})
            page.goto(visitor.address + path)
            expect(page.get_by_role("heading", level=1)).to_be_visible()
            if path == "/services/bot":
                expect(page.locator(".chart canvas").first).to_be_visible()
            page.screenshot(path=str(FOLDER / f"{name}.png"))

        browser.visit(visitor.address, look, visitor.cookie, PHONE, dark=name == "service")


def main() -> None:
    """Take all pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    browser = Browser()
    try:
        with hosting(CONFIG + SERVICES, files={"bots.py": BOT}) as host:
            host.ask("stop", "console")
            _day(host.home / "state" / "services" / "console" / "history")
            host.ask("start", "console")
            _take(browser, host)
    finally:
        browser.close()


if __name__ == "__main__":
    main()
