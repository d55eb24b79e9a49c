"""The tables of `memory.db`. Triggers count what they hold; times are seconds since the epoch.

Each row belongs to an agent, by its NAME: that of the service whose file it is, "" in a host
without agents; the file of a shared agent has those of each agent that uses it.
"""

import sqlite3
from typing import NamedTuple

VERSION = 1  # raised with every change of a table's columns; a file of a later one is rejected
VACUUM_PAGES = 2_560  # empty pages returned to the disk at a time: 10 MiB

TABLES = """
CREATE TABLE IF NOT EXISTS memories (
    seq INTEGER PRIMARY KEY,
    agent TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,  -- of the table, such as "messages"
    room TEXT NOT NULL,
    world TEXT NOT NULL,
    entity TEXT NOT NULL,
    created_at REAL NOT NULL,
    is_unique INTEGER NOT NULL,
    size INTEGER NOT NULL,
    dimension INTEGER NOT NULL,  -- of the embedding; 0 is none
    model TEXT NOT NULL,  -- of the embedding
    length REAL NOT NULL,  -- of the vector
    embedding BLOB,  -- float32
    memory BLOB NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS memory_by_id ON memories (agent, id);
CREATE INDEX IF NOT EXISTS memory_by_room ON memories (agent, name, room, created_at, seq);
CREATE INDEX IF NOT EXISTS memory_by_time ON memories (agent, name, created_at, seq);
CREATE INDEX IF NOT EXISTS memory_by_vector ON memories (agent, name, dimension, seq)
    WHERE dimension > 0;
CREATE TABLE IF NOT EXISTS tasks (
    seq INTEGER PRIMARY KEY,
    agent TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    is_queued INTEGER NOT NULL,
    due REAL NOT NULL,
    lease TEXT NOT NULL,
    owner TEXT NOT NULL,
    until REAL NOT NULL,  -- the end of the lease
    size INTEGER NOT NULL,
    task BLOB NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS task_by_id ON tasks (agent, id);
CREATE INDEX IF NOT EXISTS task_by_due ON tasks (is_queued, status, due, seq);
CREATE TABLE IF NOT EXISTS cache (
    seq INTEGER PRIMARY KEY,  -- a new one with each value
    agent TEXT NOT NULL,
    key TEXT NOT NULL,
    expires REAL,
    size INTEGER NOT NULL,
    value BLOB NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS cache_by_key ON cache (agent, key);
CREATE INDEX IF NOT EXISTS cache_by_expiry ON cache (expires) WHERE expires IS NOT NULL;
CREATE TABLE IF NOT EXISTS counts (
    name TEXT PRIMARY KEY,
    rows INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) WITHOUT ROWID;
INSERT OR IGNORE INTO counts VALUES ('memories', 0, 0), ('tasks', 0, 0), ('cache', 0, 0);
CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
""" + "".join(
    f"""
CREATE TRIGGER IF NOT EXISTS {table}_added AFTER INSERT ON {table} BEGIN
    UPDATE counts SET rows = rows + 1, bytes = bytes + NEW.size WHERE name = '{table}';
END;
CREATE TRIGGER IF NOT EXISTS {table}_changed AFTER UPDATE OF size ON {table} BEGIN
    UPDATE counts SET bytes = bytes + NEW.size - OLD.size WHERE name = '{table}';
END;
CREATE TRIGGER IF NOT EXISTS {table}_removed AFTER DELETE ON {table} BEGIN
    UPDATE counts SET rows = rows - 1, bytes = bytes - OLD.size WHERE name = '{table}';
END;
"""
    for table in ("memories", "tasks", "cache")
)


class Count(NamedTuple):
    """How much a table holds."""

    rows: int = 0
    bytes: int = 0


def count(cursor: sqlite3.Cursor, table: str) -> Count:
    """Return how much a table holds."""
    query = "SELECT rows, bytes FROM counts WHERE name = ?"
    return Count(*cursor.execute(query, (table,)).fetchone())


def counts(cursor: sqlite3.Cursor) -> dict[str, Count]:
    """Return how much each table holds."""
    found = cursor.execute("SELECT name, rows, bytes FROM counts").fetchall()
    return {name: Count(rows, size) for name, rows, size in found}


def note(cursor: sqlite3.Cursor, name: str) -> str:
    """Return a note about the file; "" if there is none."""
    row = cursor.execute("SELECT value FROM notes WHERE name = ?", (name,)).fetchone()
    return "" if row is None else str(row[0])


def set_note(cursor: sqlite3.Cursor, name: str, value: str) -> None:
    """Set a note; "" removes it."""
    if value:
        cursor.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, value))
    else:
        cursor.execute("DELETE FROM notes WHERE name = ?", (name,))


def vacuum(cursor: sqlite3.Cursor) -> None:
    """Return empty pages to the disk."""
    cursor.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
