"""Parameters, values and limits of queries, what SQLite may do, and what models are shown."""

import datetime
import math
import sqlite3
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from garrison.ipc import RetryLater
from garrison.workers.services.sql.authorizer import allows
from garrison.workers.services.sql.config import DatabaseConfig
from garrison.workers.services.sql.offers import result_text
from garrison.workers.services.sql.outage import Outage
from garrison.workers.services.sql.parameters import bind
from garrison.workers.services.sql.results import (
    Column,
    Result,
    Rows,
    SqlError,
    as_parameter,
    plain,
)
from garrison.workers.services.sql.schema import (
    ColumnInfo,
    ForeignKey,
    Schema,
    Table,
    as_text,
    bounded,
)

# --- parameters ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "names", "expected"),
    [
        ("select :a", "a", "select $1"),
        ("select :a, :b, :a", "ab", "select $1, $2, $1"),
        ("select :a::int, x::text", "a", "select $1::int, x::text"),
        ("select ':a', \":a\", :b", "b", "select ':a', \":a\", $1"),
        ("select 'it''s :a', :b", "b", "select 'it''s :a', $1"),
        (r"select E'\':a', :b", "b", r"select E'\':a', $1"),
        ("select :a -- :b\n, :b", "ab", "select $1 -- :b\n, $2"),
        ("select /* :a */ :b", "b", "select /* :a */ $1"),
        ("select $$ :a $$, $x$ :a $$ $x$, :b", "b", "select $$ :a $$, $x$ :a $$ $x$, $1"),
        ("select arr[1:n], :b", "b", "select arr[1:n], $1"),
        ("select name:a", "", "select name:a"),
        ("select /* :a", "", "select /* :a"),
    ],
)
def test_where_a_name_is_a_parameter(sql: str, names: str, expected: str) -> None:
    """Outside of strings, quoted names, comments and casts."""
    bound = bind(sql, {name: name.upper() for name in names}, numbered=True)
    assert (bound.sql, bound.values) == (expected, list(names.upper()))


def test_sqlite_has_its_own_places() -> None:
    """Also numbered; dollars mean nothing there."""
    bound = bind("select :a, $$, :b, :a", {"a": 1, "b": 2}, numbered=False)
    assert (bound.sql, bound.values) == ("select ?1, $$, ?2, ?1", [1, 2])


def test_values_in_order() -> None:
    """The statement is left as it is."""
    assert bind("select ?, ':x'", [7], numbered=False)[:2] == ("select ?, ':x'", [7])


@pytest.mark.parametrize(
    ("sql", "params", "kind"),
    [
        ("", {}, "statement"),
        (" \n", {}, "statement"),
        ("select \0", {}, "statement"),
        ("select " + "1" * 100_000, {}, "statement"),
        ("select :a", {}, "parameters"),
        ("select 1", {"a": 1}, "parameters"),
        ("select ':a'", {"a": 1}, "parameters"),
        ("select 1", [1] * 1001, "parameters"),
    ],
)
def test_what_cannot_be_bound(sql: str, params: Any, kind: str) -> None:
    """Each name has a value, and each value a name."""
    with pytest.raises(SqlError) as caught:
        bind(sql, params, numbered=True)
    assert caught.value.kind == kind


# --- values -------------------------------------------------------------------------------

MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
DEEP: list[Any] = []
for _ in range(100):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (2**63 - 1, 2**63 - 1),
        (2**63, str(2**63)),
        (-(2**63) - 1, str(-(2**63) - 1)),
        (1.5, 1.5),
        (math.inf, "inf"),
        (math.nan, "nan"),
        (Decimal("1.10"), "1.10"),
        (Decimal("NaN"), "NaN"),
        (b"\x00\xff", {"base64": "AP8="}),
        (memoryview(b"a"), {"base64": "YQ=="}),
        (MOMENT, "2026-01-02T03:04:05+00:00"),
        (MOMENT.date(), "2026-01-02"),
        (datetime.time(1, 2), "01:02:00"),
        (datetime.timedelta(minutes=1), 60.0),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ([1, {"a": b""}], [1, {"a": {"base64": ""}}]),
        ("\ud800", "?"),
    ],
)
def test_values_become_plain(value: Any, expected: Any) -> None:
    """What JSON cannot hold exactly is a text."""
    assert plain(value) == expected


def test_a_value_that_is_nested_too_deep() -> None:
    """It ends as a text."""
    assert "[[" in str(plain(DEEP))


@pytest.mark.parametrize(
    ("value", "type_name", "expected"),
    [
        ("2026-01-02", "date", MOMENT.date()),
        ("2026-01-02T03:04:05", "timestamptz", MOMENT),
        ("2026-01-02T03:04:05+00:00", "timestamptz", MOMENT),
        ("1.10", "numeric", Decimal("1.10")),
        (1.1, "numeric", Decimal("1.1")),
        ("7", "int4", 7),
        (7.0, "int8", 7),
        (7, "text", "7"),
        ("true", "bool", True),
        (90, "interval", datetime.timedelta(seconds=90)),
        ({"a": 1}, "jsonb", '{"a": 1}'),
        ({"base64": "AP8="}, "bytea", b"\x00\xff"),
        (["7", None], "int4[]", [7, None]),
        (None, "date", None),
        ("x", "citext", "x"),
    ],
)
def test_a_plain_value_for_a_type(value: Any, type_name: str, expected: Any) -> None:
    """Texts stand for what JSON has not."""
    assert as_parameter(value, type_name) == expected


