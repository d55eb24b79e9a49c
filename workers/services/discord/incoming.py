"""What Discord sends, as garrison's messages and events."""

from typing import TYPE_CHECKING, Any

from garrison.workers import Content, Heard, Media, Memory

if TYPE_CHECKING:
    import discord

    from .config import Config, GuildConfig

DIRECT, GROUP = "DM", "GROUP"


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


def _about(
    message: "discord.Message", bot: "discord.abc.Snowflake", config: "Config"
) -> dict[str, Any]:
    author, channel = message.author, message.channel
    parent = getattr(channel, "parent", None)  # of a thread
    mentioned = any(user.id == bot.id for user in message.mentions) or _mentions_role(message)
    about: dict[str, Any] = {
        "name": author.display_name,
        "bot": author.bot,
        "own": author.id == bot.id,
        "mentioned": mentioned,
        "channel_name": getattr(channel, "name", ""),
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
    named = {channel, about["channel_name"], f"#{about['channel_name']}"}
    named |= {about.get("parent_id", ""), about.get("parent_name", "")}
    if own.channels and not named & set(own.channels):
        return False
    return bool(about["mentioned"]) or not own.mentions_only


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
