"""The bot of "Coming from discord.py", with the real library on Discord's wire."""

import os

import pytest
from tests.support.discord_client import discord_bridge
from tests.support.host import hosting
from tests.support.pages import PAGES
from tests.support.waiting import until

pytestmark = pytest.mark.external

PAGE = PAGES["docs/guide/from-discordpy.md"]
REMINDER = "Drink some water."


def test_the_moved_bot_has_its_commands_and_an_agent() -> None:
    """A command and its error are answered by the bot, other messages by the agent. What was said
    while the bot was away is answered, commands are not."""
    code, config = (
        next(block.text for block in PAGE.blocks if block.language == language)
        for language in ("python", "toml")
    )
    with discord_bridge("general", "reminders") as discord:
        files = {
            "my_discord.py": PAGES["docs/guide/services.md"].files["my_discord.py"],
            "my_karma.py": code + discord.pointed,
        }
        config = config.replace("1187432093211", discord.channels["reminders"])
        env = {"DISCORD_TOKEN": f"token-{os.getpid()}"}
        with hosting(config + "remind_every = 0.5\n", files=files, env=env) as host:
            discord.until_bots(1)
            until(lambda: REMINDER in discord.answers(), what="a reminder")
            discord.say("general", "!karma")
            discord.say("general", "!unknown")
            discord.say("general", "I am sad")
            until(lambda: len(replies(discord.answers())) == 2, what="two replies")
            host.ask("stop", "discord")
            discord.say("general", "!karma")
            discord.say("general", "I am still sad")
            host.ask("start", "discord")
            until(lambda: len(replies(discord.answers())) == 3, what="a third reply")
            refused = "Sorry: member is a required argument that is missing."
            assert replies(discord.answers()).count(refused) == 1


def replies(answers: list[str]) -> list[str]:
    """Return what is no reminder."""
    return [text for text in answers if text != REMINDER]
