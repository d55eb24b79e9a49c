"""The sql service on a PostgreSQL server: the role's limits, each way out of a read, outages."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.support.postgres import NEEDS_POSTGRES, Postgres, postgres
from tests.support.waiting import eventually

from garrison.ipc import RetryLater
from garrison.workers.services.sql import SqlService
from garrison.workers.services.sql.results import SqlError
from garrison.workers.testing import run

pytestmark = [*NEEDS_POSTGRES]
TABLES = """
create role reader login password 'pw-of-reader';
create role writer login password 'pw-of-writer';
create role boss login password 'pw-of-boss';
create role climber login password 'pw-of-climber';
grant pg_read_server_files to boss;
grant ada to climber;
create table people(id int primary key, name text not null, born date, about jsonb);
create table orders(id int primary key, who int references people(id), total numeric);
create table hidden(id int);
create view names as select name from people;
insert into people values (1, 'Ada', '1815-12-10', '{"likes": ["engines"]}'),
  (2, 'Grace', '1906-12-09', null);
insert into orders values (1, 1, 9.50), (2, 1, 'NaN');
grant select on people, orders, names to reader;
grant all on people, orders to writer;
grant all on schema public to writer;
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """Run a server with tables and roles."""
    with postgres() as there:
        there.sql(TABLES)
        yield there


def access(server: Postgres, role: str) -> dict[str, Any]:
    """Return the config of a database for a role, whose password is a secret of its name."""
    return {
        "url": f"postgresql://{role}@127.0.0.1:{server.port}/postgres",
        "password_secret": role.upper(),
    }


@pytest.fixture
async def service(server: Postgres) -> AsyncIterator[SqlService]:
    """Return the service, with a database for each role."""
    limits = {"seconds": 1.0, "rows": 5, "size": 20_000, "pool": 1}
    databases: dict[str, Any] = {
        "shop": {**access(server, "reader"), **limits},
        "desk": {**access(server, "writer"), "write": True, **limits},
        "super": {"url_secret": "WHOLE_URL"},
        "boss": access(server, "boss"),
        "climber": access(server, "climber"),
        "wrong": {**access(server, "reader"), "password_secret": "WRONG"},
    }
    roles = ("reader", "writer", "boss", "climber")
    settings = {role.upper(): f"pw-of-{role}" for role in roles}
    settings |= {"WHOLE_URL": server.url, "WRONG": "another-one"}
    async with run(SqlService, config={"databases": databases}, settings=settings) as there:
        yield there


async def problem(call: Any) -> SqlError:
    """Return why a statement was not run."""
    with pytest.raises(SqlError) as caught:
        await call
    return caught.value


async def test_a_query(service: SqlService) -> None:
    """Values are bound by the types that the server names, and come back plain."""
    sql = "select * from people where born < :day and id = any(:ids) and name <> :x::text"
    found = await service.query("shop", sql, {"day": "1900-01-01", "ids": [1, 2], "x": "y"})
    assert [(one.name, one.type) for one in found.columns][2:] == [
        ("born", "date"),
        ("about", "jsonb"),
    ]
    assert found.rows == [[1, "Ada", "1815-12-10", {"likes": ["engines"]}]]
    assert (await service.query("shop", "select total from orders order by id")).rows == [
        ["9.50"],
        ["NaN"],
    ]
    found = await service.query("shop", "select generate_series(1, $1)", [100])
    assert ([row[0] for row in found.rows], found.is_cut) == ([1, 2, 3, 4, 5], True)


async def test_the_tables(service: SqlService) -> None:
    """Those that the role may read."""
    schema = await service.schema("shop")
    assert {table.name: table.kind for table in schema.tables} == {
        "people": "table",
        "orders": "table",
        "names": "view",
    }
    orders = next(table for table in schema.tables if table.name == "orders")
    assert [(column.name, column.type, column.is_key) for column in orders.columns] == [
        ("id", "integer", True),
        ("who", "integer", False),
        ("total", "numeric", False),
    ]
    assert orders.foreign_keys[0].table == "people"


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("insert into people(id, name) values (9, 'x')", "refused"),
        ("update people set name = 'x' returning id", "refused"),
        ("with gone as (delete from people returning id) select * from gone", "refused"),
        ("explain analyze delete from people", "refused"),
        ("set transaction read write", "refused"),
        ("set session characteristics as transaction read write", "refused"),
        ("select set_config('transaction_read_only', 'off', false)", "statement"),
        ("commit", "refused"),
        ("rollback", "refused"),
        ("begin read write", "refused"),
        ("commit; create table evil(x int)", "statement"),
        ("select 1; create table evil(x int)", "statement"),
        ("do $$ begin create table evil(x int); end $$", "refused"),
        ("create temp table evil(x int)", "refused"),
        ("prepare later as insert into people(id, name) values (9, 'x')", "refused"),
        ("copy people to '/tmp/evil'", "refused"),
        ("copy people to program 'touch /tmp/evil'", "refused"),
        ("copy people to stdout", "refused"),
        ("select pg_read_file('/etc/passwd')", "refused"),
        ("select lo_import('/etc/passwd')", "refused"),
        ("select lo_create(0)", "refused"),
        ("select query_to_xml('delete from people', true, true, '')", "statement"),
        ("listen evil", "refused"),
        ("lock table people", "refused"),
        ("select pg_sleep(30)", "time"),
        ("select repeat('x', 100000)", "size"),
        ("selec", "statement"),
        ("select 1 / 0", "statement"),
        ("select $1::int", "parameters"),
    ],
)
async def test_each_way_out_of_a_read(
    service: SqlService, server: Postgres, sql: str, kind: str
) -> None:
    """A role that may write cannot write by a query, and the next query finds nothing changed."""
    began = time.monotonic()
    error = await problem(service.query("desk", sql))
    assert error.kind == kind, error.reason
    assert time.monotonic() - began < 5.0
    state = "select current_setting('transaction_read_only'), current_setting('statement_timeout')"
    assert (await service.query("desk", state)).rows == [["on", "1s"]]
    assert server.sql("select count(*) from people where name <> 'x'") == "2\n"
    assert server.sql("select count(*) from pg_class where relname = 'evil'") == "0\n"


