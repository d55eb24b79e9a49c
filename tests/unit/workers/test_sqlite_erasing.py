"""What was deleted from a SQLite file is not on the disk, whatever SQLite was compiled with."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from garrison.workers.sqlite.erasing import applied_mark, set_applied, sweep

SECRET = "my sister lives in Ghent"


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Open a file whose deleted rows stay in its pages."""
    db = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA secure_delete = OFF")
    db.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT)")
    yield db
    db.close()


def holds(folder: Path, text: str) -> bool:
    """Return whether a file of a folder contains a text."""
    return any(text.encode() in path.read_bytes() for path in folder.iterdir())


def test_nothing_of_what_was_deleted_or_changed_stays(
    db: sqlite3.Connection, tmp_path: Path
) -> None:
    """In pages, on the free list and in the log; the rest is as it was, and the transaction goes
    on."""
    rows = [(n, f"{SECRET} {'x' * n * 300}" if n % 2 else "kept") for n in range(60)]
    db.executemany("INSERT INTO t VALUES (?, ?)", rows)
    db.execute("UPDATE t SET text = 'changed' WHERE n IN (1, 3)")
    db.execute("DELETE FROM t WHERE n % 2 AND n > 3")
    assert holds(tmp_path, SECRET)

    cursor = db.cursor()
    cursor.execute("BEGIN IMMEDIATE")
    cursor.execute("INSERT INTO t VALUES (100, 'before')")
    assert sweep(cursor) == ""
    cursor.execute("INSERT INTO t VALUES (101, 'after')")
    cursor.execute("COMMIT")

    assert not holds(tmp_path, SECRET)
    assert len(db.execute("SELECT * FROM t").fetchall()) == 34
    assert db.execute("PRAGMA auto_vacuum").fetchone() == (2,)


def test_a_file_that_cannot_be_written_again_says_why(db: sqlite3.Connection) -> None:
    """The rows are deleted all the same, and the transaction goes on."""
    db.execute("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    reading = db.execute("SELECT n FROM t")
    reading.fetchone()  # a statement that has not ended: SQLite refuses to write the file again
    cursor = db.cursor()
    cursor.execute("BEGIN IMMEDIATE")
    cursor.execute("DELETE FROM t WHERE n = 2")

    assert "SQL statements in progress" in sweep(cursor)
    cursor.execute("INSERT INTO t VALUES (3, 'c')")
    reading.close()
    cursor.execute("COMMIT")
    assert db.execute("SELECT n FROM t").fetchall() == [(1,), (3,)]


def test_the_mark_of_the_tombstones_is_in_the_file(db: sqlite3.Connection) -> None:
    """A file that was never asked has none."""
    cursor = db.cursor()
    assert applied_mark(cursor) == 0
    set_applied(cursor, 7)
    set_applied(cursor, 4_000_000_000)
    assert applied_mark(cursor) == 4_000_000_000
