"""Pages of the web, fetched from a server whose faults are on the wire."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.support.waiting import eventually
from tests.support.web_server import HTML, Reply, WebServer, packed

from garrison.ipc import Busy, RetryLater
from garrison.workers.services.http_support.addresses import Rule
from garrison.workers.services.http_support.fetching import Fetcher, FetchError, Limits
from garrison.workers.services.web_search import WebSearchService
from garrison.workers.testing import run

pytest.importorskip("aiohttp")
NEEDS_READER = pytest.mark.external  # the program that reads HTML takes a second to start
PAGE = b"""<html><head><title>Towers</title></head><body><nav>Menu</nav><article><h1>Towers</h1>
<p>The tallest tower of the town has forty floors, and a clock that is always late.</p>
<script>steal()</script></article></body></html>"""
ANYWHERE = Rule(frozenset(), allow_private=True)


@pytest.fixture
async def server() -> AsyncIterator[WebServer]:
    """Return the server."""
    async with WebServer() as there:
        yield there


@pytest.fixture
async def fetcher() -> AsyncIterator[Fetcher]:
    """Return a fetcher that may go anywhere."""
    made = Fetcher(ANYWHERE, "test")
    yield made
    await made.close()


LIMITS = Limits(10_000, 5.0)


async def problem(fetcher: Fetcher, url: str, limits: Limits = LIMITS) -> FetchError:
    """Return why something is not fetched."""
    with pytest.raises(FetchError) as caught:
        await fetcher.get(url, limits, lambda kind: kind.startswith("text/"))
    return caught.value


async def test_what_is_fetched(server: WebServer, fetcher: Fetcher) -> None:
    """Packed or not, after redirects; without cookies, also where the server sets some."""
    server.pages["/packed"] = packed(PAGE, HTML)
    moved = {"Location": "packed", "Set-Cookie": "a=b"}
    server.pages["/moved"] = Reply(status=302, headers=moved)
    found = await fetcher.get(f"{server.url}/moved", LIMITS)
    assert (found.data, found.url) == (PAGE, f"{server.url}/packed")
    assert (found.content_type, found.charset, found.is_cut) == ("text/html", "utf-8", False)
    assert all("cookie" not in one.headers for one in server.asked)


@pytest.mark.parametrize(
    ("reply", "kind", "part"),
    [
        (Reply(b"x", 404), "status", "HTTP 404"),
        (Reply(b"%PDF", content_type="application/pdf"), "type", "application/pdf"),
        (Reply(b"x" * 10_001), "size", "10000"),
        (Reply(fault="endless"), "size", "10000"),
        (packed(b"x" * 5_000_000), "size", "10000"),
        (Reply(b"x", fault="half"), "damaged", ""),
        (Reply(b"x", fault="garbage"), "damaged", ""),
        (Reply(b"x", fault="reset"), "damaged", ""),
        (Reply(b"not packed at all", headers={"Content-Encoding": "gzip"}), "damaged", "damaged"),
        (Reply(b"x", headers={"Content-Encoding": "br"}), "damaged", "br"),
        (Reply(b"x", headers={f"X-{n}": "y" * 8000 for n in range(3000)}), "damaged", ""),
        (Reply(status=302, headers={"Location": "/page"}), "redirects", "more than 5"),
        (Reply(status=302, headers={"Location": "file:///etc/passwd"}), "url", "file:"),
        (Reply(status=302, headers={"Location": "http://[::1"}), "url", ""),
        (Reply(status=302), "status", "HTTP 302"),
    ],
)
async def test_what_is_not_fetched(
    server: WebServer, fetcher: Fetcher, reply: Reply, kind: str, part: str
) -> None:
    """The error says which limit or fault it was."""
    server.pages["/page"] = reply
    error = await problem(fetcher, f"{server.url}/page")
    assert (error.kind, part in error.reason) == (kind, True), error.reason
    assert "\n" not in error.reason


@pytest.mark.parametrize("fault", ["hang", "trickle"])
async def test_a_slow_server(server: WebServer, fetcher: Fetcher, fault: str) -> None:
    """The time is for all of it, not for each piece."""
    server.pages["/page"] = Reply(b"x" * 1000, fault=fault)
    error = await problem(fetcher, f"{server.url}/page", Limits(10_000, 0.3))
    assert error.kind == "time"


async def test_a_server_that_says_when(server: WebServer, fetcher: Fetcher) -> None:
    """It is tried again then."""
    server.pages["/page"] = Reply(status=429, headers={"Retry-After": "7"})
    with pytest.raises(RetryLater) as caught:
        await fetcher.get(f"{server.url}/page", LIMITS)
    assert caught.value.seconds == 7.0


# --- addresses ----------------------------------------------------------------------------


@pytest.fixture
async def guarded(server: WebServer) -> AsyncIterator[Fetcher]:
    """Return a fetcher for public addresses, at the server's port."""
    made = Fetcher(Rule(frozenset({80, 443, server.port}), allow_private=False), "test")
    yield made
    await made.close()


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "0x7f.1", "[::ffff:127.0.0.1]", "[::1]", "u:p@127.0.0.1"],
)
async def test_this_machine_in_many_spellings(
    server: WebServer, guarded: Fetcher, host: str
) -> None:
    """No connection is made."""
    error = await problem(guarded, f"http://{host}:{server.port}/page")
    assert error.kind == "address"
    assert "u:p" not in error.reason
    assert server.asked == []


