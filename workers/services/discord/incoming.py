"""What Discord sends, as garrison's messages and events."""

from typing import TYPE_CHECKING, Any

from garrison.workers import Command, Content, Heard, Media, Memory

from .commands import options_of, text_of

if TYPE_CHECKING:
    import discord

    from .config import Config, GuildConfig

DIRECT, GROUP = "DM", "GROUP"
# What the ids of messages begin with that are no messages of Discord, but interactions
COMMAND, CHOICE = "command-", "choice-"


def heard(message: "discord.Message", bot: "discord.abc.Snowflake", config: "Config") -> Heard:
    """Return a message as `Platform.receive` takes it.

    Args:
        message: Of the library.
        bot: The bot's own user.
        config: For the guild's keys.
    """
    channel = str(message.channel.id)
    memory = Memory(
        id=str(message.id),
        content=Content(
            text=message.clean_content,
            channel_type=GROUP if message.guild else DIRECT,
            url=message.jump_url,
            in_reply_to=_replied_to(message),
            attachments=[media(one) for one in message.attachments],
        ),
        entity_id=str(message.author.id),
        room_id=channel,
        world_id=str(message.guild.id) if message.guild else "",
        created_at=message.created_at.timestamp(),
        metadata=_about(message, bot, config),
    )
    return Heard(memory, stream=channel, position=str(message.id))


def commanded(
    interaction: "discord.Interaction", command: Command, bot: "discord.abc.Snowflake", c: "Config"
) -> Memory:
    """Return a command that a person has chosen, as a message.

    Args:
        interaction: Of the library.
        command: As it is registered.
        bot: The bot's own user.
        c: The config.
    """
    data: Any = interaction.data
    given = {one["name"]: one.get("value") for one in data.get("options") or []}
    content = Content(
        text_of(command, given),
        actions=[command.action],
        data={"options": options_of(command, given)},
    )
    return _interacted(interaction, f"{COMMAND}{interaction.id}", content, bot, c)


def chosen(
    interaction: "discord.Interaction", text: str, bot: "discord.abc.Snowflake", c: "Config"
) -> Memory:
    """Return the press of a button as a message.

    Its id is that of the message that has the button: of several presses the first one counts.
    """
    assert interaction.message is not None
    message = str(interaction.message.id)
    memory = _interacted(
        interaction, f"{CHOICE}{message}", Content(text, in_reply_to=message), bot, c
    )
    memory.metadata["choice"] = True
    return memory


def _interacted(
    interaction: "discord.Interaction",
    id: str,
    content: Content,
    bot: "discord.abc.Snowflake",
    config: "Config",
) -> Memory:
    """Return an interaction as a message; it counts as one that mentions the bot."""
    content.channel_type = GROUP if interaction.guild_id else DIRECT
    return Memory(
        id=id,
        content=content,
        entity_id=str(interaction.user.id),
        room_id=str(interaction.channel_id),
        world_id=str(interaction.guild_id or ""),
        created_at=interaction.created_at.timestamp(),
        metadata=_about(interaction, bot, config),
    )


def media(attachment: "discord.Attachment") -> Media:
    """Return a file that a message has: its address at Discord, not its content."""
    return Media(
        url=attachment.url,
        id=str(attachment.id),
        title=attachment.filename,
        source="discord",
        description=attachment.description or "",
        content_type=attachment.content_type or "",
    )


def is_served(guild: "discord.Guild | None", config: "Config") -> bool:
    """Return whether the config wants messages of a guild; direct messages are not concerned."""
    if guild is None:
        return True
    names = {str(guild.id), guild.name}
    if names & set(config.deny_guilds):
        return False
    return not config.guilds or bool(names & set(config.guilds))


def is_wanted(memory: Memory, config: "Config") -> bool:
    """Return whether the config wants an interaction, by its channel."""
    about = memory.metadata
    if memory.content.channel_type == DIRECT:
        return not config.ignore_dms
    if "chosen" in about:
        return bool(about["chosen"])
    return _is_listed(config.channels, about, {memory.room_id, memory.world_id})


def _about(
    message: "discord.Message | discord.Interaction", bot: "discord.abc.Snowflake", config: "Config"
) -> dict[str, Any]:
    """Return the metadata of a message, or of an interaction, which mentions the bot."""
    found: Any = message  # an interaction has a user where a message has an author
    author, channel = getattr(found, "author", None) or found.user, found.channel
    parent = getattr(channel, "parent", None)  # of a thread
    about: dict[str, Any] = {
        "name": author.display_name,
        "bot": author.bot,
        "own": author.id == bot.id,
        "mentioned": not hasattr(found, "author") or _mentions(found, bot),
        "channel_name": getattr(channel, "name", None) or "",
    }
    if parent is not None:
        about |= {"parent_id": str(parent.id), "parent_name": parent.name}
    if message.guild is not None:
        about["guild_name"] = message.guild.name
        own = config.guild.get(str(message.guild.id))
        if own is not None:
            about["chosen"] = _is_chosen(own, about, str(channel.id))
            about |= {"language": own.language} if own.language else {}
    return about


def _is_chosen(own: "GuildConfig", about: dict[str, Any], channel: str) -> bool:
    """Return whether a guild's own keys want a message; they replace the common ones."""
    if not _is_listed(own.channels, about, {channel}):
        return False
    return bool(about["mentioned"]) or not own.mentions_only


def _is_listed(channels: list[str], about: dict[str, Any], ids: set[str]) -> bool:
    """Return whether channels of a config name one, or its parent; none is every channel."""
    names = {about["channel_name"], about.get("parent_name", "")} - {""}
    named = ids | names | {f"#{name}" for name in names} | {about.get("parent_id", "")}
    return not channels or bool(named & set(channels))


def _mentions(message: "discord.Message", bot: "discord.abc.Snowflake") -> bool:
    return any(user.id == bot.id for user in message.mentions) or _mentions_role(message)


def _mentions_role(message: "discord.Message") -> bool:
    """Return whether a role is mentioned that is the bot's own."""
    guild = message.guild
    if guild is None or not message.role_mentions:
        return False
    own = guild.self_role
    return own is not None and any(role.id == own.id for role in message.role_mentions)


def _replied_to(message: "discord.Message") -> str:
    reference = message.reference
    if reference is None or reference.message_id is None:
        return ""
    return str(reference.message_id) if reference.channel_id == message.channel.id else ""
