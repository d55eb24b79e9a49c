"""The bundled Discord bot, and the guide's, with the real library, answer once whoever is killed.

The other side is simcord's Discord on loopback: `tests/support/discord_bridge.py`.
"""

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator

import pytest
from tests.support.discord_client import DiscordBridge, discord_bridge
from tests.support.host import Host, hosting
from tests.support.pages import PAGES
from tests.support.waiting import until

pytestmark = pytest.mark.external

CHANNELS = ("general", "random")
VICTIMS = ("discord", "agent", "parrot", "mailbox", "supervisor")
KILLS = {"bundled": 8, "guide": 3}
KILL_S = 0.05  # after a message, at most
CONFIG = """
[plugins]
agent = {}
mailbox = {}
parrot = {}
discord = {use}
[defaults]
intensity = 0
[services.discord]
secrets = ["DISCORD_TOKEN"]
[services.discord.config]
settle = 0.3
max_length = 80
"""


USE = {"bundled": "{}", "guide": '{ use = "my_discord:discord_plugin" }'}
# What the bundled one is told by a key, the guide's file has appended
BASE_URL = 'base_url = "{url}"'


@pytest.fixture(scope="module", params=KILLS)
def kind(request: pytest.FixtureRequest) -> str:
    """Return which bot runs."""
    return str(request.param)


@pytest.fixture(scope="module")
def bridge(kind: str) -> Iterator[DiscordBridge]:
    """Run Discord."""
    with discord_bridge(*CHANNELS) as there:
        yield there


@pytest.fixture(scope="module")
def bot(kind: str, bridge: DiscordBridge) -> Iterator[Host]:
    """Run the bot; it has answered once in each channel."""
    files = {"config.toml": CONFIG.replace("{use}", USE[kind])}
    if kind == "guide":
        code = PAGES["docs/guide/services.md"].files["my_discord.py"]
        files["my_discord.py"] = code + bridge.pointed
    else:
        files["config.toml"] += BASE_URL.replace("{url}", bridge.url)
    env = {"DISCORD_TOKEN": f"token-{os.getpid()}"}
    with hosting("", ["parrot"], files, env, up=False) as host:
        host.up()
        bridge.until_bots(1)
        for channel in CHANNELS:
            ask(bridge, channel, "short")
        bridge.until_answered()
        yield host


def ask(bridge: DiscordBridge, channel: str, kind: str) -> None:
    """Ask the next question."""
    bridge.say(channel, f"q{len(bridge.counts().questions) + 1} {kind}")


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_victim_is_killed_while_the_bot_answers(
    bot: Host, bridge: DiscordBridge, kind: str, victim: str
) -> None:
    """Each message has one answer, in its channel's order, also one that is split."""
    drawn = random.Random(VICTIMS.index(victim))
    for _ in range(KILLS[kind]):
        if victim != "supervisor":
            bot.ask("reset", victim)
        pid = bot.pid if victim == "supervisor" else bot.status(victim)["pid"]
        for channel in drawn.choices(CHANNELS, k=3):
            ask(bridge, channel, drawn.choice(["short", "long"]))
        time.sleep(drawn.uniform(0, KILL_S))  # the moment is what is tried
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        if victim == "supervisor":
            bot.end()
            bot.up()
        else:
            bot.until_reborn(victim, pid)
        bridge.until_answered()

    assert bridge.counts().faults == {}


def test_a_connection_that_ends_after_a_message_arrived(bot: Host, bridge: DiscordBridge) -> None:
    """The library raises, and the bot finds the message in the channel's history."""
    bridge.drop()
    ask(bridge, "general", "long")
    counts = bridge.until_answered()
    assert counts.faults == {}
    until(lambda: "platform.uncertain" in bot.log("discord"))


def test_what_was_said_while_the_bot_was_stopped(bot: Host, bridge: DiscordBridge) -> None:
    """It is read from the history, and answered in order."""
    bot.ask("stop", "discord")
    for channel in (*CHANNELS, *CHANNELS):
        ask(bridge, channel, "short")
    bot.ask("start", "discord")
    assert bridge.until_answered().faults == {}
