"""What an operator of a team sees of logs, events and deaths: their services alone.

Needs root. The user is a number without an account.
"""

import os
from collections.abc import Iterator

import pytest
from tests.support.console import CONFIG, Visitor
from tests.support.host import Host, hosting
from tests.support.public_python import public_python

from garrison.supervisor.cli.console import link_of

MEMBER = 54326
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can run commands of other users"),
    pytest.mark.external,  # needs root, and its user id is fixed
]
BOT = """
from garrison.workers import Plugin, Service

class Bot(Service):
    service_type = "bot"
    @classmethod
    async def start(cls, runtime):
        runtime.logger.info("secret of %s", runtime.name)
        return cls(runtime)
    async def say(self, text: str) -> None:
        self.runtime.logger.info("%s", text)

plugin = Plugin(name="bot", services=[Bot])
"""
TEAM = f"""
[host.operators.team]
users = [{MEMBER}]
services = ["theirs"]
may = ["status", "logs"]
[plugins.bot]
[services.theirs]
plugin = "bot"
type = "bot"
[services.other]
plugin = "bot"
type = "bot"
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Return a host whose folder every user can enter."""
    python, path = public_python()
    environ = {"PYTHONPATH": path}
    with hosting(CONFIG + TEAM, files={"bot.py": BOT}, env=environ, up=False) as host:
        host.python = python
        host.folder.chmod(0o755)
        yield host.up()


@pytest.fixture(scope="module")
def colleague(running: Host) -> Visitor:
    """Return a member of the team, logged in."""
    prefix = ("setpriv", f"--reuid={MEMBER}", f"--regid={MEMBER}", "--clear-groups")
    data = running.run("console", json=True, before=prefix).data
    visitor = Visitor(data["address"])
    link = link_of(data["address"], data["ticket"])
    page = visitor.get(link.removeprefix(data["address"]))
    visitor.cookie = page.headers["set-cookie"].partition(";")[0]
    return visitor


def test_a_colleague_reads_the_logs_of_the_team(running: Host, colleague: Visitor) -> None:
    """And of no other service, by name, pattern or search."""
    page = colleague.get("/logs")
    assert (page.status, "secret of theirs" in page.text) == (200, True), page.text
    for path in ("/logs", "/logs?name=other", "/logs?name=o*", "/logs?grep=secret", "/logs?name=*"):
        assert "secret of other" not in colleague.get(path).text
    assert colleague.get("/logs?name=other").status == 404


def test_a_colleague_reads_the_events_of_the_team(running: Host, colleague: Visitor) -> None:
    """Of no other service, and not of the host."""
    page = colleague.get("/events")
    assert (page.status, "starting → running" in page.text) == (200, True), page.text
    assert ">other</a>" not in page.text
    assert "supervisor.started" not in page.text
    assert ">other</a>" not in colleague.get("/events?name=other").text


@pytest.mark.parametrize("path", ["/deaths", "/deaths/theirs-1", "/services/theirs/why"])
def test_deaths_are_not_for_a_colleague(colleague: Visitor, path: str) -> None:
    """Crash reports have other people's messages: the page says for whom they are."""
    page = colleague.get(path)
    assert (page.status, "the host's own user" in page.text.replace("&#39;", "'")) == (403, True)
    assert 'href="/deaths"' not in page.text
