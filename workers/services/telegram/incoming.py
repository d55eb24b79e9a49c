"""What Telegram sends, as garrison's messages and events. Pure.

A room is a chat's id, or `CHAT/TOPIC` for a topic of a forum.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from garrison.workers import Command, Content, Memory

if TYPE_CHECKING:
    import telegram

DIRECT, GROUP = "DM", "GROUP"
COMMAND = re.compile(r"/([A-Za-z0-9_]{1,32})(?:@(\w+))?(?=\s|$)")
# Of updates: the kinds that are requested; reactions are left out where this is not given
KINDS = (
    "message",
    "edited_message",
    "channel_post",
    "edited_channel_post",
    "callback_query",
    "message_reaction",
)


class Bot(NamedTuple):
    """The bot's own account."""

    id: int
    username: str


def room_of(message: "telegram.Message") -> str:
    """Return the room of a message."""
    chat = str(message.chat.id)
    if message.is_topic_message and message.message_thread_id:
        return f"{chat}/{message.message_thread_id}"
    return chat


def memory_of(message: "telegram.Message", bot: Bot) -> Memory:
    """Return a message as `Platform.receive` takes it, without its files."""
    return Memory(
        id=str(message.message_id),
        content=Content(
            text=text_of(message),
            channel_type=DIRECT if message.chat.type == "private" else GROUP,
            url=message.link or "",
            in_reply_to=_replied_to(message),
        ),
        entity_id=_sender(message)[0],
        room_id=room_of(message),
        world_id="" if message.chat.type == "private" else str(message.chat.id),
        created_at=message.date.timestamp(),
        metadata=_about(message, bot),
    )


def text_of(message: "telegram.Message") -> str:
    """Return a message's text, its caption, or what a message without both is."""
    if message.text or message.caption:
        return message.text or message.caption or ""
    if message.sticker:
        return message.sticker.emoji or ""
    if message.venue:
        return f"{message.venue.title}, {message.venue.address}"
    if message.location:
        return f"{message.location.latitude}, {message.location.longitude}"
    if message.contact:
        name = f"{message.contact.first_name} {message.contact.last_name or ''}".strip()
        return f"{name}, {message.contact.phone_number}"
    if message.poll:
        return "\n".join(
            [message.poll.question, *(f"- {one.text}" for one in message.poll.options)]
        )
    if message.dice:
        return f"{message.dice.emoji} {message.dice.value}"
    return ""


def command_of(memory: Memory, bot: Bot, commands: Mapping[str, Command]) -> Memory | None:
    """Return a message as the command that it is, or unchanged; None: it is for another bot.

    Args:
        memory: Of a message.
        bot: The bot's own account: `/weather@its_name Rome` is for it alone.
        commands: By name.
    """
    found = COMMAND.match(memory.content.text)
    if found is None:
        return memory
    name, addressed = found[1].lower(), found[2]
    if addressed and addressed.casefold() != bot.username.casefold():
        return None
    if addressed:
        memory.metadata["mentioned"] = True
    text = memory.content.text[found.end() :].strip()
    command = commands.get(name)
    if command is None and addressed:
        memory.content.text = f"/{found[1]} {text}".strip()  # as where there is one bot
    if command is not None:
        memory.content.text, memory.content.actions = text, [command.action]
        memory.content.data = {"options": command.options(text)}
        memory.metadata["mentioned"] = True
    return memory


def press_of(query: "telegram.CallbackQuery", text: str, at: float) -> Memory | None:
    """Return a press of a button as a message; None: its message is gone.

    Args:
        query: The press.
        text: What the button stands for.
        at: Unix time of its arrival.
    """
    message, person = query.message, query.from_user
    if message is None:
        return None
    room = str(message.chat.id)
    if message.is_accessible:
        room = room_of(message)  # type: ignore[arg-type] # accessible: a Message
    is_direct = message.chat.type == "private"
    return Memory(
        id=f"press-{query.id}",
        content=Content(
            text=text,
            channel_type=DIRECT if is_direct else GROUP,
            in_reply_to=str(message.message_id),
        ),
        entity_id=str(person.id),
        room_id=room,
        world_id="" if is_direct else str(message.chat.id),
        created_at=at,
        metadata={
            "name": person.full_name,
            "bot": person.is_bot,
            "mentioned": True,
            "choice": True,
            "channel_name": message.chat.title or "",
            "parent_id": str(message.chat.id),
            "parent_name": f"@{message.chat.username}" if message.chat.username else "",
        },
    )


def reactions_of(update: "telegram.MessageReactionUpdated") -> list[tuple[str, dict[str, str]]]:
    """Return the events of a person's changed reactions: name, and payload without its source."""
    actor = update.user or update.actor_chat
    before, after = (
        [_emoji(one) for one in group] for group in (update.old_reaction, update.new_reaction)
    )
    about = {
        "room_id": str(update.chat.id),
        "id": str(update.message_id),
        "entity_id": str(actor.id) if actor else "",
    }
    added = [one for one in after if one not in before]
    removed = [one for one in before if one not in after]
    return [
        *(("REACTION_RECEIVED", {**about, "emoji": one}) for one in added),
        *(("REACTION_REMOVED", {**about, "emoji": one}) for one in removed),
    ]


def _emoji(reaction: Any) -> str:
    return str(getattr(reaction, "emoji", None) or getattr(reaction, "custom_emoji_id", "⭐"))


def _sender(message: "telegram.Message") -> tuple[str, str, bool]:
    """Return the id and name of a message's sender, and whether it is a bot.

    An anonymous administrator and a channel write as a chat; what a channel forwards into its
    group by itself counts as a bot's.
    """
    if message.sender_chat is not None:
        chat = message.sender_chat
        return str(chat.id), chat.title or "", bool(message.is_automatic_forward)
    if message.from_user is None:
        return str(message.chat.id), message.chat.title or "", False
    return str(message.from_user.id), message.from_user.full_name, message.from_user.is_bot


def _about(message: "telegram.Message", bot: Bot) -> dict[str, Any]:
    _, name, is_bot = _sender(message)
    chat, user = message.chat, message.from_user
    about: dict[str, Any] = {
        "name": name,
        "bot": is_bot,
        "own": user is not None and user.id == bot.id,
        "mentioned": _mentions(message, bot),
        "channel_name": chat.title or "",
        "parent_id": str(chat.id),
        "parent_name": f"@{chat.username}" if chat.username else "",
    }
    if user is not None and user.username:
        about["username"] = user.username
    if user is not None and user.language_code:
        about["language_code"] = user.language_code
    return about


def _mentions(message: "telegram.Message", bot: Bot) -> bool:
    """Return whether a message mentions the bot, or replies to it."""
    replied = message.reply_to_message
    if replied is not None and replied.from_user is not None and replied.from_user.id == bot.id:
        return True
    named = f"@{bot.username}".casefold()
    found = {**message.parse_entities(), **message.parse_caption_entities()}
    return any(
        (entity.type == "mention" and text.casefold() == named)
        or (entity.type == "text_mention" and entity.user is not None and entity.user.id == bot.id)
        for entity, text in found.items()
    )


def _replied_to(message: "telegram.Message") -> str:
    """Return the id of the message of the same room that a message replies to."""
    replied = message.reply_to_message
    if replied is None or replied.forum_topic_created is not None:
        return ""  # every message of a topic refers to the topic's first one
    return str(replied.message_id) if replied.chat.id == message.chat.id else ""
