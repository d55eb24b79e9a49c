"""Commands and buttons of the Discord bot are answered once, whoever is killed.

A command or press that reaches no process is none: Discord shows the person that it failed.
"""

import contextlib
import itertools
import os
import random
import signal
import time
from collections.abc import Iterator

import pytest
from tests.support.discord_client import DiscordBridge, discord_bridge
from tests.support.host import Host, hosting
from tests.support.waiting import until

CHANNELS = ("general", "commands", "buttons")
KILL_S = 0.06  # after a question, at most
CONFIG = """
[plugins]
agent = {{}}
mailbox = {{}}
parrot = {{}}
asking = {{}}
discord = {{}}
[defaults]
intensity = 0
[services.discord]
secrets = ["DISCORD_TOKEN"]
[services.discord.config]
settle = 0.3
max_length = 80
base_url = "{url}"
"""


class Talk:
    """A conversation: a question in each channel at a time, each of another kind."""

    def __init__(self, bridge: DiscordBridge, first: int) -> None:
        self._bridge = bridge
        self._numbers = itertools.count(first)
        self._pressed: set[str] = set()

    def ask(self, drawn: random.Random) -> None:
        """Write a message, send a command, and press a button or have some offered."""
        bridge = self._bridge
        bridge.say("general", f"q{next(self._numbers)} {drawn.choice(['short', 'long'])}")
        word = f"q{next(self._numbers)}"
        bridge.slash("commands", "tell", word=word, pieces=drawn.choice([1, 2]))
        offers = [one for one in bridge.read() if one.choices and one.id not in self._pressed]
        if not offers:
            text = f"q{next(self._numbers)} q{next(self._numbers)} short"
            bridge.slash("buttons", "ask_them", text=text)
            return
        offer = offers[0]
        number = int(offer.text.removeprefix("[q").partition(".")[0])
        bridge.press("buttons", offer.id, "Choice 1", f"q{number + 1} short")
        self._pressed.add(offer.id)

    def until_answered(self) -> dict[str, list[str]]:
        """Wait until all is answered; return what is wrong. A failed press is tried again."""
        counts = self._bridge.until_answered()
        self._pressed -= {one.removeprefix("choice-") for one in self._bridge.counted["passed"]}
        return counts.faults


@pytest.fixture(scope="module")
def bridge() -> Iterator[DiscordBridge]:
    """Run Discord."""
    with discord_bridge(*CHANNELS) as there:
        yield there


@pytest.fixture(scope="module")
def bot(bridge: DiscordBridge) -> Iterator[Host]:
    """Run the bot; its commands are registered."""
    config = CONFIG.format(url=bridge.url)
    files = {"config.toml": config}
    env = {"DISCORD_TOKEN": f"token-{os.getpid()}"}
    with hosting("", ["parrot", "asking"], files, env, up=False) as host:
        host.up()
        until(lambda: len(bridge.commands()) == 4, what="commands are registered")
        yield host


def run(bot: Host, bridge: DiscordBridge, victims: list[str]) -> None:
    """Kill one process after the other in a conversation."""
    drawn, talk = random.Random(len(victims)), Talk(bridge, 1000 * len(victims))
    for victim in victims:
        bot.ask("reset", victim)
        pid = bot.status(victim)["pid"]
        talk.ask(drawn)
        time.sleep(drawn.uniform(0, KILL_S))  # the moment is what is tried
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        bot.until_reborn(victim, pid)
        assert talk.until_answered() == {}
    responses = [one for one in bridge.read() if one.is_response]
    assert len(responses) > len(victims) // 2  # commands that no process has taken are none


@pytest.mark.external
def test_processes_are_killed_in_a_conversation(bot: Host, bridge: DiscordBridge) -> None:
    """Nothing that the bot has acknowledged is unanswered, and nothing is answered twice."""
    run(bot, bridge, ["discord"] * 8 + ["agent", "mailbox"])


@pytest.mark.soak
def test_the_worker_is_killed_a_hundred_times(bot: Host, bridge: DiscordBridge) -> None:
    """The same, for longer."""
    run(bot, bridge, ["discord"] * 100)
