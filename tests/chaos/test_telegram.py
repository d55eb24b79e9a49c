"""The Telegram bot answers once whoever is killed, but for what is uncertain, which is counted.

The other side is `tests/support/telegram_server.py`.
"""

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import time
from collections.abc import Iterator

import pytest
from tests.support.answer_counts import Counts
from tests.support.host import Host, hosting
from tests.support.telegram_client import TelegramServer, telegram_server
from tests.support.waiting import until

ROOMS = ("77", "-1001", "-1001/5")
OTHERS = ("agent", "parrot", "mailbox", "supervisor")
KILLS = 10
KILLS_LONG = 100
KILL_S = 0.05  # after a message, at most
CONFIG = """
[plugins]
agent = {{}}
mailbox = {{}}
parrot = {{}}
telegram = {{}}
[defaults]
intensity = 0
[services.telegram]
secrets = ["TELEGRAM_BOT_TOKEN"]
[services.telegram.config]
base_url = "{url}"
settle = 0.1
max_length = 80
poll_timeout = 5
"""


class Conversation:
    """A bot, and what it is asked."""

    def __init__(self, host: Host, server: TelegramServer) -> None:
        self.host, self.server = host, server
        self.drawn = random.Random(7)
        self.asked = 0

    def ask(self, room: str = "") -> None:
        """Ask the next question."""
        self.asked += 1
        kind = self.drawn.choice(["short", "long"])
        self.server.say(room or self.drawn.choice(ROOMS), f"q{self.asked} {kind}")

    def kill(self, victim: str) -> None:
        """Ask, kill a victim a moment later, and wait until nothing is under way."""
        if victim != "supervisor":
            self.host.ask("reset", victim)
        pid = self.host.pid if victim == "supervisor" else self.host.status(victim)["pid"]
        for _ in range(3):
            self.ask()
        time.sleep(self.drawn.uniform(0, KILL_S))  # the moment is what is tried
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        if victim == "supervisor":
            self.host.end()
            self.host.up()
        else:
            self.host.until_reborn(victim, pid)
        self.until_idle()

    def until_idle(self) -> None:
        """Wait until Telegram keeps no update and the mailbox no message."""
        self.server.until_confirmed()

        def waiting() -> int:
            listed = asyncio.run(self.host.call("mailbox", "ls"))
            return sum(row["waiting"] for row in listed["receivers"])

        until(lambda: not waiting(), what="the mailbox is empty")

    def uncertain(self) -> int:
        """Return how many parts of answers are uncertain, by the log: one process has it open."""
        self.host.ask("stop", "telegram")
        path = self.host.home / "state" / "services" / "telegram" / "platform.db"
        with contextlib.closing(sqlite3.connect(path)) as log:
            states = dict(log.execute("SELECT state, count(*) FROM sends GROUP BY state"))
        self.host.ask("start", "telegram")
        return int(states.get("uncertain", 0))

    def check(self) -> Counts:
        """Check that nothing is there twice, and that no more is missing than is uncertain."""
        counts, uncertain = self.server.counts(), self.uncertain()
        assert (counts.twice, counts.disordered, counts.stray) == ([], [], [])
        assert len(counts.unanswered) <= uncertain, counts
        assert counts.unmarked == []
        return counts


@pytest.fixture(scope="module")
def conversation() -> Iterator[Conversation]:
    """Run a bot; it has answered in each room."""
    with telegram_server() as server:
        files = {"config.toml": CONFIG.format(url=server.url)}
        env = {"TELEGRAM_BOT_TOKEN": f"{os.getpid()}:chaos"}
        with hosting("", ["parrot"], files, env, up=False) as host:
            host.up()
            server.until_polled()
            running = Conversation(host, server)
            for room in ROOMS:
                running.ask(room)
            server.until_answered()
            yield running


@pytest.mark.external
def test_the_bot_is_killed_in_a_conversation(conversation: Conversation) -> None:
    """Every message has one answer, in its room's order, or a part of it is uncertain."""
    for _ in range(KILLS):
        conversation.kill("telegram")
    conversation.check()


@pytest.mark.soak
def test_the_bot_is_killed_very_often(conversation: Conversation) -> None:
    """The same; a line of figures."""
    before = conversation.uncertain()
    for _ in range(KILLS_LONG):
        conversation.kill("telegram")
    counts = conversation.check()
    print(
        f"kills={KILLS_LONG} questions={len(counts.questions)} twice={len(counts.twice)}",
        f"unanswered={len(counts.unanswered)} uncertain={conversation.uncertain() - before}",
    )


@pytest.mark.external
def test_another_process_is_killed(conversation: Conversation) -> None:
    """The bot's own process lives, so it knows of each send: nothing is uncertain."""
    before = conversation.uncertain()
    for victim in OTHERS:
        conversation.kill(victim)
    conversation.check()
    assert conversation.uncertain() == before


@pytest.mark.external
def test_what_was_said_while_the_bot_was_stopped(conversation: Conversation) -> None:
    """Telegram has kept it, and it is answered in order."""
    before = len(conversation.server.counts().unanswered)
    conversation.host.ask("stop", "telegram")
    for room in (*ROOMS, *ROOMS):
        conversation.ask(room)
    conversation.host.ask("start", "telegram")
    conversation.until_idle()
    assert len(conversation.check().unanswered) == before
