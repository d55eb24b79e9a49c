"""A message that is posted to an agent: its lane, and whether its answer has a way back. Pure."""

import hashlib
from typing import Any

import msgspec

from garrison.ipc.errors import InvalidCall
from garrison.ipc.mail import MAX_LANE
from garrison.ipc.messages import Entry

from .content import Memory, as_memory

PROCESS_ACTIONS = "process_actions"


def prepared(
    entry: Entry | None,
    method: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    lane: str | None,
    poster: Entry | None,
) -> tuple[tuple[Any, ...], dict[str, Any], str | None]:
    """Return the arguments and the lane of a post. Those to other methods are as they were.

    A room's messages are one lane, so that they are answered in their order. A message without a
    source is one of its poster, if that can send messages.

    Args:
        entry: The receiver's.
        method: The posted method.
        args: Its arguments.
        kwargs: Its arguments by name.
        lane: As given by the poster; None is the room's.
        poster: The posting service's own entry, if it is one.

    Raises:
        InvalidCall: The message is none, or has no source and its poster no `send_message`.
    """
    if entry is None or entry.manifest.service_type != "agent" or method != PROCESS_ACTIONS:
        return args, kwargs, lane
    if not (args or "memory" in kwargs):
        raise InvalidCall(entry.name, method, "it takes a message")
    try:
        memory = as_memory(args[0] if args else kwargs["memory"])
    except (TypeError, msgspec.ValidationError) as error:
        raise InvalidCall(entry.name, method, f"its message is none: {error}") from error
    if not memory.content.source:
        memory = _from_poster(memory, entry.name, poster)
    room = _lane(f"{memory.content.source}/{memory.room_id or memory.id}")
    if args:
        return (memory, *args[1:]), kwargs, lane or room
    return args, {**kwargs, "memory": memory}, lane or room


def _lane(room: str) -> str:
    """Return the lane of a room; of a long id, what it begins with and its hash."""
    if len(room) <= MAX_LANE:
        return room
    digest = hashlib.sha256(room.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{room[: MAX_LANE - len(digest) - 1]}-{digest}"


def _from_poster(memory: Memory, agent: str, poster: Entry | None) -> Memory:
    """Return a message whose source is its poster."""
    if poster is None or not any(one.name == "send_message" for one in poster.manifest.methods):
        raise InvalidCall(
            agent,
            PROCESS_ACTIONS,
            "the message has no content.source, so its answer could not be sent; set it to the "
            "NAME of a service with send_message",
        )
    content = msgspec.structs.replace(memory.content, source=poster.name)
    return msgspec.structs.replace(memory, content=content)
