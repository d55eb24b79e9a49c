"""The tables of the database. Pure.

Every table is an agent's: `agent_id` is the first column of each primary key, so that agents never
collide on ids. Times are seconds since the epoch, sizes bytes. A change here needs a migration.
"""

import sqlalchemy as sa
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

metadata = MetaData()


def _key(name: str) -> Column[str]:
    return Column(name, Text, primary_key=True)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False, server_default="")


def _json(name: str, default: str = "{}") -> Column[object]:
    return Column(name, JSON, nullable=False, server_default=sa.text(f"'{default}'"))


def _time(name: str) -> Column[float]:
    return Column(name, Double, nullable=False, server_default="0")


memories = Table(
    "memories",
    metadata,
    _key("agent_id"),
    _key("id"),
    Column("table_name", Text, nullable=False),
    _text("room_id"),
    _text("world_id"),
    _text("entity_id"),
    _text("source"),  # of the content: which platform it came from
    _json("content"),
    _json("metadata"),
    Column("unique", Boolean, nullable=False),
    _time("created_at"),
    Index("memories_of_room", "agent_id", "table_name", "room_id", "created_at", "id"),
    Index("memories_of_table", "agent_id", "table_name", "created_at", "id"),
    Index("memories_of_entity", "agent_id", "entity_id"),
    Index("memories_by_age", "table_name", "created_at"),  # for retention
)

embeddings = Table(  # vectors of several dimensions and models of one memory side by side
    "embeddings",
    metadata,
    _key("agent_id"),
    _key("memory_id"),
    Column("dimension", Integer, primary_key=True, autoincrement=False),
    _key("model"),  # empty where the memory does not name one
    Column("table_name", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),  # float32, little-endian
    Column("version", BigInteger, nullable=False, server_default="0"),
    _time("written_at"),
    Index("embeddings_of_table", "agent_id", "table_name", "dimension", "version"),
)

vector_versions = Table(  # counts the changes of embeddings, for those who keep them in memory
    "vector_versions",
    metadata,
    _key("agent_id"),
    _key("table_name"),
    Column("dimension", Integer, primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
)

entities = Table(
    "entities",
    metadata,
    _key("agent_id"),
    _key("id"),
    _json("names", "[]"),
    _json("metadata"),
    _time("created_at"),
)

components = Table(
    "components",
    metadata,
    _key("agent_id"),
    _key("id"),
    Column("entity_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    _text("room_id"),
    _text("world_id"),
    _text("source_entity_id"),
    _json("data"),
    _time("created_at"),
    Index("components_of_entity", "agent_id", "entity_id", "type"),
)

relationships = Table(
    "relationships",
    metadata,
    _key("agent_id"),
    _key("id"),
    Column("source_entity_id", Text, nullable=False),
    Column("target_entity_id", Text, nullable=False),
    _json("tags", "[]"),
    _json("metadata"),
    _time("created_at"),
    Index(
        "relationships_of_source", "agent_id", "source_entity_id", "target_entity_id", unique=True
    ),
    Index("relationships_of_target", "agent_id", "target_entity_id"),
)

worlds = Table(
    "worlds",
    metadata,
    _key("agent_id"),
    _key("id"),
    _text("name"),
    _text("server_id"),
    _json("metadata"),
    _time("created_at"),
)

rooms = Table(
    "rooms",
    metadata,
    _key("agent_id"),
    _key("id"),
    _text("name"),
    _text("source"),
    _text("type"),
    _text("channel_id"),
    _text("server_id"),
    _text("world_id"),
    _json("metadata"),
    _time("created_at"),
    Index("rooms_of_world", "agent_id", "world_id"),
)

participants = Table(
    "participants",
    metadata,
    _key("agent_id"),
    _key("room_id"),
    _key("entity_id"),
    _text("state"),
    _time("created_at"),
    Index("participants_of_entity", "agent_id", "entity_id"),
)

logs = Table(
    "logs",
    metadata,
    _key("agent_id"),
    _key("id"),
    Column("type", Text, nullable=False),
    _text("entity_id"),
    _text("room_id"),
    _json("body"),
    _time("created_at"),
    Index("logs_of_agent", "agent_id", "created_at", "id"),
    Index("logs_of_entity", "agent_id", "entity_id", "created_at"),
    Index("logs_by_age", "created_at"),  # for retention
)

tasks = Table(
    "tasks",
    metadata,
    _key("agent_id"),
    _key("id"),
    Column("name", Text, nullable=False),
    _text("description"),
    Column("status", Text, nullable=False),
    Column("scheduled_for", Double),  # NULL is at once
    _json("tags", "[]"),
    _json("metadata"),
    _text("room_id"),
    _text("world_id"),
    _text("entity_id"),
    _text("cron"),
    _text("time_zone"),
    _text("missed"),
    Column("max_late", Double),
    Column("attempts", Integer, nullable=False, server_default="0"),
    _text("error"),
    _time("created_at"),
    _time("updated_at"),
    _text("lease"),
    _text("lease_owner"),
    _time("lease_until"),
    Column("runs", Integer, nullable=False, server_default="0"),
    Column("deaths", Integer, nullable=False, server_default="0"),
    Column("missed_count", Integer, nullable=False, server_default="0"),
    _time("missed_until"),
    Column("queued", Boolean, nullable=False),  # it has the tag `queue`
    Column("due_at", Double),  # when a runner may claim it; NULL is never
    Index("tasks_of_agent", "agent_id", "created_at", "id"),
    Index("tasks_by_name", "agent_id", "name"),
    Index("tasks_due", "due_at"),
    Index("tasks_due_of_agent", "agent_id", "due_at"),
    Index("tasks_by_owner", "lease_owner"),
    Index("tasks_by_age", "status", "updated_at"),  # for retention
)

cache = Table(
    "cache",
    metadata,
    _key("agent_id"),
    _key("key"),
    Column("value", LargeBinary, nullable=False),  # msgpack
    Column("expires_at", Double),  # NULL is never
    _time("written_at"),
    Index("cache_by_expiry", "expires_at"),
    Index("cache_by_age", "written_at"),
)

tombstones = Table(  # who was forgotten, so that a restored backup forgets them again
    "tombstones",
    metadata,
    _key("agent_id"),
    _key("source"),
    _key("person"),
    _time("at"),
)

usage = Table(  # of models, by day
    "usage",
    metadata,
    _key("agent_id"),
    _key("day"),  # such as 2026-11-30, UTC
    _key("provider"),
    _key("model"),
    _key("room_id"),
    _key("entity_id"),
    _key("task"),
    _key("finish"),
    Column("requests", BigInteger, nullable=False, server_default="0"),
    Column("tokens_in", BigInteger, nullable=False, server_default="0"),
    Column("tokens_out", BigInteger, nullable=False, server_default="0"),
    Column("cost", Double),  # NULL is unknown
    Index("usage_by_day", "day"),
)
