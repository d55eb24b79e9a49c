"""The discord service on the bridge of Discord's wire: what is not an answer.

Answers under kills are in `tests/chaos/test_discord.py`.
"""

import base64
import os
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.discord_client import DiscordBridge, discord_bridge
from tests.support.host import Host, found, hosting
from tests.support.waiting import eventually, until

from garrison.ipc import NotSent, OrderFailed

pytestmark = pytest.mark.external

CONFIG = """
[plugins]
agent = {{}}
mailbox = {{}}
parrot = {{}}
discord = {{}}
notes = {{}}
[defaults]
intensity = 0
[services.discord]
secrets = ["DISCORD_TOKEN"]
[services.discord.config]
channels = ["#general"]
base_url = "{url}"
[services.second]
plugin = "discord"
autostart = false
secrets = ["DISCORD_TOKEN"]
[services.refused]
plugin = "discord"
autostart = false
secrets = {{ DISCORD_TOKEN = "BAD_TOKEN" }}
[services.refused.config]
base_url = "{url}"
[services.saving]
plugin = "discord"
autostart = false
secrets = {{ DISCORD_TOKEN = "OTHER_TOKEN" }}
[services.saving.config]
base_url = "{url}"
"""
NOTES = """
from garrison.workers import Plugin, Service

EVENTS = ("MESSAGE_EDITED", "MESSAGE_DELETED", "REACTION_RECEIVED")


class Notes(Service):
    service_type = "notes"

    @classmethod
    async def start(cls, runtime):
        service = cls(runtime)
        service.seen = []
        for event in EVENTS:
            runtime.register_event(event, service.noting(event))
        return service

    def noting(self, event):
        return lambda payload: self.seen.append([event, payload])

    async def all(self) -> list:
        return self.seen


plugin = Plugin(name="notes", services=[Notes])
"""


@pytest.fixture(scope="module")
def bridge() -> Iterator[DiscordBridge]:
    """Run Discord."""
    with discord_bridge("general", "random") as there:
        yield there


@pytest.fixture(scope="module")
def bot(bridge: DiscordBridge) -> Iterator[Host]:
    """Run the bot, and two with other tokens that are not started."""
    files = {"config.toml": CONFIG.format(url=bridge.url), "notes.py": NOTES}
    names = {"DISCORD_TOKEN": "token", "BAD_TOKEN": "bad", "OTHER_TOKEN": "other"}
    env = {name: f"{token}-{os.getpid()}" for name, token in names.items()}
    with hosting("", ["parrot"], files, env, up=False) as host:
        host.up()
        bridge.until_bots(1)
        yield host


async def noted(bot: Host, event: str) -> list[dict[str, Any]]:
    """Return the events of a name that another service has received."""
    async with bot.connect() as client:
        return [data for name, data in await found(client, "notes").all() if name == event]


async def test_what_becomes_of_a_message(bot: Host, bridge: DiscordBridge) -> None:
    """An edit, a reaction and a deletion are events of their own; none is answered."""
    asked = bridge.say("general", "q1 short")
    bridge.until_answered()
    bridge.edit("general", asked, "q2 short")
    bridge.react("general", asked, "👍")
    bridge.delete("general", asked)
    deleted = await eventually(lambda: noted(bot, "MESSAGE_DELETED"))
    channel = bridge.channels["general"]
    (edited,) = await noted(bot, "MESSAGE_EDITED")
    assert edited["content"]["text"] == "q2 short"
    (reaction,) = await noted(bot, "REACTION_RECEIVED")
    assert (reaction["emoji"], reaction["id"], reaction["room_id"]) == ("👍", asked, channel)
    assert (deleted[0]["id"], deleted[0]["room_id"], deleted[0]["source"]) == (
        asked,
        channel,
        "discord",
    )
    assert bridge.answers() == ["[q1.1/1]"]


async def test_a_file_is_sent_and_a_path_is_not(bot: Host, bridge: DiscordBridge) -> None:
    """Data becomes a file of the message; what names a file of this machine is refused."""
    data = base64.b64encode(b"a small text").decode()
    media = {"url": f"data:text/plain;base64,{data}", "title": "note.txt"}
    channel = bridge.channels["random"]
    async with bot.connect() as client:
        discord = found(client, "discord")
        await discord.send_message(channel, {"text": "a file", "attachments": [media]})
        with pytest.raises(NotSent, match="/etc/passwd"):
            await discord.send_message(
                channel, {"text": "a path", "attachments": [{"url": "/etc/passwd"}]}
            )
        with pytest.raises(NotSent, match="number"):
            await discord.send_message("#random", "by its name")
    sent = [one for one in bridge.read() if one.text == "a file"]
    assert [one.files for one in sent] == [["note.txt"]]


