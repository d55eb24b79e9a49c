"""Which messages a platform passes on: the allow-lists of its config. Pure."""

from garrison.workers.agents.content import Memory

from .config import PlatformConfig

# Keys of a memory's metadata that a platform's author sets
BOT, MENTIONED, OWN, EDITED = "bot", "mentioned", "own", "edited"
CHANNEL_NAME, PARENT_ID, PARENT_NAME = "channel_name", "parent_id", "parent_name"
CHOSEN = "chosen"  # whether the platform's own keys want it, in place of the common ones

# Why a message is not passed on to the agent, that an operator's order is read in spite of
NOT_FOR_AGENT = frozenset({"direct", "not mentioned"})
DIRECT = frozenset({"DM", "VOICE_DM"})


def ignored(memory: Memory, config: PlatformConfig) -> str:
    """Return why a message is not passed on; "" if it is.

    Args:
        memory: As the author gave it.
        config: The platform's keys.
    """
    about = memory.metadata
    is_direct = memory.content.channel_type in DIRECT
    if about.get(OWN):
        return "own"
    if config.ignore_bots and about.get(BOT):
        return "bot"
    if is_direct:
        return "direct" if config.ignore_dms else ""
    if CHOSEN in about:
        return "" if about[CHOSEN] else "channel"
    if config.channels and not _is_listed(memory, config.channels):
        return "channel"
    if config.mentions_only and not about.get(MENTIONED):
        return "not mentioned"
    return ""


def _is_listed(memory: Memory, channels: list[str]) -> bool:
    """Return whether the channel is named, by its id or name, or by that of its parent or world."""
    about = memory.metadata
    named = {memory.room_id, memory.world_id, str(about.get(PARENT_ID) or "")}
    for key in (CHANNEL_NAME, PARENT_NAME):
        name = str(about.get(key) or "")
        named |= {name, f"#{name}"} if name else set()
    return any(one in named for one in channels if one)