@pytest.mark.parametrize(
    ("value", "type_name"),
    [
        *(("soon", "date"), ("x", "int4"), (7.5, "int4"), ("x", "numeric"), ("x", "uuid")),
        *(({"base64": "%"}, "bytea"), (["x"], "int4[]")),
    ],
)
def test_a_value_that_fits_no_type(value: Any, type_name: str) -> None:
    """It is an error that names both."""
    with pytest.raises(ValueError):  # noqa: PT011 (its texts are Python's, for base64)
        as_parameter(value, type_name)


def test_rows_are_bounded() -> None:
    """By number and by size; a first row that is too large is an error."""
    rows = Rows(2, 1000)
    assert [rows.add([number]) for number in range(4)] == [True, True, False, False]
    assert (rows.found, rows.is_cut) == ([[0], [1]], True)
    rows = Rows(100, 100)
    while rows.add(["x" * 30]):
        pass
    assert (len(rows.found), rows.is_cut) == (2, True)
    with pytest.raises(SqlError, match="larger than `size`"):
        Rows(9, 100).add(["x" * 200])


# --- what SQLite may do ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "first", "second", "read", "write"),
    [
        (sqlite3.SQLITE_SELECT, None, None, True, True),
        (sqlite3.SQLITE_READ, "a", "b", True, True),
        (sqlite3.SQLITE_FUNCTION, None, "count", True, True),
        (sqlite3.SQLITE_FUNCTION, None, "LOAD_EXTENSION", False, False),
        (sqlite3.SQLITE_FUNCTION, None, "writefile", False, False),
        (sqlite3.SQLITE_PRAGMA, "table_info", "a", True, True),
        (sqlite3.SQLITE_PRAGMA, "user_version", None, True, True),
        (sqlite3.SQLITE_PRAGMA, "user_version", "7", False, False),
        (sqlite3.SQLITE_PRAGMA, "query_only", "0", False, False),
        (sqlite3.SQLITE_PRAGMA, "writable_schema", None, False, False),
        (sqlite3.SQLITE_INSERT, "a", None, False, True),
        (sqlite3.SQLITE_DROP_TABLE, "a", None, False, True),
        (sqlite3.SQLITE_ATTACH, "x", None, False, False),
        (sqlite3.SQLITE_TRANSACTION, "COMMIT", None, False, False),
        (sqlite3.SQLITE_SAVEPOINT, "x", None, False, False),
        (9999, None, None, False, True),
    ],
)
def test_what_is_allowed(
    action: int, first: str | None, second: str | None, read: bool, write: bool
) -> None:
    """Without `write`, reading alone; never another file, code, or a transaction."""
    assert (allows(action, first, second, False), allows(action, first, second, True)) == (
        read,
        write,
    )


# --- what models are shown ------------------------------------------------------------------

ORDERS = Table(
    "orders",
    columns=[ColumnInfo("id", "INTEGER", is_key=True), ColumnInfo("who\n", "INTEGER")],
    foreign_keys=[ForeignKey(["who"], "people", ["id"])],
)


def test_a_schema_as_text() -> None:
    """A line for each table; the last ones are left out."""
    text = as_text(Schema("shop", "SQLite", [ORDERS, Table("v", "view")]), 1000)
    assert text == (
        "Database shop (SQLite):\n"
        "- orders(id INTEGER primary key; who INTEGER; who refers to people)\n"
        "- view v()"
    )
    many = Schema("shop", "SQLite", [ORDERS] * 100)
    text = as_text(many, 1000)
    assert len(text) <= 1000
    assert "more tables" in text
    assert "no tables" in as_text(Schema("shop", "SQLite"), 1000)


def test_a_schema_is_bounded() -> None:
    """By tables and by columns."""
    wide = Table("t", columns=[ColumnInfo("c")] * 500)
    assert len(bounded("d", "SQLite", [wide] * 9).tables) == 4
    found = bounded("d", "SQLite", [ORDERS] * 300)
    assert (len(found.tables), found.is_cut) == (200, True)
    assert not bounded("d", "SQLite", [ORDERS]).is_cut


def test_a_result_as_text() -> None:
    """Cut at a number of characters, and marked as of others."""
    columns = [Column("a")]
    text = result_text(Result(columns, [["é"], [2]]), 1000)
    assert text.splitlines()[1:] == ['["a"]', '["é"]', "[2]"]
    assert "do not follow" in text
    text = result_text(Result(columns, [["x" * 90]] * 50, is_cut=True), 1000)
    assert len(text) < 1000
    assert "of 50 rows are shown" in text
    assert "more rows" in text
    assert "too long" in result_text(Result(columns, [["x" * 9000]]), 1000)
    assert "no rows" in result_text(Result(columns), 1000)


# --- the config, and a server that is away ----------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"url": "sqlite:////x.db", "url_secret": "X"},
        {"url": "sqlite:///x.db"},
        {"url": "mysql://a:secret@b/c"},
        {"url": "postgresql://a:secret@b:99999/c"},
        {"url": "http://[secret"},
        {"url": "postgresql://ada:secret@host/shop"},
        {"url": "postgresql://ada@host/shop?password=secret@x"},
    ],
)
def test_a_database_that_is_none(keys: dict[str, Any]) -> None:
    """The text has no url, as that may have a password."""
    with pytest.raises(ValueError, match="url") as caught:
        DatabaseConfig(**keys)
    assert "secret@" not in str(caught.value)


def test_a_server_that_is_away_is_not_asked_at_once() -> None:
    """The wait doubles; what is wrong is shown until it answers."""
    shown: list[str | None] = []
    outage = Outage(shown.append)
    outage.check()
    assert [outage.begin("away").seconds for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    with pytest.raises(RetryLater, match="away"):
        outage.check()
    outage.end()
    outage.check()
    outage.end()
    assert shown == ["away"] * 8 + [None]
    assert outage.begin("again").seconds == 0.5
