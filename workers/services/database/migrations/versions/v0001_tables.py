"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create them."""
    _create_cache()
    _create_components()
    _create_embeddings()
    _create_entities()
    _create_logs()
    _create_memories()
    _create_participants()
    _create_relationships()
    _create_rooms()
    _create_tasks()
    _create_tombstones()
    _create_usage()
    _create_vector_versions()
    _create_worlds()


def _create_cache() -> None:
    op.create_table(
        "cache",
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("written_at", sa.Double(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("agent_id", "key"),
    )
    op.create_index("cache_by_age", "cache", ["written_at"], unique=False)
    op.create_index("cache_by_expiry", "cache", ["expires_at"], unique=False)


def _create_components() -> None:
    op.create_table(
        "components",
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("room_id", sa.Text(), server_default="", nullable=False),
        sa.Column("world_id", sa.Text(), server_default="", nullable=False),
        sa.Column("source_entity_id", sa.Text(), server_default="", nullable=False),
        sa.Column("data", sa.JSON(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", sa.Double(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("agent_id", "id"),
    )
    op.create_index(
        "components_of_entity", "components", ["agent_id", "entity_id", "type"], unique=False
    )


def _create_embeddings() -> None:
    op.create_table(
        "embeddings",
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("memory_id", sa.Text(), nullable=False),
        sa.Column("dimension", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("table_name", sa.Text(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("written_at", sa.Double(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("agent_id", "memory_id", "dimension", "model"),
    )
    op.create_index(
        "embeddings_of_table",
        "embeddings",
        ["agent_id", "table_name", "dimension", "version"],
        unique=False,
    )


def _create_entities() -> None:
    op.create_table(
        "entities",
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("names", sa.JSON(), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("metadata", sa.JSON(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", sa.Double(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("agent_id", "id"),
    )


def _create_logs() -> None:
    op.create_table(
        "logs",
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("entity_id", sa.Text(), server_default="", nullable=False),
        sa.Column("room_id", sa.Text(), server_default="", nullable=False),
        sa.Column("body", sa.JSON(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", sa.Double(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("agent_id", "id"),
    )
    op.create_index("logs_by_age", "logs", ["created_at"], unique=False)
    op.create_index("logs_of_agent", "logs", ["agent_id", "created_at", "id"], unique=False)
    op.create_index("logs_of_entity", "logs", ["agent_id", "entity_id", "created_at"], unique=False)


def _create_memories() -> None:
    op.create_table(
        "memories",
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("table_name", sa.Text(), nullable=False),
        sa.Column("room_id", sa.Text(), server_default="", nullable=False),
        sa.Column("world_id", sa.Text(), server_default="", nullable=False),
        sa.Column("entity_id", sa.Text(), server_default="", nullable=False),
        sa.Column("source", sa.Text(), server_default="", nullable=False),
        sa.Column("content", sa.JSON(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("metadata", sa.JSON(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("unique", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Double(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("agent_id", "id"),
    )
    op.create_index("memories_by_age", "memories", ["table_name", "created_at"], unique=False)
    op.create_index("memories_of_entity", "memories", ["agent_id", "entity_id"], unique=False)
    op.create_index(
        "memories_of_room",
        "memories",
        ["agent_id", "table_name", "room_id", "created_at", "id"],
        unique=False,
    )
    op.create_index(
        "memories_of_table",
        "memories",
        ["agent_id", "table_name", "created_at", "id"],
        unique=False,
    )


def _create_participants() -> None:
    op.create_table(
        "participants",
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("room_id", sa.Text(), nullable=False),
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.Double(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("agent_id", "room_id", "entity_id"),
    )
    op.create_index(
        "participants_of_entity", "participants", ["agent_id", "entity_id"], unique=False
    )


def _create_relationships() -> None:
    op.create_table(
        "relationships",
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("source_entity_id", sa.Text(), nullable=False),
        sa.Column("target_entity_id", sa.Text(), nullable=False),
        sa.Column("tags", sa.JSON(), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("metadata", sa.JSON(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", sa.Double(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("agent_id", "id"),
    )
    op.create_index(
        "relationships_of_source",
        "relationships",
        ["agent_id", "source_entity_id", "target_entity_id"],
        unique=True,
    )
    op.create_index(
        "relationships_of_target", "relationships", ["agent_id", "target_entity_id"], unique=False
    )


def _create_rooms() -> None:
    op.create_table(
        "rooms",
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("source", sa.Text(), server_default="", nullable=False),
        sa.Column("type", sa.Text(), server_default="", nullable=False),
        sa.Column("channel_id", sa.Text(), server_default="", nullable=False),
        sa.Column("server_id", sa.Text(), server_default="", nullable=False),
        sa.Column("world_id", sa.Text(), server_default="", nullable=False),
        sa.Column("metadata", sa.JSON(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", sa.Double(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("agent_id", "id"),
    )
    op.create_index("rooms_of_world", "rooms", ["agent_id", "world_id"], unique=False)


def _create_tasks() -> None:
    op.create_table(
        "tasks",
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("scheduled_for", sa.Double(), nullable=True),
        sa.Column("tags", sa.JSON(), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("metadata", sa.JSON(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("room_id", sa.Text(), server_default="", nullable=False),
        sa.Column("world_id", sa.Text(), server_default="", nullable=False),
        sa.Column("entity_id", sa.Text(), server_default="", nullable=False),
        sa.Column("cron", sa.Text(), server_default="", nullable=False),
        sa.Column("time_zone", sa.Text(), server_default="", nullable=False),
        sa.Column("missed", sa.Text(), server_default="", nullable=False),
        sa.Column("max_late", sa.Double(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("updated_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("lease", sa.Text(), server_default="", nullable=False),
        sa.Column("lease_owner", sa.Text(), server_default="", nullable=False),
        sa.Column("lease_until", sa.Double(), server_default="0", nullable=False),
        sa.Column("runs", sa.Integer(), server_default="0", nullable=False),
        sa.Column("deaths", sa.Integer(), server_default="0", nullable=False),
        sa.Column("missed_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("missed_until", sa.Double(), server_default="0", nullable=False),
        sa.Column("queued", sa.Boolean(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("agent_id", "id"),
    )
    op.create_index("tasks_by_age", "tasks", ["status", "updated_at"], unique=False)
    op.create_index("tasks_by_name", "tasks", ["agent_id", "name"], unique=False)
    op.create_index("tasks_by_owner", "tasks", ["lease_owner"], unique=False)
    op.create_index("tasks_due", "tasks", ["due_at"], unique=False)
    op.create_index("tasks_due_of_agent", "tasks", ["agent_id", "due_at"], unique=False)
    op.create_index("tasks_of_agent", "tasks", ["agent_id", "created_at", "id"], unique=False)


def _create_tombstones() -> None:
    op.create_table(
        "tombstones",
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("agent_id", "source", "person"),
    )


def _create_usage() -> None:
    op.create_table(
        "usage",
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("room_id", sa.Text(), nullable=False),
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("finish", sa.Text(), nullable=False),
        sa.Column("requests", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("tokens_in", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("tokens_out", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cost", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint(
            "agent_id", "day", "provider", "model", "room_id", "entity_id", "task", "finish"
        ),
    )
    op.create_index("usage_by_day", "usage", ["day"], unique=False)


def _create_vector_versions() -> None:
    op.create_table(
        "vector_versions",
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("table_name", sa.Text(), nullable=False),
        sa.Column("dimension", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("agent_id", "table_name", "dimension"),
    )


def _create_worlds() -> None:
    op.create_table(
        "worlds",
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("server_id", sa.Text(), server_default="", nullable=False),
        sa.Column("metadata", sa.JSON(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("created_at", sa.Double(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("agent_id", "id"),
    )
