"""`garrison pause` and `resume`: a service runs, takes nothing, and goes on later."""

import asyncio
import signal
from collections.abc import Iterator

import pytest
from tests.support.host import LONG_GRACE, Host, found, hosting
from tests.support.platform_client import FakePlatform
from tests.support.waiting import until, until_true

from garrison.ipc import Client, ServiceUnavailable, with_timeout

CONFIG = (
    LONG_GRACE
    + """
[defaults]
intensity = 0

[plugins.steady]
use = "steady"
[services.steady]
[services.closed]
plugin = "steady"
type = "steady"
when_paused = "refuse"
[services.above]
plugin = "steady"
type = "steady"
depends_on = ["steady"]

[plugins.mailbox]
[plugins.fakechat]
use = "fakechat:complete"
[services.fakechat]
env = {{ FAKE = "{fake}" }}
[services.fakechat.config]
operators = ["ada"]
[plugins.agent]
use = "fakechat:answerer"
"""
)


@pytest.fixture(scope="module")
def host(fake: FakePlatform) -> Iterator[Host]:
    """Run one host for all tests; each resumes what it has paused."""
    with hosting(CONFIG.format(fake=fake.path), ["steady", "fakechat"]) as running:
        fake.until_bots(1)
        yield running


def _is_paused(client: Client, name: str) -> bool:
    """Return whether a program knows that a service is paused."""
    entry = client.directory.get(name)
    return entry is not None and entry.paused is not None


async def test_a_paused_service_takes_no_calls(host: Host) -> None:
    """What runs is finished, and the service's own calls go on; others wait for their deadline."""
    async with host.connect() as client:
        steady, above = found(client, "steady"), found(client, "above")
        gate = host.folder / "gate"
        running = asyncio.ensure_future(steady.once(str(gate)))
        own = asyncio.ensure_future(steady.relay("closed", "once", str(gate)))
        await until_true(lambda: gate.with_suffix(".begun").exists())
        await until_true(lambda: len(gate.with_suffix(".begun").read_text().split()) == 2)

        done = host.run("pause", "steady", "--why", "a repair")
        assert done.code == 0
        assert done.out.startswith("steady is paused; to go on: garrison --home ")
        again = host.ask("pause", "steady", why="once more")
        assert again["services"] == {"steady": {"state": "running", "paused": True}}
        row = host.status("steady")
        assert (row["state"], row["paused"], row["paused_by"]) == ("running", True, "operator")
        assert "paused" in host.run("status").out
        assert host.status("above")["state"] == "running"

        await until_true(lambda: _is_paused(client, "steady"))
        waits = asyncio.ensure_future(steady.pid())
        late = asyncio.ensure_future(above.relay("steady", "pid"))
        with pytest.raises(
            ServiceUnavailable, match=r"paused by an operator since .*a repair.*"
        ) as e:
            await with_timeout(steady, 0.2).pid()
        assert "garrison resume steady" in str(e.value)
        gate.touch()
        assert await running == 2
        assert await own == ["result", 2]
        assert not waits.done()
        assert not late.done()

        assert host.run("resume", "steady").out == "steady takes calls again\n"
        assert await waits == row["pid"]
        assert await late == ["result", row["pid"]]
    events = [one["event"] for one in host.events(service="steady")]
    assert events[-2:] == ["service.paused", "service.resumed"]
    assert host.run("resume", "steady").out == "steady was not paused\n"


async def test_calls_are_refused_where_the_config_says_so(host: Host) -> None:
    """At once, also those that wait already."""
    host.ask("pause", "closed")
    async with host.connect() as client:
        with pytest.raises(ServiceUnavailable, match="garrison resume closed"):
            await found(client, "closed").pid()
        host.ask("resume", "closed")
        await until_true(lambda: not _is_paused(client, "closed"))
        await found(client, "closed").pid()


async def test_what_is_posted_waits_over_restarts_of_everything(
    host: Host, fake: FakePlatform
) -> None:
    """The pause outlasts the service's death, the supervisor's, and the host's."""
    host.ask("pause", "agent", why="quiet")
    fake.say("posted", "q1 short")
    until(lambda: host.run("mail", "ls", json=True).data["receivers"], what="it is posted")

    old = host.kill("agent")
    host.until_reborn("agent", old)
    host.end(signal.SIGKILL)
    host.up()
    assert host.status("agent")["paused"] is True
    host.restart()
    row = host.status("agent")
    assert (row["state"], row["paused"]) == ("running", True)
    assert fake.answers("posted") == []

    done = host.run("resume", "--all", json=True)
    assert done.data["resumed"] == ["agent"]
    assert done.data["waiting"]["agent"]["messages"] == 1
    until(lambda: len(fake.answers("posted")) == 1, what="it is answered once")


async def test_a_paused_platform_takes_orders_alone(host: Host, fake: FakePlatform) -> None:
    """Also in a room where messages wait: they are handed over once it is resumed."""
    host.ask("pause", "fakechat")

    def waiting() -> int:
        count: int = host.status("fakechat")["facts"].get("waiting", 0)
        return count

    def knows() -> bool:
        """The pause reaches its process some time after the order is answered."""
        fake.say("before", "q0 short", author="bob")
        return waiting() > 0

    until(knows, what="it knows that it is paused")
    before = waiting()
    fake.say("held", "q2 short", author="bob")
    until(lambda: waiting() > before, what="it waits")
    fake.say("held", "/resume fakechat", author="ada")
    until(lambda: len(fake.answers("held")) == 2, what="both are answered")

    assert fake.answers("held")[0].startswith("fakechat takes calls")
    assert host.status("fakechat")["paused"] is False


async def test_a_paused_mailbox_takes_and_does_not_deliver(host: Host, fake: FakePlatform) -> None:
    """What is posted is kept, and operators see it."""
    host.ask("pause", "mailbox")
    fake.say("kept", "q3 short")
    until(lambda: host.run("mail", "ls", json=True).data["receivers"], what="it is posted")
    assert fake.answers("kept") == []

    host.ask("resume", "mailbox")
    until(lambda: len(fake.answers("kept")) == 1, what="it is answered")


def test_names_are_needed(host: Host) -> None:
    """Or --all; an unknown NAME is refused, and pauses nothing."""
    assert host.run("pause").code == 2
    assert host.run("pause", "steady", "--all").code == 2
    assert host.run("pause", "steady", "absent").code == 4
    assert not any(row["paused"] for row in host.rows().values())


async def test_all_services_are_paused_at_once(host: Host) -> None:
    """Nothing but orders is served then."""
    paused = host.ask("pause")["services"]
    assert paused.keys() == host.rows().keys()
    assert host.run("mail", "ls").code == 0
    assert sorted(host.ask("resume")["resumed"]) == sorted(paused)
