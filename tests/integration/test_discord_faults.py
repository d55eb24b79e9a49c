"""The discord service while Discord's wire fails, on the bridge: each answer arrives once."""

import os
from collections.abc import Iterator

import pytest
from tests.support.discord_client import DiscordBridge, discord_bridge
from tests.support.host import Host, hosting
from tests.support.waiting import until

pytestmark = pytest.mark.external

CONFIG = """
[plugins]
agent = {{}}
mailbox = {{}}
parrot = {{}}
discord = {{}}
[defaults]
intensity = 0
[services.discord]
secrets = ["DISCORD_TOKEN"]
[services.discord.config]
settle = 0.3
deliver_timeout = 1.5
presence = "reading"
shards = {shards}
message_content = {content}
base_url = "{url}"
"""
POSTS = "*/messages"


@pytest.fixture(scope="module")
def bridge() -> Iterator[DiscordBridge]:
    """Run Discord."""
    with discord_bridge("general", "random") as there:
        yield there


@pytest.fixture(scope="module")
def bot(bridge: DiscordBridge) -> Iterator[Host]:
    """Run the bot; it has answered once."""
    config = CONFIG.format(url=bridge.url, shards=1, content="true")
    with hosting(
        config, ["parrot"], env={"DISCORD_TOKEN": f"token-{os.getpid()}"}, up=False
    ) as host:
        host.up()
        ask(bridge, "short")
        bridge.until_answered()
        yield host


def ask(bridge: DiscordBridge, kind: str, channel: str = "general") -> None:
    """Ask the next question."""
    bridge.say(channel, f"q{len(bridge.counts().questions) + 1} {kind}")


@pytest.mark.parametrize(
    "kind",
    ["429", "429 global", "500", "done 500", "done 502", "503", "cut", "half", "reset", "slow"],
)
def test_a_fault_of_a_send(bot: Host, bridge: DiscordBridge, kind: str) -> None:
    """Whether the message arrived or not, it is there once, and those behind it follow."""
    bridge.fail(kind, POSTS, method="POST", seconds=2.0 if kind == "slow" else 0.2)
    before = len(bridge.faults)
    ask(bridge, "short")
    ask(bridge, "long")
    assert bridge.until_answered().faults == {}
    assert bridge.faults[before:] == [kind]


def test_faults_while_it_is_looked_for(bot: Host, bridge: DiscordBridge) -> None:
    """An uncertain message waits until the history can be read."""
    bridge.fail("cut", POSTS, method="POST")
    bridge.fail("503", POSTS, method="GET", times=2)
    ask(bridge, "short")
    assert bridge.until_answered().faults == {}
    until(lambda: bridge.faults[-3:] == ["cut", "503", "503"])
    ask(bridge, "short")
    assert bridge.until_answered().faults == {}


def test_a_connection_of_the_gateway_is_resumed(bot: Host, bridge: DiscordBridge) -> None:
    """What was written meanwhile comes over the session; the process stays."""
    pid, resumed = bot.status("discord")["pid"], bridge.resumed
    bridge.disconnect(keep=True)
    ask(bridge, "short")
    assert bridge.until_answered().faults == {}
    assert bridge.resumed == resumed + 1
    assert bot.status("discord")["pid"] == pid


def test_a_session_that_is_lost(bot: Host, bridge: DiscordBridge) -> None:
    """A restart reads what was written meanwhile; no session is begun in between."""
    pid, identified = bot.status("discord")["pid"], len(bridge.identified)
    bridge.disconnect(keep=False)
    ask(bridge, "short")
    ask(bridge, "short", "random")
    assert bridge.until_answered().faults == {}
    bot.until_reborn("discord", pid)
    assert len(bridge.identified) == identified + 1
    reasons = [one["data"].get("reason") or "" for one in bot.events("service.state", "discord")]
    assert any("Discord has ended the bot's session" in one for one in reasons)


def test_a_deaf_gateway_is_found_and_repaired(bot: Host, bridge: DiscordBridge) -> None:
    """A probe has the gateway answer; where it does not, the bot connects again and resumes."""
    assert bot.run("probe", "discord").code == 0
    resumed = bridge.resumed
    bridge.deafen()
    ask(bridge, "short")
    assert bot.run("probe", "discord").code != 0
    assert bridge.until_answered().faults == {}
    assert bridge.resumed > resumed
    until(lambda: bot.run("probe", "discord").code == 0)


def test_what_the_bot_identifies_with(bot: Host, bridge: DiscordBridge) -> None:
    """Its presence is shown, and it asks for no more than it uses."""
    identified = bridge.identified[-1]
    assert identified["presence"]["game"]["state"] == "reading"
    intents = identified["intents"]
    assert intents & 1 << 15  # message content
    assert not intents & (1 << 1 | 1 << 8 | 1 << 11)  # members, presences, typing


def test_shards_and_an_intent_that_is_not_there() -> None:
    """Each shard gets the messages of its servers; `status` says what a bot cannot read."""
    with discord_bridge("general", guilds=2) as bridge:
        bridge.set(shards=2)
        config = CONFIG.format(url=bridge.url, shards='"auto"', content="false")
        with hosting(
            config, ["parrot"], env={"DISCORD_TOKEN": f"second-{os.getpid()}"}, up=False
        ) as host:
            host.up()
            assert [one["shard"] for one in bridge.identified] == [[0, 2], [1, 2]]
            until(lambda: "mentions and commands only" in str(host.status("discord")["warnings"]))
            bridge.say("@ada", "q1 short")
            bridge.say("general-1", "q2 short <@{bot}>")
            bridge.say("general", "q3 short <@{bot}>")
            assert bridge.until_answered().faults == {}
            bridge.say("general", "q4 short")
            host.end()
        assert len(bridge.counts().unanswered) == 1