@pytest.mark.parametrize(
    ("sql", "undone", "expected"),
    [
        ("select set_config('statement_timeout', '0', false)", "show statement_timeout", "1s"),
        (
            "select set_config('default_transaction_read_only', 'off', false), "
            "set_config('search_path', 'evil', false)",
            "show search_path",
            '"$user", public',
        ),
        (
            "select pg_advisory_lock(7)",
            "select count(*) from pg_locks where locktype = 'advisory'",
            0,
        ),
    ],
)
async def test_what_a_query_leaves_is_undone(
    service: SqlService, sql: str, undone: str, expected: Any
) -> None:
    """On the same connection, as there is one."""
    process = "select pg_backend_pid()"
    before = (await service.query("desk", process)).rows
    await service.query("desk", sql)
    assert (await service.query("desk", undone)).rows == [[expected]]
    assert (await service.query("desk", process)).rows == before


async def test_roles_that_nothing_limits(service: SqlService) -> None:
    """A superuser, one that may become one, and one that reads the server's files."""
    for name, part in (
        ("super", "superuser"),
        ("climber", "superuser"),
        ("boss", "pg_read_server"),
    ):
        error = await problem(service.query(name, "select 1"))
        assert (error.kind, part in error.reason) == ("database", True), error.reason
        assert "pw-of" not in error.reason
    assert (await problem(service.query("shop", "select * from hidden"))).kind == "refused"


async def test_a_wrong_password(service: SqlService) -> None:
    """It may be corrected on the server, so it is tried again later; it is in no text."""
    with pytest.raises(RetryLater) as caught:
        await service.query("wrong", "select 1")
    assert "password authentication failed" in caught.value.reason
    assert "another-one" not in str(caught.value)


async def test_writing(service: SqlService, server: Postgres) -> None:
    """A statement is a transaction."""
    done = await service.execute(
        "desk", "insert into orders values (:id, 1, :total)", {"id": 3, "total": "1.25"}
    )
    assert done.rows_changed == 1
    assert (await problem(service.execute("desk", "insert into orders values (3, 1, 1)"))).code == (
        "23505"
    )
    for sql in ("commit", "rollback"):
        assert (await problem(service.execute("desk", sql))).kind == "refused"
    assert (await problem(service.execute("shop", "delete from orders"))).kind == "refused"
    assert (await service.execute("desk", "delete from orders where id = 3")).rows_changed == 1


async def test_a_caller_that_leaves(service: SqlService, server: Postgres) -> None:
    """Its query is cancelled on the server."""

    def sleeping() -> "asyncio.Task[Any]":
        return asyncio.create_task(service.query("shop", "select pg_sleep(0.9), 'marked'"))

    call = sleeping()
    running = (
        "select count(*) from pg_stat_activity where state = 'active' and "
        "query like '%marked%' and pid <> pg_backend_pid()"
    )

    async def is_running() -> bool:
        return server.sql(running) == "1\n"

    async def is_seen() -> bool:
        nonlocal call
        if call.done():  # a look takes longer than that on a loaded machine
            call.exception()  # or it would be logged as never looked at
            call = sleeping()
            await asyncio.sleep(0)
        return await is_running()

    async def is_gone() -> bool:
        return not await is_running()

    await eventually(is_seen, what="the query runs")
    call.cancel()
    await eventually(is_gone, what="the query was cancelled")
    assert (await service.query("shop", "select 1")).rows == [[1]]


async def test_a_stream(service: SqlService) -> None:
    """All rows in pieces; a reader that leaves gives its connection back."""
    pieces = [piece async for piece in service.stream("shop", "select generate_series(1, 1000)")]
    assert [row[0] for piece in pieces for row in piece.rows] == list(range(1, 1001))
    stream = service.stream("shop", "select generate_series(1, 100000000)")
    assert (await anext(stream)).rows[0] == [1]
    await stream.aclose()
    assert (await service.query("shop", "select 1")).rows == [[1]]


async def test_a_server_that_is_away(service: SqlService, server: Postgres) -> None:
    """Calls fail at once with when to try again; it is used again once it answers."""
    assert (await service.query("shop", "select 1")).rows == [[1]]
    server.kill()
    for _ in range(2):
        with pytest.raises(RetryLater, match="cannot be reached") as caught:
            await service.query("shop", "select 1")
        assert "pw-of" not in str(caught.value)
    server.start()

    async def answers() -> bool:
        try:
            return (await service.query("shop", "select 1")).rows == [[1]]
        except RetryLater:
            return False

    await eventually(answers, what="the server is used again")


async def test_a_server_that_hangs(service: SqlService, server: Postgres) -> None:
    """A call ends in time, and so does the next one."""
    assert (await service.query("shop", "select 1")).rows == [[1]]
    server.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises((RetryLater, SqlError)):
            await service.query("shop", "select 1")
        assert time.monotonic() - began < 10.0
    finally:
        server.signal(signal.SIGCONT)

    async def answers() -> bool:
        try:
            return (await service.query("shop", "select 1")).rows == [[1]]
        except (RetryLater, SqlError):
            return False

    await eventually(answers, what="the server is used again")
