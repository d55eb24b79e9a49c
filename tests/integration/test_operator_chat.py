"""Operators give orders in the chat; the platform answers them itself, without an agent."""

from collections.abc import Iterator

import pytest
from tests.support.host import Host, hosting
from tests.support.platform_client import FakePlatform
from tests.support.waiting import until

pytestmark = pytest.mark.external

PLATFORM = "fakeplatform"
CONFIG = """
[defaults]
intensity = 0

[plugins.fakeplatform]
use = "fakeplatform:lookup"
[services.fakeplatform.config]
socket = "{fake}"
operators = ["ada"]
mentions_only = true
[plugins.steady]
use = "steady"
"""


@pytest.fixture(scope="module")
def host(fake: FakePlatform) -> Iterator[Host]:
    """Run one host for them: there is no agent, and no mailbox."""
    with hosting(CONFIG.format(fake=fake.path), ["fakeplatform", "steady"]) as running:
        fake.until_bots(1)
        yield running


def ask(fake: FakePlatform, channel: str, text: str, author: str = "ada") -> str:
    """Write something as a person; return the answer."""
    before = len(fake.answers(channel))
    fake.say(channel, text, author=author)
    until(lambda: len(fake.answers(channel)) > before, what=f"{text} is answered")
    return fake.answers(channel)[before]


def test_what_is_read_is_answered_at_once(host: Host, fake: FakePlatform) -> None:
    """Also where only mentions are passed on."""
    assert ask(fake, "read", "/services").splitlines()[0] == "2 of 2 run."
    assert ask(fake, "read", "!why steady").startswith("steady runs, for ")
    assert "```" in ask(fake, "read", "/logs fakeplatform")
    assert ask(fake, "read", "/why steadi").endswith("Did you mean steady?")
    assert ask(fake, "read", "/restart").startswith("Write /restart")
    assert ask(fake, "read", "/yes").startswith("Nothing waits")


def test_others_get_nothing_special(host: Host, fake: FakePlatform) -> None:
    """Their words are messages like any other: here nobody is mentioned."""
    fake.say("others", "/services", author="bob")
    assert ask(fake, "others", "/services").startswith("2 of 2")

    assert len(fake.answers("others")) == 1


def test_a_restart_is_carried_out_once_it_is_confirmed(host: Host, fake: FakePlatform) -> None:
    """By the same person, in the same channel."""
    before = host.status("steady")["generation"]
    assert ask(fake, "one", "/restart steady").startswith("Restart steady?")
    assert ask(fake, "two", "/yes").startswith("Nothing waits")
    assert ask(fake, "one", "/yes") == "steady was restarted and runs."
    assert ask(fake, "one", "/yes").startswith("Nothing waits")

    assert host.status("steady")["generation"] == before + 1
    ordered = host.events("service.ordered", "steady")[-1]["data"]
    assert (ordered["order"], ordered["by"]) == ("restart", PLATFORM)
    assert ordered["why"].startswith("by ada in the chat")


def test_a_refused_order_is_not_carried_out(host: Host, fake: FakePlatform) -> None:
    """It cannot be confirmed afterwards."""
    before = host.status("steady")["generation"]
    ask(fake, "no", "/restart steady")

    assert ask(fake, "no", "/no") == "Not done."
    assert ask(fake, "no", "/yes").startswith("Nothing waits")
    assert host.status("steady")["generation"] == before


def test_pause_and_resume(host: Host, fake: FakePlatform) -> None:
    """A paused service runs and takes nothing, as by the command line."""
    ask(fake, "pause", "/pause steady")
    assert ask(fake, "pause", "/yes").startswith("steady is paused.")
    row = host.status("steady")
    assert (row["state"], row["paused"], row["paused_by"]) == ("running", True, PLATFORM)
    assert "steady: is paused, " in ask(fake, "pause", "/services")
    assert ask(fake, "pause", "/resume steady").startswith("steady takes calls")
    assert host.status("steady")["paused"] is False


def test_the_platform_itself_is_restarted_after_its_answer(host: Host, fake: FakePlatform) -> None:
    """Once: the confirmation may be received again, and has its answer then."""
    before = host.status(PLATFORM)["generation"]
    ask(fake, "self", f"/restart {PLATFORM}")
    assert ask(fake, "self", "/yes") == f"{PLATFORM} is restarted now."
    until(lambda: host.status(PLATFORM)["generation"] > before)
    assert "of 2 run." in ask(fake, "self", "/services")

    assert host.status(PLATFORM)["generation"] == before + 1
    assert len(fake.answers("self")) == 3
