"""The console of a real host, by requests."""

import asyncio
import os
import re
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.console import CONFIG, Visitor, log_in
from tests.support.host import Host, hosting
from tests.support.waiting import until

from garrison.ipc import connect

COLLEAGUE = 65501  # a uid without an account
TOKEN = f"metrics-{os.getpid()}"
MORE = f"""
names = ["bots.example"]
metrics_token = "METRICS_TOKEN"
[services.console]
secrets = ["METRICS_TOKEN"]
[services.glass]
plugin = "console"
type = "console"
[services.glass.config]
port = 0
readonly = true
[services.pipe]
plugin = "console"
type = "console"
[services.pipe.config]
socket = "c.sock"
[plugins.echo]
[services.other]
plugin = "echo"
type = "echo"
[host.operators.team]
users = ["{COLLEAGUE}"]
services = ["echo"]
may = ["status", "logs"]
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Return a host with a console and a service."""
    env = {"METRICS_TOKEN": TOKEN}
    with hosting(CONFIG + MORE, plugins=["echo"], env=env) as host:
        yield host


@pytest.fixture(scope="module")
def visitor(running: Host) -> Visitor:
    """Return the host's own user, logged in."""
    return log_in(running)


def test_all_services_are_on_the_first_page(visitor: Visitor) -> None:
    """With their state; the page is whole without JavaScript."""
    assert until(lambda: "5 of 5 running" in visitor.get("/").text)
    assert 'id="s-echo"' in visitor.get("/").text


def test_a_link_logs_in_once(running: Host) -> None:
    """It is bound to the user who has got it, and to nothing that a browser says."""
    data = running.ask("console", service="console")
    stranger = Visitor(data["address"])
    path = f"/enter?ticket={data['ticket']}"

    first, second = stranger.get(path), stranger.get(path)

    assert (first.status, first.headers["location"]) == (303, "/")
    cookie = first.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert second.status == 403
    assert "set-cookie" not in second.headers
    assert until(lambda: [e for e in running.events() if e["event"] == "console.entered"])


def test_without_a_login_there_is_nothing_to_see(visitor: Visitor) -> None:
    """No page, no stream, and no action."""
    stranger = Visitor(visitor.address, "garrison-1=00")

    assert stranger.get("/").status == 401
    assert stranger.get("/live/services").status == 401
    assert "echo" not in stranger.get("/").text


def test_a_logout_ends_the_session(running: Host) -> None:
    """The cookie counts no more, also where a browser keeps it."""
    visitor = log_in(running)

    assert visitor.post("/leave").status == 200
    assert visitor.get("/").status == 401


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:1", 200),
        ("localhost", 200),
        ("rebound.example", 421),
        ("127.0.0.1.example", 421),
    ],
)
def test_a_foreign_name_is_refused(visitor: Visitor, host: str, status: int) -> None:
    """A name that an attacker has resolve to this machine is no address of the console."""
    assert visitor.get("/", Host=host).status == status


def test_other_sites_are_kept_out(visitor: Visitor) -> None:
    """Their requests are refused, and each answer has the headers that keep them out."""
    assert visitor.post("/leave", Origin="http://evil.example").status == 403
    assert visitor.send("POST", "/leave").status == 403
    page = visitor.get("/")
    assert page.status == 200
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["cache-control"] == "no-store"


def test_the_verb_prints_a_link(running: Host) -> None:
    """Of the console that is named, where there are several; of a Unix socket, with the tunnel."""
    unnamed, named = running.run("console"), running.run("console", "glass")
    assert (unnamed.code, "name one of them: console, glass, pipe" in unnamed.err) == (2, True)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/enter\?ticket=[0-9a-f]{64}\n", named.out)

    data = running.run("console", "pipe", json=True).data
    path = data["address"].removeprefix("unix:")
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
    assert data["tunnel"].startswith(f"ssh -L 8420:{path} ")
    with socket.socket(socket.AF_UNIX) as browser:
        browser.connect(path)
        target = data["link"].removeprefix("http://localhost:8420")
        browser.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost:8420\r\n\r\n".encode())
        assert browser.recv(100).startswith(b"HTTP/1.1 303 ")


def pid_of(host: Host, name: str) -> int:
    """Return the pid of a service."""
    (row,) = host.ask("status", name)["services"]
    pid: int = row["pid"]
    return pid


def test_a_button_restarts_a_service(running: Host, visitor: Visitor) -> None:
    """The result is shown, and the events say who has pressed it."""
    before = pid_of(running, "echo")

    page = visitor.post("/act/restart", {"name": "echo", "why": "stuck"})

    assert page.status == 200
    assert f"echo runs (pid {pid_of(running, 'echo')}" in page.text
    assert pid_of(running, "echo") != before
    given = [one for one in running.events("order.given") if one["data"]["verb"] == "restart"]
    assert given[-1]["data"]["uid"] == os.geteuid()
    assert given[-1]["data"]["via"] == "console console"
    assert given[-1]["data"]["why"].endswith("in the console: stuck")


