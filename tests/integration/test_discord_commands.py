"""The discord service's slash commands and buttons, on the bridge of Discord's wire."""

import contextlib
import os
from collections.abc import Iterator

import pytest
from tests.support.answer_counts import Said
from tests.support.discord_client import DiscordBridge, discord_bridge
from tests.support.host import Host, hosting
from tests.support.waiting import until

pytestmark = pytest.mark.external

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
channels = ["#general"]
settle = 0.3
base_url = "{url}"
"""


@pytest.fixture(scope="module")
def bridge() -> Iterator[DiscordBridge]:
    """Run Discord."""
    with discord_bridge("general", "random") as there:
        yield there


@pytest.fixture(scope="module")
def bot(bridge: DiscordBridge) -> Iterator[Host]:
    """Run the bot; its commands are registered."""
    files = {"config.toml": CONFIG.format(url=bridge.url)}
    with hosting(
        "", ["parrot", "asking"], files, {"DISCORD_TOKEN": f"token-{os.getpid()}"}, up=False
    ) as host:
        host.up()
        until(lambda: len(bridge.commands()) == 4, what="commands are registered")
        yield host


def said(bridge: DiscordBridge, start: str) -> Said:
    """Return the bot's message that begins so, once it is there."""

    def found() -> Said | None:
        return next((one for one in bridge.read() if one.bot and one.text.startswith(start)), None)

    message = until(found, what=f"the bot says {start}")
    assert message is not None
    return message


def test_actions_are_commands(bot: Host, bridge: DiscordBridge) -> None:
    """Parameters are options in Discord's letters; an action without any has one text."""
    found = bridge.commands()
    assert sorted(found) == ["ask_them", "keep_quiet", "recite", "tell"]
    options = [(one["name"], one["type"], one.get("required")) for one in found["tell"]["options"]]
    assert options == [("word", 3, True), ("pieces", 4, False), ("loud", 5, False)]
    assert [one["name"] for one in found["ask_them"]["options"]] == ["text"]


def test_an_unchanged_list_is_not_registered_again(bot: Host, bridge: DiscordBridge) -> None:
    """Discord limits how many commands a bot creates in a day."""
    before = bridge.synced
    bot.ask("restart", "discord")
    bridge.slash("general", "tell", word="q100")
    said(bridge, "[q100.1/1]")
    assert bridge.synced == before


def test_the_answer_is_the_commands_response(bot: Host, bridge: DiscordBridge) -> None:
    """Further messages follow as any other; options arrive under the action's own names."""
    bridge.slash("general", "tell", word="q101", pieces=2, loud=True)
    first, second = said(bridge, "[q101.1/2] LOUD"), said(bridge, "[q101.2/2] LOUD")
    assert (first.is_response, second.is_response) == (True, False)
    assert second.reply_to == ""


def test_a_long_answer_arrives_whole(bot: Host, bridge: DiscordBridge) -> None:
    """The first part is the response, the others follow, and the code block stays one."""
    bridge.slash("general", "recite")
    said(bridge, "Here it is")
    until(lambda: any("That was all." in one.text for one in bridge.read()))
    texts = [one.text for one in bridge.read() if one.bot]
    parts = texts[next(n for n, text in enumerate(texts) if text.startswith("Here it is")) :]
    assert len(parts) == 3
    assert all(len(one) <= 2000 and one.count("```") == 2 for one in parts)
    lines = [line for one in parts for line in one.splitlines() if line.startswith("line ")]
    assert lines == [f"line {number}: print({number})" for number in range(220)]


def test_a_command_without_an_answer_ends(bot: Host, bridge: DiscordBridge) -> None:
    """Its waiting does not stay until Discord gives it up."""
    bridge.slash("general", "keep_quiet")
    assert said(bridge, "Done.").is_response


def test_a_command_whose_time_is_over_is_answered_in_the_channel(
    bot: Host, bridge: DiscordBridge
) -> None:
    """Discord has no response for it any more."""
    bridge.fail("slow", "*/callback", seconds=0.5)
    interaction = bridge.slash("general", "tell", word="q102")
    bridge.expire(interaction)
    assert not said(bridge, "[q102.1/1]").is_response


def test_a_command_elsewhere_is_refused(bot: Host, bridge: DiscordBridge) -> None:
    """Only the person sees it."""
    bridge.slash("random", "tell", word="q103")
    until(lambda: bridge.read() and bridge.counted["private"] == ["I do not answer here."])
    assert not any("q103" in one.text for one in bridge.read() if one.bot)


def test_a_broken_connection_leaves_one_response(bot: Host, bridge: DiscordBridge) -> None:
    """The response is read back, and not written twice."""
    bridge.fail("cut", "*/messages/@original", method="PATCH")
    bridge.slash("general", "tell", word="q104")
    said(bridge, "[q104.1/1]")
    until(lambda: "platform.uncertain" in bot.log("discord"))
    bridge.slash("general", "tell", word="q105")
    said(bridge, "[q105.1/1]")
    assert sum(one.text.startswith("[q104") for one in bridge.read()) == 1


def test_a_button_says_its_value_once(bot: Host, bridge: DiscordBridge) -> None:
    """Its answer refers to the message that had it; afterwards no button can be pressed."""
    bridge.slash("general", "ask_them", text="q106 q107 short q108 short")
    asked = said(bridge, "[q106.1/1]")
    assert asked.choices == ["Choice 1", "Choice 2"]
    bridge.press("general", asked.id, "Choice 2")
    with contextlib.suppress(OSError):  # the buttons are disabled already
        bridge.press("general", asked.id, "Choice 1")
    answer = said(bridge, "[q108.1/1]")
    assert answer.reply_to == asked.id
    with pytest.raises(OSError, match="409"):
        bridge.press("general", asked.id, "Choice 1")
    bridge.say("general", "q109 short")
    said(bridge, "[q109.1/1]")
    assert not any("q107" in one.text for one in bridge.read() if one.bot)


def test_a_button_works_after_a_restart(bot: Host, bridge: DiscordBridge) -> None:
    """Its value is in its id."""
    bridge.slash("general", "ask_them", text="q110 q111 short")
    asked = said(bridge, "[q110.1/1]")
    bot.ask("restart", "discord")
    bridge.press("general", asked.id, "Choice 1")
    said(bridge, "[q111.1/1]")


def test_tokens_are_readable_by_the_owner_alone(bot: Host, bridge: DiscordBridge) -> None:
    """They are kept for as long as they are valid, for a restart."""
    bridge.slash("general", "tell", word="q112")
    said(bridge, "[q112.1/1]")
    folder = next(bot.home.rglob("interactions"))
    files = list(folder.glob("*.json"))
    assert files
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {one.stat().st_mode & 0o777 for one in files} == {0o600}


def test_a_killed_worker_answers_what_it_has_acknowledged(bot: Host, bridge: DiscordBridge) -> None:
    """The response that waits is filled by the next process."""
    pid = bot.status("discord")["pid"]
    bot.ask("stop", "agent")
    bridge.read()
    waiting = bridge.counted["waiting"] + 1
    bridge.slash("general", "tell", word="q113")
    until(lambda: bridge.read() and bridge.counted["waiting"] == waiting, what="it is acknowledged")
    bot.kill("discord")
    bot.until_reborn("discord", pid)
    bot.ask("start", "agent")
    assert said(bridge, "[q113.1/1]").is_response
