"""The owner is told in the chat what happens to services; a platform's link is shown and probed."""

import os
import signal
from collections.abc import Iterator

import pytest
from tests.support.host import Host, hosting
from tests.support.platform_client import FakePlatform
from tests.support.waiting import until

from garrison.supervisor.cli import update_gate
from garrison.supervisor.cli.update_gate import LinkProblem

pytestmark = pytest.mark.external

PLATFORM = "fakeplatform"
CONFIG = """
[defaults]
intensity = 0

[plugins.mailbox]
[plugins.agent]
[services.agent.config]
owner = {{ fakeplatform = "ada" }}
owner_every = 0.3
[plugins.fakeplatform]
use = "fakeplatform:lookup"
[services.fakeplatform.config]
socket = "{fake}"
[plugins.steady]
use = "steady"
"""


@pytest.fixture(scope="module")
def host(fake: FakePlatform) -> Iterator[Host]:
    """Run one host for them."""
    with hosting(CONFIG.format(fake=fake.path), ["fakeplatform", "steady"]) as running:
        fake.until_bots(1)
        yield running


def kill(host: Host, name: str) -> None:
    """Kill a service; return once the next incarnation runs."""
    before = host.status(name)
    os.kill(before["pid"], signal.SIGKILL)
    until(
        lambda: (
            (now := host.status(name))["state"] == "running"
            and now["generation"] > before["generation"]
        )
    )


def told(fake: FakePlatform, about: str) -> list[str]:
    """Return the lines about a service that the owner has read."""
    lines = [line for text in fake.answers("dm-ada") for line in text.splitlines()]
    return [line for line in lines if line.startswith(about)]


def crashes(fake: FakePlatform, name: str) -> list[str]:
    """Return the lines about its crashes; one that it is back may follow on a loaded machine."""
    return [line for line in told(fake, name) if "was restarted" in line or "is down" in line]


def link(host: Host, key: str) -> object:
    """Return what `status` has of the platform's connection."""
    return (host.status(PLATFORM)["link"] or {}).get(key)


@pytest.mark.parametrize("name", ["steady", PLATFORM, "agent", "mailbox"])
def test_a_crash_is_told_once(host: Host, fake: FakePlatform, name: str) -> None:
    """Whichever service it is, also the one that tells it, and the one that carries it."""
    before = len(crashes(fake, name))
    kill(host, name)
    until(lambda: len(crashes(fake, name)) > before)
    agents = len(crashes(fake, "agent"))
    kill(host, "agent")  # what was told is not told again
    until(lambda: len(crashes(fake, "agent")) > agents)

    assert len(crashes(fake, name)) - before == (1 if name != "agent" else 2)
    assert ": it was killed by SIGKILL." in crashes(fake, name)[before]


def test_what_an_operator_orders_is_no_news(host: Host, fake: FakePlatform) -> None:
    """The next message, about a crash, does not have it."""
    before = len(crashes(fake, "steady"))
    for verb in ("restart", "stop", "start"):
        host.ask(verb, "steady")
    kill(host, "steady")
    until(lambda: len(crashes(fake, "steady")) > before)

    assert len(crashes(fake, "steady")) == before + 1
    assert not [line for line in told(fake, "steady") if "ordered" in line or "exited" in line]


def test_news_wait_for_the_platform_that_carries_them(host: Host, fake: FakePlatform) -> None:
    """It is down; they are sent when it is back."""
    before = len(crashes(fake, "steady"))
    host.ask("stop", PLATFORM)
    kill(host, "steady")
    until(lambda: host.run("mail", "ls", json=True).data)
    assert len(crashes(fake, "steady")) == before
    host.ask("start", PLATFORM)

    until(lambda: len(crashes(fake, "steady")) == before + 1)


def test_a_lost_connection_is_a_state_of_its_own_and_is_told(
    host: Host, fake: FakePlatform
) -> None:
    """`status` and `probe` exit 3; the process runs."""
    assert host.run("probe", PLATFORM).code == 0
    host.run("call", PLATFORM, "lose", "the session is over")
    until(lambda: link(host, "disconnected"))
    shown = host.run("status")
    probed = host.run("probe", PLATFORM)
    detail = host.run("status", PLATFORM).out
    until(lambda: told(fake, f"{PLATFORM} receives nothing"))
    host.run("call", PLATFORM, "lose", "")
    until(lambda: told(fake, f"{PLATFORM} receives again"))

    assert (shown.code, probed.code) == (3, 3)
    assert "disconnected" in shown.out
    assert f"{PLATFORM} ! disconnected: the session is over" in shown.out
    assert f"{PLATFORM} is disconnected" in detail
    assert f"{PLATFORM}: disconnected: the session is over" in probed.out
    assert host.run("probe", PLATFORM).code == 0


def test_a_probe_shows_the_last_traffic_and_whether_the_platform_receives(
    host: Host, fake: FakePlatform
) -> None:
    """A probe that fails names the reason."""
    fake.say("quiet", "hello")
    until(lambda: fake.answers("quiet"))
    fine = host.run("probe", PLATFORM, json=True)
    fake.fault("channels", "fail")
    deaf = host.run("probe", PLATFORM)
    again = host.run("probe", PLATFORM)

    assert fine.data["alive"]
    assert (fine.data["has_probe"], fine.data["last_alive_s"] < 60) == (True, True)
    assert deaf.code == 3
    assert f"{PLATFORM}: its receiving side is deaf: by a fault" in deaf.out
    assert "last message in" in deaf.out
    assert again.code == 0


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [("steady", 1, "steady is no platform"), ("fakeplatfrom", 4, "did you mean fakeplatform?")],
)
def test_only_a_platform_can_be_probed(host: Host, name: str, code: int, text: str) -> None:
    """The error says so."""
    ran = host.run("probe", name)

    assert (ran.code, text in ran.err) == (code, True)


def test_a_platform_that_does_not_run_cannot_be_probed(host: Host) -> None:
    """It exits as one that is deaf."""
    host.ask("stop", PLATFORM)
    ran = host.run("probe", PLATFORM)
    host.ask("start", PLATFORM)

    assert (ran.code, f"{PLATFORM} is stopped" in ran.err) == (3, True)


def test_an_update_goes_on_once_a_platform_receives(
    host: Host, fake: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that runs is not enough: its probe has to see traffic, or it is put back."""
    monkeypatch.setattr(update_gate, "LINK_S", 20.0)
    fake.fault("channels", "fail")  # the first look is deaf, the next one is not
    update_gate.check_link(host.home, PLATFORM)
    host.run("call", PLATFORM, "lose", "the session is over")
    with pytest.raises(LinkProblem, match=r"runs and does not receive: the session is over"):
        update_gate.check_link(host.home, PLATFORM)
    host.run("call", PLATFORM, "lose", "")

    monkeypatch.setattr(update_gate, "LOOK_S", 30.0)  # so there is one look
    fake.fault("channels", "fail")
    with pytest.raises(LinkProblem, match=r"runs and does not receive: by a fault"):
        update_gate.check_link(host.home, PLATFORM)
    host.ask("stop", PLATFORM)
    with pytest.raises(LinkProblem, match=PLATFORM):
        update_gate.check_link(host.home, PLATFORM)
    host.ask("start", PLATFORM)
