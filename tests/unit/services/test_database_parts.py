"""Parts of the database service that decide: errors, documents, agents, vectors."""

import math
import sqlite3
from typing import Any

import pytest

from garrison.workers import Caller
from garrison.workers.services.database import documents, vector_data
from garrison.workers.services.database.failures import Failure, failure_of
from garrison.workers.services.database.scope import ForeignAgent, agent_of
from garrison.workers.services.database.vector_table import VectorRow, VectorTable


class Wrapped(Exception):
    """An error as SQLAlchemy raises it."""

    def __init__(self, orig: BaseException | None = None, lost: bool = False) -> None:
        self.orig, self.connection_invalidated = orig, lost


class OfPostgres(Exception):
    """An error as asyncpg's adapter has it."""

    def __init__(self, sqlstate: str | None) -> None:
        self.sqlstate = sqlstate


def of_sqlite(name: str) -> sqlite3.Error:
    """Return an error as SQLite raises it."""
    error = sqlite3.OperationalError()
    error.sqlite_errorname = name
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Wrapped(lost=True), Failure.LOST),
        (Wrapped(OfPostgres("08006")), Failure.LOST),
        (OfPostgres("57P01"), Failure.LOST),  # admin_shutdown
        (OfPostgres("57P03"), Failure.LOST),  # cannot_connect_now
        (OfPostgres("53300"), Failure.LOST),  # too_many_connections
        (OfPostgres("25006"), Failure.LOST),  # read-only
        (ConnectionRefusedError(), Failure.LOST),
        (TimeoutError(), Failure.LOST),
        (OfPostgres("57014"), Failure.SLOW),  # statement_timeout
        (OfPostgres("53100"), Failure.FULL),
        (OfPostgres("28P01"), Failure.REFUSED),  # wrong password
        (OfPostgres("3D000"), Failure.REFUSED),  # no such database
        (OfPostgres("40P01"), Failure.AGAIN),  # deadlock
        (OfPostgres("40001"), Failure.AGAIN),
        (Wrapped(OfPostgres("23505")), Failure.OWN),
        (OfPostgres("42P01"), Failure.OWN),
        (OfPostgres(None), Failure.OWN),
        (Wrapped(of_sqlite("SQLITE_BUSY")), Failure.AGAIN),
        (of_sqlite("SQLITE_BUSY_SNAPSHOT"), Failure.AGAIN),
        (of_sqlite("SQLITE_FULL"), Failure.FULL),
        (of_sqlite("SQLITE_INTERRUPT"), Failure.SLOW),
        (of_sqlite("SQLITE_CONSTRAINT_PRIMARYKEY"), Failure.OWN),
        (ValueError("an author's"), Failure.OWN),
    ],
)
def test_what_an_error_means(error: BaseException, expected: Failure) -> None:
    """By the driver's code, not by its text."""
    assert failure_of(error) is expected


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"text": 'NUL \0, 𝄞, "quotes"', "n": [1, 2.5, None, True]},
        {"raw": b"\0\xff", "deep": [{"more": [b""]}]},
        {"$bytes": "not base64!", "and": 1},
        {"$bytes": 7},
        [b"x"],
    ],
)
def test_a_document_comes_back_as_it_was(value: Any) -> None:
    """Also with bytes, which JSON does not have."""
    assert documents.decode(documents.encode(value)) == value


def test_identifiers_have_bounds() -> None:
    """What PostgreSQL could not index or store is refused on SQLite too."""
    assert documents.identifier("𝄞" * 512, "id") == "𝄞" * 512
    with pytest.raises(ValueError, match="id has 513 characters"):
        documents.identifier("x" * 513, "id")
    with pytest.raises(ValueError, match=r"room_id 'a.x00' has a NUL"):
        documents.identifier("a\0", "room_id")


ADA, SHARED = Caller("ada.chat", "ada", "chat"), Caller("clock", "", "clock")


@pytest.mark.parametrize(
    ("caller", "agent_id", "every", "expected"),
    [
        (ADA, None, False, "ada"),
        (ADA, "ada", False, "ada"),
        (ADA, "eve", False, ForeignAgent),
        (ADA, "", False, ForeignAgent),
        (ADA, "*", True, ForeignAgent),
        (SHARED, None, False, ""),
        (SHARED, "eve", False, "eve"),
        (SHARED, "*", True, "*"),
        (SHARED, "*", False, ValueError),
        (None, None, False, ""),
        (None, "eve", False, "eve"),
        (None, "*", True, "*"),
    ],
)
def test_whose_records_a_call_may_see(
    caller: Caller | None, agent_id: str | None, every: bool, expected: str | type[Exception]
) -> None:
    """A service of an agent sees its own; shared services and programs those that they name."""
    if isinstance(expected, str):
        assert agent_of(caller, agent_id, every) == expected
    else:
        with pytest.raises(expected):
            agent_of(caller, agent_id, every)


def test_vectors_as_bytes() -> None:
    """As float32; what is no number is refused."""
    assert vector_data.unpacked(vector_data.packed([0.5, -2.0])) == [0.5, -2.0]
    assert len(vector_data.packed([1.0] * 384)) == 4 * 384
    for wrong in ([math.nan], [math.inf], [1e39]):
        with pytest.raises((ValueError, OverflowError)):
            vector_data.packed(wrong)
    for dimension in (0, 16_001):
        with pytest.raises(ValueError, match="1 to 16000"):
            vector_data.check_dimension(dimension)


def row(number: int, *vector: float, model: str = "", room: str = "r") -> VectorRow:
    """Return a stored vector."""
    return VectorRow(f"m{number}", model, room, "max", number, vector_data.packed(vector))


def found(table: VectorTable, *vector: float, most: int = 10, **only: str) -> list[str]:
    """Return the ids of the nearest."""
    return [key[0] for _, key in table.nearest(list(vector), most, -1.0, **only)]


def test_a_table_of_vectors_changes() -> None:
    """Rows are added, replaced and removed; the others keep their places in the order."""
    table = VectorTable(2)
    assert found(table, 1.0, 0.0) == []
    table.put(row(n, math.cos(n / 100), math.sin(n / 100)) for n in range(300))
    assert len(table) == 300
    assert table.version == 299
    assert found(table, 1.0, 0.0, most=3) == ["m0", "m1", "m2"]

    table.put([row(1, -1.0, 0.0), row(2, 0.0, 0.0)])
    table.remove([("m0", ""), ("none such", "")])
    table.remove_memories(["m3"])
    assert found(table, 1.0, 0.0, most=2) == ["m4", "m5"]
    assert found(table, -1.0, 0.0, most=1) == ["m1"]
    assert len(table) == 297
    assert table.size > 0


def test_a_table_of_vectors_is_filtered() -> None:
    """By room, sender and model; what nothing has is no match."""
    table = VectorTable(2)
    table.put([row(1, 1.0, 0.0), row(2, 1.0, 0.1, room="other"), row(3, 1.0, 0.2, model="e5")])
    assert found(table, 1.0, 0.0, room_id="r") == ["m1", "m3"]
    assert found(table, 1.0, 0.0, entity_id="max", model="e5") == ["m3"]
    assert found(table, 1.0, 0.0, room_id="none such") == []
    assert found(table, 0.0, 0.0) == []