@pytest.mark.parametrize(
    ("form", "status", "text"),
    [
        ({"name": "nosuch"}, 404, "no service nosuch"),
        ({"name": "*"}, 400, "name one service"),
        ({}, 400, "name one service"),
        ({"name": "echo", "pad": "x" * 70_000}, 413, "too large"),
    ],
)
def test_an_action_that_fails_says_why(
    visitor: Visitor, form: dict[str, str], status: int, text: str
) -> None:
    """With the status of its kind, and never a traceback."""
    page = visitor.post("/act/stop", form)

    assert (page.status, text in page.text) == (status, True)


def test_there_are_no_other_actions(visitor: Visitor) -> None:
    """A console calls no methods and stops no host; an action is no link."""
    assert visitor.post("/act/down").status == 404
    assert visitor.post("/act/call").status == 404
    assert visitor.get("/act/restart").status == 405


def test_a_read_only_console_refuses_actions(running: Host) -> None:
    """The server does, whatever a browser sends; there are no buttons either."""
    glass = log_in(running, "glass")
    before = pid_of(running, "echo")

    assert "<button>Restart" not in glass.get("/services/echo").text
    page = glass.post("/act/restart", {"name": "echo"})

    assert (page.status, "read-only" in page.text) == (403, True)
    assert glass.post("/act/apply").status == 403
    assert pid_of(running, "echo") == before


def test_a_colleague_sees_what_the_team_may(running: Host) -> None:
    """Its services, no action, no page of the host; each order is that user's."""

    async def ticket() -> dict[str, Any]:
        async with connect(running.home) as client:
            data: dict[str, Any] = await client.order(
                "console", service="console", behalf=COLLEAGUE
            )
            return data

    colleague = Visitor.entering(asyncio.run(ticket()))

    first = colleague.get("/")
    assert 'id="s-echo"' in first.text
    assert "s-other" not in first.text
    assert colleague.get("/services/other").status == 404
    assert "<button>Restart" not in colleague.get("/services/echo").text
    page = colleague.post("/act/restart", {"name": "echo"})
    assert (page.status, "for teams that may restart" in page.text) == (403, True)
    for path in ("/host", "/deaths", "/services/echo/why"):
        assert colleague.get(path).status == 403, path


def test_metrics_need_the_token(visitor: Visitor) -> None:
    """A session is none; the text is that of `garrison metrics`."""
    assert visitor.get("/metrics").status == 401
    assert visitor.get("/metrics", Authorization="Bearer wrong").status == 401
    stranger = Visitor(visitor.address)
    page = stranger.get("/metrics", Authorization=f"Bearer {TOKEN}")
    assert page.status == 200
    assert page.headers["content-type"].startswith("application/openmetrics-text")
    assert re.search(r"^garrison_supervisor_up 1", page.text, re.MULTILINE)
    assert page.text.endswith("# EOF\n")


def test_what_changes_is_sent(running: Host, visitor: Visitor) -> None:
    """A killed service is on each open page, and what did not change is not sent."""
    with visitor.stream("/live/services") as events:
        assert "s-other" in next(events)
        os.kill(pid_of(running, "other"), signal.SIGKILL)
        later = next(one for one in events if "s-other" in one)
    assert 'data-label="Restarts">1<' in later


def test_a_supervisor_that_does_not_answer_is_waited_for_once(
    running: Host, visitor: Visitor
) -> None:
    """A page has what was known last, and says so; it sends no further requests."""
    os.kill(running.pid, signal.SIGSTOP)
    try:
        # One of them may come while what was known is not a second old.
        pages = [visitor.get(path).text for path in ("/host", "/", "/services/echo")]
    finally:
        os.kill(running.pid, signal.SIGCONT)
    assert ["runs and does not answer" in page for page in pages] == [True] * 3
    assert 'id="s-echo"' in pages[1]
    until(lambda: "does not answer" not in visitor.get("/").text)


def test_streams_end_before_the_server_waits(running: Host, visitor: Visitor) -> None:
    """A stop takes no longer for those who look; another incarnation has the same sessions."""
    with visitor.stream("/live/services") as events:
        next(events)
        running.ask("restart", "console")
        assert not [one for one in events if "no such" in one]  # it ends
    again = Visitor(running.ask("console", service="console")["address"], visitor.cookie)
    old = visitor.cookie.partition("=")[2]
    name = f"garrison-{again.address.rpartition(':')[2]}"
    again.cookie = f"{name}={old}"
    assert again.get("/").status == 200


def test_without_a_supervisor_the_last_picture_stays(host: Any) -> None:
    """The page says so, and with the next supervisor it goes on."""
    home = host("[host]\norphan_grace = 60.0\n" + CONFIG + "[plugins.echo]\n", plugins=["echo"])
    visitor = log_in(home)
    until(lambda: "2 of 2 running" in visitor.get("/").text)
    home.end(signal.SIGKILL)

    until(lambda: "no supervisor" in visitor.get("/").text)
    page = visitor.get("/")
    assert (page.status, 'id="s-echo"' in page.text) == (200, True)
    assert visitor.post("/act/restart", {"name": "echo"}).status == 503
    assert visitor.get("/services/echo").status == 200

    home.up()
    assert until(lambda: "no supervisor" not in visitor.get("/").text)
    assert visitor.post("/act/restart", {"name": "echo"}).status == 200
