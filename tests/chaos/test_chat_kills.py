"""What operators order, and what an owner is told, is done and told once, whoever is killed.

`pytest tests/chaos/test_chat_kills.py -m soak` has a hundred kills in place of ten.
"""

import contextlib
import os
import random
import re
import signal
import time
from collections.abc import Iterator

import pytest
from tests.support.host import Host, hosting
from tests.support.platform_client import FakePlatform, fake_platform
from tests.support.waiting import until

PLATFORM = "fakeplatform"
VICTIMS = (PLATFORM, "agent", "mailbox")
KILL_S = 0.15  # after what is tried began, at most
TIMES = re.compile(r"restarted (\d+) (?:more )?times?|is down \((\d+) times\)")
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
operators = ["ada"]
settle = 0.3
[plugins.steady]
use = "steady"
"""
KILLS = [pytest.param(10, marks=pytest.mark.external), pytest.param(100, marks=pytest.mark.soak)]


@pytest.fixture
def fake() -> Iterator[FakePlatform]:
    """Run a platform."""
    with fake_platform() as platform:
        yield platform


@pytest.fixture
def host(fake: FakePlatform) -> Iterator[Host]:
    """Run a host with its bot."""
    with hosting(CONFIG.format(fake=fake.path), ["fakeplatform", "steady"]) as running:
        fake.until_bots(1)
        yield running


def kill(host: Host, name: str) -> int:
    """Kill a service; return its pid."""
    pid: int = host.status(name)["pid"] or 0
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return pid


def until_running(host: Host, name: str, pid: int) -> None:
    """Wait until another process of a service runs; its crashes no longer count."""

    def is_there() -> bool:
        row = host.status(name)
        return row["state"] == "running" and row["pid"] not in {0, None, pid}

    until(is_there, what=f"{name} runs again")
    host.ask("reset", name)


@pytest.mark.parametrize("kills", KILLS)
def test_a_confirmed_order_is_carried_out_and_answered_once(
    host: Host, fake: FakePlatform, kills: int
) -> None:
    """The platform is killed at any moment after the confirmation."""
    drawn, before = random.Random(1), host.status("steady")["generation"]
    for number in range(kills):
        channel = f"c{number}"
        fake.say(channel, "/restart steady")
        until(lambda: fake.answers(channel))  # noqa: B023 (called within this turn)
        fake.say(channel, "/yes")
        time.sleep(drawn.uniform(0, KILL_S))  # the moment is what is tried
        until_running(host, PLATFORM, kill(host, PLATFORM))
        until(lambda: len(fake.answers(channel)) >= 2)  # noqa: B023

    answers = [fake.answers(f"c{number}") for number in range(kills)]
    assert [len(one) for one in answers] == [2] * kills
    assert {one[1] for one in answers} == {"steady was restarted and runs."}
    assert host.status("steady")["generation"] == before + kills


def told(fake: FakePlatform) -> int:
    """Return how many crashes of the steady service the owner has read of."""
    count = 0
    for line in "\n".join(fake.answers("dm-ada")).splitlines():
        if line.startswith("steady ") and ("was restarted" in line or "is down" in line):
            found = TIMES.search(line)
            count += int(found[1] or found[2]) if found else 1
    return count


@pytest.mark.parametrize("kills", KILLS)
def test_each_crash_is_told_once(host: Host, fake: FakePlatform, kills: int) -> None:
    """The teller, the mailbox or the platform is killed at any moment after it."""
    drawn = random.Random(2)
    for _ in range(kills):
        victim = drawn.choice(VICTIMS)
        steady = kill(host, "steady")
        time.sleep(drawn.uniform(0, 4 * KILL_S))  # the moment is what is tried
        pid = kill(host, victim)
        until_running(host, "steady", steady)
        until_running(host, victim, pid)
    until(lambda: told(fake) >= kills, what="all of it is told")
    agent = kill(host, "agent")  # what was told is not told again
    until_running(host, "agent", agent)
    last = len(fake.answers("dm-ada"))
    until(lambda: len(fake.answers("dm-ada")) > last, what="the last crash is told")

    assert told(fake) == kills, "\n".join(fake.answers("dm-ada"))
