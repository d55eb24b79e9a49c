"""Posted messages that are stored together: as if one after the other, errors apart."""

import itertools
import random
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from garrison.workers.services.mailbox import checksums, schema
from garrison.workers.services.mailbox.checksums import Message
from garrison.workers.services.mailbox.file import open_database
from garrison.workers.services.mailbox.insertion import SIZES, Insertion, insert_all
from garrison.workers.services.mailbox.store import Store
from garrison.workers.sqlite.writer import JoiningOperation, is_statement_error, run_transaction

MAX_BYTES = 1 << 30


def posted(number: int, key: str | None) -> Message:
    """Return a message."""
    return Message(
        id=f"{number:04}", receiver="r", method="m", args=b"\x91\x01", kwargs=b"\x80", key=key
    )


def rows(db: sqlite3.Connection) -> list[list[Any]]:
    """Return what is stored, apart from the numbers in the order, which may have gaps."""
    letters = db.execute("SELECT id, key, args FROM letters ORDER BY seq").fetchall()
    return [letters, db.execute("SELECT key, id, done_at FROM keys ORDER BY key").fetchall()]


@pytest.mark.parametrize("seed", range(20))
def test_together_is_as_one_after_the_other(tmp_path: Path, seed: int) -> None:
    """Whatever keys are there already or come twice, the results and the file are the same."""
    chosen = random.Random(seed)
    keys = [None, "a", "b", "c"]
    batches = [
        [posted(10 * batch + n, chosen.choice(keys)) for n in range(chosen.randint(1, 8))]
        for batch in range(3)
    ]
    alone, together = (open_database(tmp_path / name, MAX_BYTES) for name in ("a.db", "t.db"))
    seqs = itertools.count(1).__next__, itertools.count(1).__next__
    for batch in batches:
        one = [schema.insert(alone.cursor(), message, seqs[0]()) for message in batch]
        all_of_them = insert_all(together.cursor(), batch, seqs[1])
        assert [(id_, seq > 0) for id_, seq in one] == [(id_, seq > 0) for id_, seq in all_of_them]
        stored = dict(together.execute("SELECT id, seq FROM letters").fetchall())
        assert all(stored[id_] == seq for id_, seq in all_of_them if seq)
    assert rows(alone) == rows(together)
    alone.close()
    together.close()


@pytest.mark.parametrize("count", [2, 3, SIZES[0] - 1, SIZES[0], 3 * SIZES[0] + 7])
def test_rows_of_one_statement_are_as_those_of_their_own(tmp_path: Path, count: int) -> None:
    """Every column of every row is the same, and fits its checksum."""
    alone, together = (open_database(tmp_path / name, MAX_BYTES) for name in ("a.db", "t.db"))
    messages = [posted(n, None) for n in range(count)]
    for n, one in enumerate(messages):
        one.lane, one.expires_at, one.trace = f"lane {n % 3}", float(n), "t" * (n % 2)
    seqs = itertools.count(1).__next__, itertools.count(1).__next__
    for one in messages:
        schema.insert(alone.cursor(), one, seqs[0]())
    insert_all(together.cursor(), messages, seqs[1])
    for query in (f"SELECT {schema.READ} FROM letters ORDER BY seq", "SELECT * FROM traces"):
        found = together.execute(query).fetchall()
        assert found == alone.execute(query).fetchall()
    read = together.execute(f"SELECT {schema.READ} FROM letters ORDER BY seq")
    assert [checksums.message(row).id for row in read] == [one.id for one in messages]
    alone.close()
    together.close()


def test_a_commit_that_is_run_again_stores_nothing_twice(tmp_path: Path) -> None:
    """Where its outcome was unknown, the second run finds the messages and their places."""
    db = open_database(tmp_path / "mailbox.db", MAX_BYTES)
    next_seq = itertools.count(1).__next__
    messages = [posted(n, "k" if n == 2 else None) for n in range(4)]
    first = insert_all(db.cursor(), messages, next_seq)
    assert insert_all(db.cursor(), messages, next_seq) == first
    assert db.execute("SELECT count(*) FROM letters").fetchone() == (4,)
    db.close()


def test_posts_of_one_commit_and_others_between_them(tmp_path: Path) -> None:
    """Results come in the order of the operations."""
    store = Store(tmp_path / "mailbox.db", MAX_BYTES)
    operations = [Insertion([posted(n, None)], store.next_seq) for n in range(6)]
    outcomes = store._transaction([*operations[:3], schema.last_seq, *operations[3:]])
    ids = [f"{n:04}" for n in range(6)]
    assert [one[0][0] for one in (*outcomes[:3], *outcomes[4:])] == ids
    assert outcomes[3] == outcomes[2][0][1]
    store._db.close()


class Doubled(JoiningOperation):
    """Stores a number, and returns it doubled; 13 cannot be stored."""

    together = 0  # how often several ran at once

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, cursor: sqlite3.Cursor) -> int:
        """Store it alone."""
        return type(self).run_all(cursor, [self])[0]

    @classmethod
    def run_together(cls, cursor: sqlite3.Cursor, operations: Sequence["Doubled"]) -> list[int]:
        """Store several."""
        cls.together += 1
        return cls.run_all(cursor, operations)

    @staticmethod
    def run_all(cursor: sqlite3.Cursor, operations: Sequence["Doubled"]) -> list[int]:
        """Store them."""
        cursor.executemany("INSERT INTO t VALUES (?)", [(one.number,) for one in operations])
        return [2 * one.number for one in operations]


def test_an_error_is_of_its_own_operation() -> None:
    """After one among several, each runs alone: it alone fails, and the others are stored once."""
    Doubled.together = 0
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.execute("CREATE TABLE t (n INTEGER CHECK (n != 13))")
    numbers = [1, 13, 2, 3]
    outcomes = run_transaction(db, [Doubled(n) for n in numbers], is_statement_error)
    assert isinstance(outcomes[1], sqlite3.IntegrityError)
    assert [outcomes[0], *outcomes[2:]] == [2, 4, 6]
    assert db.execute("SELECT n FROM t").fetchall() == [(1,), (2,), (3,)]
    assert Doubled.together == 1
    db.close()
