"""What a database holds besides memories and tasks: `Entity`, `Component`, `Room`, `World` …

The names and fields are those of elizaOS in snake_case. Ids are texts, times are seconds since the
epoch. `agent_id` is the agent that a record belongs to; a service fills it in by calling.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from .queries import snake_keys


class Component(msgspec.Struct, kw_only=True):
    """A part of what is known about an entity: one type of data, of one source."""

    entity_id: str
    type: str
    id: str = ""
    agent_id: str = ""
    room_id: str = ""
    world_id: str = ""
    source_entity_id: str = ""  # where it comes from
    data: dict[str, Any] = {}
    created_at: float = 0.0


class Entity(msgspec.Struct, kw_only=True):
    """Someone who takes part: a person, a bot, the agent itself."""

    id: str = ""
    names: list[str] = []
    metadata: dict[str, Any] = {}
    agent_id: str = ""
    components: list[Component] = []  # filled in where a query wants them


class World(msgspec.Struct, kw_only=True):
    """A place that has rooms, such as a Discord server."""

    id: str = ""
    name: str = ""
    agent_id: str = ""
    server_id: str = ""  # the platform's own id
    metadata: dict[str, Any] = {}


class Room(msgspec.Struct, kw_only=True):
    """A conversation, such as a channel of a Discord server."""

    id: str = ""
    name: str = ""
    agent_id: str = ""
    source: str = ""  # NAME of the service, or the platform
    type: str = ""  # "DM", "GROUP" …
    channel_id: str = ""
    server_id: str = ""
    world_id: str = ""
    metadata: dict[str, Any] = {}


class Participant(msgspec.Struct, kw_only=True):
    """An entity in a room."""

    entity_id: str
    room_id: str
    agent_id: str = ""
    state: str = ""  # "FOLLOWED", "MUTED"; empty is neither


class Relationship(msgspec.Struct, kw_only=True):
    """What connects one entity with another."""

    source_entity_id: str
    target_entity_id: str
    id: str = ""
    agent_id: str = ""
    tags: list[str] = []
    metadata: dict[str, Any] = {}
    created_at: float = 0.0


class Log(msgspec.Struct, kw_only=True):
    """Something that happened, such as the use of a model."""

    type: str
    body: dict[str, Any] = {}
    id: str = ""
    agent_id: str = ""
    entity_id: str = ""
    room_id: str = ""
    created_at: float = 0.0


RECORDS = (Component, Entity, World, Room, Participant, Relationship, Log)


def as_fields(cls: type[msgspec.Struct], given: Any) -> Any:
    """Return a record that is given as a mapping with its fields in snake_case, nested ones too.

    Args:
        cls: The record's class.
        given: A mapping, a list of them, or anything else, which is returned as it is.

    Raises:
        ValueError: A field is none of the record's, or is there in both spellings.
    """
    if isinstance(given, list | tuple):
        return [as_fields(cls, one) for one in given]
    if not isinstance(given, Mapping):
        return given
    fields = snake_keys(given)
    if unknown := sorted(fields.keys() - set(cls.__struct_fields__)):
        known = ", ".join(cls.__struct_fields__)
        raise ValueError(f"{cls.__name__} has no field {unknown[0]!r}; it has {known}")
    if cls is Entity and "components" in fields:
        fields["components"] = as_fields(Component, fields["components"])
    return fields
