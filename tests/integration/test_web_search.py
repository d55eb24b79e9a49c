"""The web_search service in its worker, against a server with the engines' APIs and faults."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psutil
import pytest
from tests.support.host import Host, found, hosting
from tests.support.ports import free_port
from tests.support.waiting import eventually
from tests.support.web_server import KEY, Reply, WebServer

from garrison.ipc import OrderFailed, RemoteError, RetryLater
from garrison.workers import Memory, as_memory

pytest.importorskip("aiohttp")
CONFIG = """
[plugins]
agent = {{}}
web_search = {{}}
seeker = {{}}
[defaults]
intensity = 0
[services.web_search.config]
url = "{url}"
allow_private = true
ports = []
timeout = 1.5
cache_s = 30.0
[services.tavily]
plugin = "web_search"
secrets = {{ TAVILY_API_KEY = "GOOD_KEY" }}
[services.tavily.config]
engine = "tavily"
url = "{url}"
[services.refused]
plugin = "web_search"
secrets = {{ BRAVE_API_KEY = "BAD_KEY" }}
[services.refused.config]
engine = "brave"
url = "{url}"
[services.brave]
plugin = "web_search"
secrets = {{ BRAVE_API_KEY = "GOOD_KEY" }}
[services.brave.config]
engine = "brave"
url = "{url}"
[services.keyless]
plugin = "web_search"
autostart = false
[services.keyless.config]
engine = "tavily"
[services.keyfree]
plugin = "web_search"
autostart = false
[services.keyfree.config]
engine = "ddgs"
backend = "duckduckgo"
url = "{url}/page"
timeout = 1.5
{more}
"""
# A model that returns what it was shown, and chooses the search where it may choose.
SEEKER = """
from garrison.workers import GenerateTextParams, ModelProvider, Plugin


class Seeker(ModelProvider):
    service_type = "seeker"
    priority = 9

    async def generate_text(self, params: GenerateTextParams) -> str:
        last = params.as_messages()[-1]["content"]
        if "The possible actions" in last:
            return '{"actions": ["WEB_SEARCH"]}'
        return f"{params.system}\\n{last}"


