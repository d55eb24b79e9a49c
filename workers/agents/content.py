"""What is said, heard and remembered: `Memory`, `Content` and whom they are for.

The fields are elizaOS's, in snake_case. Times are seconds since the epoch, ids are text.
"""

import time
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec


class Media(msgspec.Struct):
    """Something attached to a message."""

    url: str
    id: str = ""
    title: str = ""
    source: str = ""
    description: str = ""
    text: str = ""
    content_type: str = ""


class Content(msgspec.Struct):
    """What a message says, and what it asks to be done."""

    text: str = ""
    thought: str = ""
    actions: list[str] = []  # names of actions, to be run in this order
    providers: list[str] = []  # names of providers that its answer needs besides the usual
    source: str = ""  # NAME of the service that heard it, or that is to say it
    target: str = ""
    url: str = ""
    in_reply_to: str = ""  # the id of a memory
    attachments: list[Media] = []
    channel_type: str = ""  # "DM", "GROUP", "VOICE_DM" …
    data: dict[str, Any] = {}  # whatever else an author wants to carry along


class Memory(msgspec.Struct, kw_only=True):
    """One message, or something else that is remembered.

    `room_id` is the channel, as its platform's `send_message` takes it: the answer goes there.
    """

    content: Content
    id: str = ""
    entity_id: str = ""  # who said it
    agent_id: str = ""
    created_at: float = 0.0
    embedding: list[float] | None = None
    room_id: str = ""
    world_id: str = ""
    unique: bool = False
    similarity: float | None = None  # to what was searched for, -1 to 1
    metadata: dict[str, Any] = {}  # "earlier": messages before it, for an agent that forgot them


class TargetInfo(msgspec.Struct):
    """Where a message is to go: a service and a channel of its platform."""

    source: str  # a NAME, a service_type, or what a send handler was registered for
    channel_id: str = ""
    room_id: str = ""
    entity_id: str = ""
    server_id: str = ""
    thread_id: str = ""

    @property
    def channel(self) -> str:
        """Return the channel, else the room, else the person."""
        return self.channel_id or self.room_id or self.entity_id


class ActionResult(msgspec.Struct):
    """What came of an action, for those that follow it and for who asked; it is sent to nobody."""

    success: bool = True
    text: str = ""
    values: dict[str, Any] = {}  # for the state that the next actions are given
    data: dict[str, Any] = {}
    error: str = ""
    action: str = ""  # its name


class Processed(msgspec.Struct):
    """What came of a message: what was said to it, and what its actions came to."""

    responses: list[Memory] = []
    results: list[ActionResult] = []


def new_id() -> str:
    """Return an id that nothing else has."""
    return str(uuid.uuid4())


def as_content(said: "Content | str | Mapping[str, Any]") -> Content:
    """Return content, of whichever form an author gave.

    Raises:
        TypeError: It is none of these.
        msgspec.ValidationError: It is a mapping that does not fit.
    """
    if isinstance(said, Content):
        return said
    if isinstance(said, str):
        return Content(said)
    if isinstance(said, Mapping):
        return msgspec.convert(dict(said), Content)
    raise TypeError(f"expected a Content, a text or a mapping, not {type(said).__name__}")


def as_memory(said: "Memory | Content | str | Mapping[str, Any]") -> Memory:
    """Return a memory with an id and a time, of whichever form an author gave.

    Raises:
        TypeError: It is none of these.
        msgspec.ValidationError: It is a mapping that does not fit.
    """
    if isinstance(said, Memory):
        memory = said
    elif isinstance(said, Mapping) and "content" in said:
        fields = {**said, "content": as_content(said["content"])}
        memory = msgspec.convert(fields, Memory)
    else:
        memory = Memory(content=as_content(said))
    return msgspec.structs.replace(
        memory, id=memory.id or new_id(), created_at=memory.created_at or time.time()
    )


def with_source(name: str, payload: Any) -> Any:
    """Return what is told of a message, with the NAME of the service that heard it where nothing
    says so."""
    if isinstance(payload, Memory) and not payload.content.source:
        content = msgspec.structs.replace(payload.content, source=name)
        return msgspec.structs.replace(payload, content=content)
    if isinstance(payload, Mapping) and "message" in payload:
        return {"source": name, **payload}
    return payload


def as_memories(
    said: "Iterable[Memory | Content | str | Mapping[str, Any]] | None",
) -> list[Memory]:
    """Return memories, each of whichever form an author gave."""
    return [as_memory(one) for one in said or ()]