async def test_a_redirect_to_this_machine(server: WebServer) -> None:
    """Each hop is checked where its connection is made."""
    server.pages["/page"] = Reply(status=302, headers={"Location": "http://localhost:9/secret"})
    only_server = Fetcher(Rule(frozenset({server.port}), allow_private=True), "test")
    assert (await problem(only_server, f"{server.url}/page")).kind == "address"
    await only_server.close()


async def test_a_name_that_resolves_to_another_address_later(
    server: WebServer, guarded: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was public when someone looked is checked again at the connection."""
    answers = [[("8.8.8.8", server.port)], [("127.0.0.1", server.port)]]

    def resolve(host: str, *_: Any, **__: Any) -> list[Any]:
        found = answers[0] if host != "rebind.example" else answers[-1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    error = await problem(guarded, f"http://rebind.example:{server.port}/page")
    assert error.kind == "address"
    assert server.asked == []


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("file:///etc/passwd", "url"),
        ("ftp://example.org/x", "url"),
        ("http://", "url"),
        ("http://[::1", "url"),
        ("http://x:99999/", "url"),
        ("example.org", "url"),
        ("", "url"),
        ("http://example.org/" + "a" * 5000, "url"),
        ("http://example.org:22/", "address"),
        ("https://example.org:80443/", "url"),
    ],
)
async def test_an_address_that_is_not_tried(guarded: Fetcher, url: str, kind: str) -> None:
    """It is refused as it stands."""
    assert (await problem(guarded, url)).kind == kind


# --- pages as text --------------------------------------------------------------------------


@pytest.fixture
async def service(server: WebServer) -> AsyncIterator[WebSearchService]:
    """Return the service; pages may be anywhere."""
    config = {"url": server.url, "allow_private": True, "ports": [], "page_timeout": 20.0}
    async with run(WebSearchService, config=config) as there:
        yield there


async def test_text_is_read_as_it_is(server: WebServer, service: WebSearchService) -> None:
    """In its charset; a second time it is not fetched."""
    text = "Größe".encode("latin-1")
    server.pages["/text"] = Reply(text, content_type="text/plain; charset=latin-1")
    for _ in range(2):
        page = await service.fetch(f"{server.url}/text")
        assert (page.text, page.content_type) == ("Größe", "text/plain")
    assert len(server.asked) == 1
    server.pages["/odd"] = Reply(text, content_type="text/plain; charset=no-such")
    assert (await service.fetch(f"{server.url}/odd")).text.startswith("Gr\ufffd")


@NEEDS_READER
async def test_a_page_is_read_as_text(server: WebServer, service: WebSearchService) -> None:
    """Its title and its text, without what is around them; the program that reads stays."""
    server.pages["/page"] = Reply(PAGE)
    page = await service.fetch(f"{server.url}/page")
    assert page.title == "Towers"
    assert "a clock that is always late" in page.text
    assert "steal" not in page.text
    before = service._reader.pid
    server.pages["/small"] = Reply(b"<title>T</title><p>Short.</p><script>steal()</script>")
    page = await service.fetch(f"{server.url}/small")
    assert (page.title, page.text) == ("T", "Short.")
    for name, body in (
        ("deep", b"<div>" * 100_000 + b"x"),
        ("attributes", b"<p " + b"a='b' " * 100_000 + b">x</p>"),
        ("none", b"\x00\xff" * 1000),
        ("empty", b""),
    ):
        server.pages[f"/{name}"] = Reply(body)
        try:
            await service.fetch(f"{server.url}/{name}")
        except FetchError as error:
            assert error.kind == "damaged", error.reason  # noqa: PT017
    assert service._reader.pid == before


@NEEDS_READER
async def test_a_page_that_takes_too_long(server: WebServer) -> None:
    """The program that reads it is killed; the next page has a new one."""
    # On a loaded machine a new program imports for more than two seconds
    config = {"url": server.url, "allow_private": True, "ports": [], "page_timeout": 5.0}
    async with run(WebSearchService, config=config) as service:
        server.pages["/page"] = Reply(PAGE)
        await service.fetch(f"{server.url}/page")
        reader = service._reader.pid
        assert reader is not None
        os.kill(reader, signal.SIGSTOP)
        server.pages["/again"] = Reply(PAGE)
        with pytest.raises(FetchError, match="within 5 s"):
            await service.fetch(f"{server.url}/again")

        async def is_gone() -> bool:
            return not _is_running(reader)

        await eventually(is_gone, what="the program that reads was killed")
        assert (await service.fetch(f"{server.url}/again")).title == "Towers"
        other = service._reader.pid
        assert other is not None
        os.kill(other, signal.SIGKILL)
        server.pages["/more"] = Reply(PAGE)
        with pytest.raises(FetchError, match="the parser ended"):
            await service.fetch(f"{server.url}/more")
        assert (await service.fetch(f"{server.url}/more")).title == "Towers"
        last = service._reader.pid
    assert last is not None
    assert not _is_running(last)


async def test_too_many_wait(server: WebServer) -> None:
    """Further ones are refused at once."""
    config = {"url": server.url, "allow_private": True, "ports": [], "concurrency": 1}
    server.pages["/hang"] = Reply(b"x", content_type="text/plain", fault="hang")
    async with run(WebSearchService, config=config) as service:
        waiting = [
            asyncio.create_task(service.fetch(f"{server.url}/hang?{number}"))
            for number in range(70)
        ]
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert all(isinstance(one.exception(), Busy) for one in done)
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