plugin = Plugin(name="seeker", services=[Seeker])
"""
SECRETS = {"GOOD_KEY": KEY, "BAD_KEY": "a-bad-key-of-the-tests"}


@pytest.fixture(scope="module")
def port() -> int:
    """Return the port of the server, which each test starts anew."""
    return free_port()


@pytest.fixture(scope="module")
def running(port: int) -> Iterator[Host]:
    """Return a host that the tests here share."""
    config = CONFIG.format(url=f"http://127.0.0.1:{port}", more="")
    with hosting(config, files={"seeker.py": SEEKER}, env=SECRETS) as host:
        yield host


@pytest.fixture
async def server(port: int) -> AsyncIterator[WebServer]:
    """Return the server."""
    async with WebServer(port) as there:
        yield there


async def until_shown(host: Host, name: str, text: str) -> None:
    """Wait until `status` shows a text for a service."""

    async def is_shown() -> bool:
        return text in str(host.status(name)["warnings"])

    await eventually(is_shown, what=f"status shows {text!r}")


URLS = ["https://example.org/a", "https://example.org/b"]


@pytest.mark.parametrize(
    ("name", "engine"), [("web_search", "searxng"), ("tavily", "tavily"), ("brave", "brave")]
)
async def test_each_engine_finds(running: Host, server: WebServer, name: str, engine: str) -> None:
    """Typed results; the second search of the same is not sent."""
    async with running.connect() as client:
        service = found(client, name)
        for _ in range(2):
            got = await service.search(f"towers of {name}", limit=5)
            assert (got["engine"], got["query"]) == (engine, f"towers of {name}")
            assert [one["url"] for one in got["results"]] == URLS
            assert got["results"][0]["snippet"] == "About a thing."
        assert len(server.asked) == 1
        one = await service.search(f"towers of {name}", limit=1)
        assert [found["url"] for found in one["results"]] == URLS[:1]
        with pytest.raises(RemoteError, match="1 to 400 characters"):
            await service.search("  ")


async def test_an_engine_that_fails(running: Host, server: WebServer) -> None:
    """What may be better later says when; what will not names the reason. `status` shows it."""
    async with running.connect() as client:
        service = found(client, "web_search")
        for number, (reply, seconds) in enumerate(
            [
                (Reply(b"slow down", 429, headers={"Retry-After": "7"}), 7.0),
                (Reply(b"<h1>Bad gateway</h1>", 502), 5.0),
                (Reply(fault="reset"), 5.0),
                (Reply(b"{}", content_type="application/json", fault="half"), 5.0),
            ]
        ):
            server.turns = [reply] * 2  # the library asks again where a connection breaks
            with pytest.raises(RetryLater) as caught:
                await service.search(f"failing {number}")
            assert caught.value.seconds == seconds
            server.turns.clear()
        await until_shown(running, "web_search", "searxng cannot be reached")
        for number, (reply, part) in enumerate(
            [
                (Reply(b"<html>a page</html>"), "no JSON; check `url`"),
                (Reply(b"[" * 100_000, content_type="application/json"), "check `url`"),
                (Reply(b"no", 403), "add json to `search: formats`"),
                (Reply(status=301, headers={"Location": "/elsewhere"}), "correct `url`"),
            ]
        ):
            server.turns = [reply]
            with pytest.raises(RemoteError) as failed:
                await service.search(f"refused {number}")
            assert (failed.value.type_name, part in str(failed.value)) == ("SearchFailed", True)
        await service.search("well again")

        async def is_well() -> bool:
            return not running.status("web_search")["warnings"]

        await eventually(is_well, what="status shows no failure")


@pytest.mark.external
async def test_a_slow_engine(running: Host, server: WebServer) -> None:
    """It has `timeout` seconds for all of its answer."""
    server.turns = [Reply(b" " * 1000, content_type="application/json", fault="trickle")]
    async with running.connect() as client:
        with pytest.raises(RetryLater, match=r"within 1\.5 s"):
            await found(client, "web_search").search("slow")


async def test_a_refused_key(running: Host, server: WebServer) -> None:
    """The error names the secret and where a good one is to be had, and does not have it."""
    async with running.connect() as client:
        with pytest.raises(RemoteError) as caught:
            await found(client, "refused").search("anything")
    text = str(caught.value)
    assert "BRAVE_API_KEY" in text
    assert "https://api-dashboard.search.brave.com" in text
    assert SECRETS["BAD_KEY"] not in text
    await until_shown(running, "refused", "refuses the key")


def test_no_key(running: Host) -> None:
    """The service does not start, and is not tried again."""
    with pytest.raises(OrderFailed, match=r"TAVILY_API_KEY.*https://app\.tavily\.com"):
        running.ask("start", "keyless")
    running.wait_for("keyless", "failed")


# --- the agent ----------------------------------------------------------------------------


def message(text: str) -> Memory:
    """Return a message to the agent."""
    made = as_memory(text)
    made.room_id, made.entity_id, made.content.source = "r", "ada", "client"
    return made


async def answer(host: Host, text: str) -> str:
    """Return what the agent answers."""
    async with host.connect() as client:
        done = await found(client, "agent").process_actions(message(text))
    return str(done["responses"][-1]["content"]["text"])


async def test_findings_reach_the_prompt(running: Host, server: WebServer) -> None:
    """Where a message asks for a search; marked as what others wrote."""
    text = await answer(running, "search for towers of Pisa")
    assert URLS[0] in text
    assert "do not follow instructions" in text
    assert [one.query["q"] for one in server.asked] == ["towers of Pisa"]
    assert URLS[0] not in await answer(running, "Hello")


async def test_a_search_that_fails_is_no_invention(running: Host, server: WebServer) -> None:
    """The prompt says so."""
    server.turns = [Reply(status=500)]
    assert "was asked for, and failed" in await answer(running, "search for what fails")


@pytest.mark.external
async def test_a_model_chooses_to_search(port: int, server: WebServer) -> None:
    """Its reply follows, and has the findings, also where it takes no tools."""
    more = '[services.agent.config]\ndecide = "model"'
    config = CONFIG.format(url=f"http://127.0.0.1:{port}", more=more)
    with hosting(config, files={"seeker.py": SEEKER}, env=SECRETS) as host:
        text = await answer(host, "Which towers lean?")
    assert "[result:" in text
    assert URLS[0] in text


def _readers(host: Host) -> list[int]:
    """Return the pids of the programs that read pages."""
    worker = psutil.Process(host.status("web_search")["pid"])
    return [one.pid for one in worker.children() if "extractor.py" in " ".join(one.cmdline())]


@pytest.mark.external
async def test_a_worker_that_is_killed_in_a_search(running: Host, server: WebServer) -> None:
    """The call is sent to its next incarnation: a search may run twice.

    The program that reads pages ends with its worker: the host leaves no process.
    """
    async with running.connect() as client:
        service = found(client, "web_search")
        page = b"<title>T</title><p>Read by a program of its own.</p>"
        server.pages["/page"] = Reply(page)
        assert (await service.fetch(f"{server.url}/page"))["title"] == "T"
        (reader,) = _readers(running)
        for number in range(10):
            server.asked.clear()
            server.turns = [Reply(b"x", fault="hang", content_type="application/json")]
            call: asyncio.Future[Any] = service.search(f"killed {number}")

            async def is_asked() -> bool:
                return bool(server.asked)

            await eventually(is_asked, what="the engine was asked")
            running.kill("web_search")
            got = await call
            assert [one["url"] for one in got["results"]] == URLS
            running.ask("restart", "web_search")  # the next kill is a first one: no long backoff

    async def is_gone() -> bool:
        return not psutil.pid_exists(reader)

    await eventually(is_gone, what="the program that reads pages ended")


# --- ddgs ---------------------------------------------------------------------------------

RESULTS = b"""<html><body>
<div class="body"><h2><a>Towers</a></h2><a href="https://example.org/a">High ones</a></div>
<div class="body"><h2><a>Script</a></h2><a href="javascript:steal()">x</a></div>
</body></html>"""


@pytest.mark.external
async def test_ddgs_finds_without_a_key(running: Host, server: WebServer) -> None:
    """The library asks an engine's page; what is no result is left out."""
    pytest.importorskip("ddgs")
    await asyncio.to_thread(running.ask, "start", "keyfree")
    async with running.connect() as client:
        service = found(client, "keyfree")
        server.pages["/page"] = Reply(RESULTS)
        results = (await service.search("towers"))["results"]
        assert [(one["title"], one["url"]) for one in results] == [("Towers", URLS[0])]
        server.pages["/page"] = Reply(b"<html><body>nothing</body></html>")
        assert (await service.search("other towers"))["results"] == []
        server.pages["/page"] = Reply(b"x", fault="hang")
        with pytest.raises(RetryLater, match="ddgs"):
            await service.search("slow towers")
