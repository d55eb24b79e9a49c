"""One headless Chromium for all tests of a run, and pages in it that are watched.

Playwright runs in a thread of its own: its event loop would be in the way of tests that have one.
Each test hands in what to do with a page. Durations are seconds.
"""

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.util import find_spec
from queue import Queue
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser as Chromium
    from playwright.sync_api import Page

T = TypeVar("T")

START_S = 60.0
WORK_S = 120.0  # of one test
STEP_S = 30.0  # of one step on a page: a loaded machine is slow
SHOWN_CHARS = 4000  # of a page where a test fails
PHONE = {"width": 360, "height": 740}
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


@dataclass
class Seen:
    """What a page has done that it must not.

    Attributes:
        address: Where the console is: `http://127.0.0.1:PORT`.
        allowed: Statuses of answers that a test brings about, such as 403.
    """

    address: str
    allowed: set[int] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def watch(self, page: "Page") -> None:
        """Note errors in its console, exceptions, and requests to anywhere else."""
        page.on("console", lambda one: self._note(one.type == "error", f"console: {one.text}"))
        page.on("pageerror", lambda error: self._note(True, f"exception: {error}"))
        page.on("request", lambda one: self._request(one.url))

    def _request(self, url: str) -> None:
        is_own = url.startswith((f"{self.address}/", "data:", "blob:"))
        self._note(not is_own, f"request to {urlsplit(url).netloc}")

    def _note(self, is_problem: bool, text: str) -> None:
        is_wanted = any(f"status of {status}" in text for status in self.allowed)
        if is_problem and not is_wanted:
            self.problems.append(text)


class Browser:
    """A browser; `visit` opens a page in it."""

    def __init__(self) -> None:
        self._work: Queue[Callable[[Chromium], None] | None] = Queue()
        self._started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="browser", daemon=True)
        self._thread.start()
        self._started.result(START_S)

    def visit(
        self,
        address: str,
        work: "Callable[[Page], T]",
        cookie: str = "",
        width: int = 0,
        allowed: tuple[int, ...] = (),
        dark: bool = False,
    ) -> T:
        """Do something with a page of its own; return its result.

        Fails if the page had an error, or made a request to anywhere else.

        Args:
            address: Where the console is.
            work: What to do, in the browser's thread.
            cookie: `NAME=VALUE` of a login.
            width: Of the window, in pixels; 0: that of a desktop.
            allowed: Statuses of refusals that the test brings about.
            dark: Whether the user prefers dark pages.
        """
        seen = Seen(address, set(allowed))
        size = {**PHONE, "width": width} if width else {"width": 1280, "height": 900}

        def open_page(chromium: "Chromium") -> T:
            context = chromium.new_context(
                viewport={"width": size["width"], "height": size["height"]},
                color_scheme="dark" if dark else "light",
            )
            try:
                if cookie:
                    name, _, value = cookie.partition("=")
                    context.add_cookies([{"name": name, "value": value, "url": address}])
                context.set_default_timeout(STEP_S * 1000)
                page = context.new_page()
                seen.watch(page)
                try:
                    return work(page)
                except Exception as error:
                    error.add_note(f"the page then ({page.url}):\n{_text_of(page)}")
                    raise
            finally:
                context.close()

        found = self._in_thread(open_page)
        assert seen.problems == []
        return found

    def _in_thread(self, work: "Callable[[Chromium], T]") -> T:
        result: Future[T] = Future()

        def run(chromium: "Chromium") -> None:
            try:
                result.set_result(work(chromium))
            except BaseException as error:  # noqa: BLE001 (the test has it)
                result.set_exception(error)

        self._work.put(run)
        return result.result(WORK_S)

    def close(self) -> None:
        """End it."""
        self._work.put(None)
        self._thread.join(START_S)

    def _run(self) -> None:
        from playwright.sync_api import expect, sync_playwright

        expect.set_options(timeout=STEP_S * 1000)
        try:
            with sync_playwright() as playwright:
                chromium = playwright.chromium.launch(
                    executable_path=_program(),
                    args=["--no-sandbox"] if os.geteuid() == 0 else [],
                    timeout=START_S * 1000,
                )
                self._started.set_result(None)
                while (work := self._work.get()) is not None:
                    work(chromium)
                chromium.close()
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)


def _text_of(page: "Page") -> str:
    try:
        return page.locator("body").inner_text(timeout=1000)[-SHOWN_CHARS:]
    except Exception as error:  # noqa: BLE001 (it is shown beside the error of the test)
        return f"it cannot be read: {error}"


def _program() -> str:
    return next(path for name in PROGRAMS if (path := shutil.which(name)))


def _missing() -> str:
    """Return what is missing for a browser; empty: nothing."""
    if not any(map(shutil.which, PROGRAMS)):
        return "there is no chromium: apt install chromium"
    if find_spec("playwright") is None or find_spec("axe_playwright_python") is None:
        return "playwright or axe is not installed: pip install 'garrison[external]'"
    return ""


@contextlib.contextmanager
def browsing() -> Iterator[Browser]:
    """Run a browser; skip the test where there is none, which is an error under `CI=true`."""
    if missing := _missing():
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    browser = Browser()
    try:
        yield browser
    finally:
        browser.close()


def violations(page: "Page") -> list[str]:
    """Return what axe-core finds that is serious on a page, in words."""
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text())
    found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    return [
        f"{one['id']} ({one['impact']}): {one['help']}: {one['nodes'][0]['html'][:200]}"
        for one in found
        if one["impact"] in {"serious", "critical"}
    ]


def overflow(page: "Page") -> int:
    """Return by how many pixels a page is wider than its window."""
    wide: int = page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    return wide
