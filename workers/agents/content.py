"""Messages and memories: `Memory`, `Content`, and where they are sent.

The fields are those of elizaOS in snake_case. Times are seconds since the epoch; ids are strings.
"""

import time
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from .media import Media as Media


class Content(msgspec.Struct):
    """The content of a message: its text, and the actions that it requests."""

    text: str = ""
    thought: str = ""
    actions: list[str] = []  # names of actions, run in this order
    providers: list[str] = []  # names of additional providers for the answer
    source: str = ""  # NAME of the service that received the message, or that is to send it
    target: str = ""
    url: str = ""
    in_reply_to: str = ""  # id of a memory
    attachments: list[Media] = []
    channel_type: str = ""  # "DM", "GROUP", "VOICE_DM" …
    data: dict[str, Any] = {}  # free for authors


class Memory(msgspec.Struct, kw_only=True):
    """A message, or another item to remember.

    `room_id` is the channel as the platform's `send_message` takes it. Answers go there.
    """

    content: Content
    id: str = ""
    entity_id: str = ""  # the sender
    agent_id: str = ""
    created_at: float = 0.0
    embedding: list[float] | None = None
    room_id: str = ""
    world_id: str = ""
    unique: bool = False
    similarity: float | None = None  # to the searched vector, -1 to 1
    metadata: dict[str, Any] = {}  # "earlier": previous messages, for an agent that lost them


class TargetInfo(msgspec.Struct):
    """The destination of a message: a service, and a channel of its platform."""

    source: str  # a NAME, a service_type, or the source of a send handler
    channel_id: str = ""
    room_id: str = ""
    entity_id: str = ""
    server_id: str = ""
    thread_id: str = ""

    @property
    def channel(self) -> str:
        """Return the first of `channel_id`, `room_id` and `entity_id` that is set."""
        return self.channel_id or self.room_id or self.entity_id


class ActionResult(msgspec.Struct):
    """The result of an action, for the caller and for later actions. It is not sent to the room."""

    success: bool = True
    text: str = ""
    values: dict[str, Any] = {}  # merged into the state of the next actions
    data: dict[str, Any] = {}
    error: str = ""
    action: str = ""  # name of the action


class ActionOutput(msgspec.Struct, omit_defaults=True):
    """One output of an action on the wire: content to send, or a result."""

    content: Content | None = None
    result: ActionResult | None = None


class Processed(msgspec.Struct):
    """The outcome of a message: the replies that were sent, and the results of actions."""

    responses: list[Memory] = []
    results: list[ActionResult] = []


def new_id() -> str:
    """Return a new unique id."""
    return str(uuid.uuid4())


def as_content(value: "Content | str | Mapping[str, Any]") -> Content:
    """Convert a text or a mapping of fields to `Content`.

    Raises:
        TypeError: The value is neither a `Content`, a text nor a mapping.
        msgspec.ValidationError: A field of the mapping has the wrong type.
    """
    if isinstance(value, Content):
        return value
    if isinstance(value, str):
        return Content(value)
    if isinstance(value, Mapping):
        return msgspec.convert(dict(value), Content)
    raise TypeError(f"expected a Content, a text or a mapping, not {type(value).__name__}")


def as_memory(value: "Memory | Content | str | Mapping[str, Any]") -> Memory:
    """Convert a value to a `Memory` that has an id and a time.

    Args:
        value: A `Memory`, a `Content`, a text, or a mapping of the fields of one of these.

    Raises:
        TypeError: The value is none of these.
        msgspec.ValidationError: A field of the mapping has the wrong type.
    """
    if isinstance(value, Memory):
        memory = value
    elif isinstance(value, Mapping) and "content" in value:
        fields = {**value, "content": as_content(value["content"])}
        memory = msgspec.convert(fields, Memory)
    else:
        memory = Memory(content=as_content(value))
    return msgspec.structs.replace(
        memory, id=memory.id or new_id(), created_at=memory.created_at or time.time()
    )


def as_memories(
    values: "Iterable[Memory | Content | str | Mapping[str, Any]] | None",
) -> list[Memory]:
    """Convert each value as `as_memory` does."""
    return [as_memory(value) for value in values or ()]


def with_source(name: str, payload: Any) -> Any:
    """Return an event's payload with a NAME as the message's source, unless it has a source."""
    if isinstance(payload, Memory) and not payload.content.source:
        content = msgspec.structs.replace(payload.content, source=name)
        return msgspec.structs.replace(payload, content=content)
    if isinstance(payload, Mapping) and "message" in payload:
        return {"source": name, **payload}
    return payload
