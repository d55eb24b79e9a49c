"""Messages that were written while the bot was away, read from the channels' histories."""

import logging
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from .config import Config
from .incoming import is_served

if TYPE_CHECKING:
    import discord

log = logging.getLogger(__name__)

DISCORD_EPOCH_MS = 1_420_070_400_000
DISCORD_SHIFT = 22  # bits of an id below its time


async def missed(
    client: "discord.Client", library: Any, since: dict[str, str], config: Config
) -> AsyncIterator["discord.Message"]:
    """Yield the messages of all channels after the last position of each, in its order.

    A channel without a position begins at the oldest position of all: it was quiet, or is new.
    """
    known = {channel: int(id) for channel, id in since.items() if id.isdigit()}
    if not known:
        return  # the bot's first start
    first = max(min(known.values()), _id_at(_oldest(config)))
    for channel in _channels(client, known, config):
        after = max(known.get(str(channel.id), first), first)
        last = getattr(channel, "last_message_id", None)
        if last is not None and last <= after:
            continue  # nothing new: no request
        try:
            async for message in channel.history(limit=None, after=library.Object(after)):
                if not message.is_system():
                    yield message
        except (library.Forbidden, library.NotFound) as error:
            log.warning("the history of channel %s cannot be read: %s", channel.id, error)


def _oldest(config: Config) -> float:
    """Return the time before which nothing is caught up; 0.0 is no limit."""
    return 0.0 if config.catch_up is True else time.time() - float(config.catch_up)


def _id_at(unix: float) -> int:
    """Return the smallest id of a time."""
    return max(int(unix * 1000) - DISCORD_EPOCH_MS, 0) << DISCORD_SHIFT


def _channels(client: "discord.Client", known: dict[str, int], config: Config) -> list[Any]:
    """Return the channels and threads of the served guilds, then direct messages that are known."""
    found: dict[str, Any] = {}
    for guild in client.guilds:
        if is_served(guild, config):
            for channel in (*guild.text_channels, *guild.voice_channels, *guild.threads):
                found[str(channel.id)] = channel
    for name in known:
        if name not in found:
            found[name] = client.get_partial_messageable(int(name))
    return list(found.values())
