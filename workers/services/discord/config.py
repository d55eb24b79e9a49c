"""Config keys of the discord service."""

from typing import Annotated, Literal

import msgspec

from garrison.workers import Platform

LIBRARY_BYTES = 25 * 1024 * 1024  # what Discord accepts from a bot by default
Count = Annotated[int, msgspec.Meta(ge=0)]


class GuildConfig(msgspec.Struct):
    """What is different in one guild (server)."""

    channels: list[str] = []  # ids or names of channels; none: every channel
    mentions_only: bool = False
    language: str = ""  # given to the agent with each message


class Config(Platform.Config):
    """`[services.discord.config]`."""

    guilds: list[str] = []  # ids or names of the guilds that are served; none: every guild
    deny_guilds: list[str] = []  # ids or names of guilds that are not
    guild: dict[str, GuildConfig] = {}  # by a guild's id: its keys replace the common ones
    message_content: bool = True  # the intent; without it: mentions and commands only
    allowed_mentions: list[Literal["users", "roles", "everyone"]] = []  # that the bot may ping
    presence: str = ""  # shown as the bot's status
    attachment_bytes: Count = LIBRARY_BYTES  # of a file that is sent
    session_reserve: Count = 50  # of Discord's session starts a day; below, it waits
    shards: Literal["auto"] | Annotated[int, msgspec.Meta(ge=1)] = 1
    done_text: str = "Done."  # ends a command that had nothing to say; "": the waiting is deleted