def test_a_channel_that_is_not_listed_is_not_read(bot: Host, bridge: DiscordBridge) -> None:
    """A later message of a listed one is answered."""
    bridge.say("random", "q8 short")
    bridge.say("general", "q9 short")
    until(lambda: "[q9.1/1]" in bridge.answers())
    assert "[q8.1/1]" not in bridge.answers()


def test_direct_messages_and_threads_are_answered(bot: Host, bridge: DiscordBridge) -> None:
    """A thread counts as its channel; a direct message needs no channel of the config."""
    bridge.thread("general", "a thread")
    bridge.say("a thread", "q20 short")
    bridge.say("@ada", "q21 short")
    until(lambda: {"[q20.1/1]", "[q21.1/1]"} <= set(bridge.answers()))
    answers = {one.text: one.channel for one in bridge.read() if one.bot}
    assert answers["[q20.1/1]"] == "a thread"
    assert answers["[q21.1/1]"] == "@ada"


def test_what_discord_itself_writes_is_no_message(bot: Host, bridge: DiscordBridge) -> None:
    """That a member has joined is not answered."""
    bridge.join("general")
    bridge.say("general", "q22 short")
    until(lambda: "[q22.1/1]" in bridge.answers())
    bot.ask("restart", "discord")  # nor is it when it is read from the history
    bridge.say("general", "q23 short")
    until(lambda: "[q23.1/1]" in bridge.answers())
    joined = next(one for one in bridge.read() if one.text == "joined")
    assert not any(one.reply_to == joined.id for one in bridge.read())


async def test_a_file_that_was_sent_is_an_attachment(bot: Host, bridge: DiscordBridge) -> None:
    """It arrives with its address and type, not its content."""
    bridge.say("general", "q24 short", file="note.txt")
    until(lambda: "[q24.1/1]" in bridge.answers())
    async with bot.connect() as client:
        kept = await found(client, "agent").get_memories(
            room_id=bridge.channels["general"], count=20
        )
    contents = [one["content"] for one in kept]
    (media,) = next(one["attachments"] for one in contents if one["text"].startswith("q24"))
    assert media["title"] == "note.txt"
    assert media["url"].startswith("http")


async def test_a_reaction_and_a_direct_message_to_a_person(
    bot: Host, bridge: DiscordBridge
) -> None:
    """Another service can react to a message; what is none of Discord's is refused."""
    asked = bridge.say("general", "q25 short")
    async with bot.connect() as client:
        discord = found(client, "discord")
        channel = bridge.channels["general"]
        await discord.add_reaction(channel, asked, "👍")
        await discord.add_reaction(channel, asked, "👍")
        with pytest.raises(NotSent, match="reaction"):
            await discord.add_reaction(channel, "1", "👍")
    assert bridge.reactions("general", asked) == {"👍": 1}


def test_two_services_with_one_token(bot: Host) -> None:
    """The second one would answer each message again."""
    with pytest.raises(OrderFailed, match="DISCORD_TOKEN is in use"):
        bot.ask("start", "second")


def test_a_refused_token_names_the_place_of_a_new_one(bot: Host) -> None:
    """It is not tried again: too many wrong logins lock a bot out."""
    with pytest.raises(OrderFailed, match=r"https://discord\.com/developers/applications"):
        bot.ask("start", "refused")
    assert "DISCORD_TOKEN" in bot.wait_for("refused", "failed")["reason"]


def test_session_starts_are_left_in_reserve(bot: Host, bridge: DiscordBridge) -> None:
    """Below it the service waits for as long as Discord says, instead of losing the token."""
    bridge.set(starts=10)
    with pytest.raises(OrderFailed, match="10 session starts are left"):
        bot.ask("start", "saving")
    state = {one["data"]["to"]: one["data"] for one in bot.events("service.state", "saving")}
    assert state["backoff"]["wait_s"] > 55.0
