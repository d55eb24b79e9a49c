"""The sql service on SQLite files: limits, what is refused, an agent that reads, kills."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.host import Host, found, hosting
from tests.support.model_server import ModelServer, Turn, completion

from garrison.ipc import PermanentFailure, RemoteError, RetryLater
from garrison.workers import as_memory
from garrison.workers.services.sql import SqlService
from garrison.workers.services.sql.results import SqlError
from garrison.workers.testing import run

LONG_S = 60.0  # of a query that nothing interrupts
ENDLESS = "with recursive r(i) as (select 1 union all select i + 1 from r) select {} from r"
TABLES = """
create table people(id integer primary key, name text not null, photo blob);
create table orders(id integer primary key, who integer references people(id), total real);
create view names as select name from people;
insert into people values (1, 'Ada', x'00ff'), (2, 'Grace', null);
insert into orders values (1, 1, 9.5), (2, 1, 9e999);
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file with two tables and a view."""
    path = tmp_path / "shop é.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(TABLES)
    connection.close()
    return path


@pytest.fixture
async def service(file: Path) -> AsyncIterator[SqlService]:
    """Return the service: the same file to be read, and to be written."""
    url = f"sqlite:///{file}"
    limits = {"seconds": 0.5, "rows": 5, "size": 2000}
    databases = {"shop": {"url": url, **limits}, "desk": {"url": url, "write": True, **limits}}
    async with run(SqlService, config={"databases": databases}) as there:
        yield there


async def problem(call: Any) -> SqlError:
    """Return why a statement was not run."""
    with pytest.raises(SqlError) as caught:
        await call
    return caught.value


async def test_a_query(service: SqlService) -> None:
    """Values are bound, and plain; a result that is longer is cut."""
    found = await service.query("shop", "select * from people where id <= :most", {"most": 1})
    assert [column.name for column in found.columns] == ["id", "name", "photo"]
    assert found.rows == [[1, "Ada", {"base64": "AP8="}]]
    found = await service.query("shop", "select total, ? from orders", ["x'; drop table orders"])
    assert found.rows == [[9.5, "x'; drop table orders"], ["inf", "x'; drop table orders"]]
    found = await service.query("shop", f"select * from ({ENDLESS.format('i')} limit 100)")
    assert ([row[0] for row in found.rows], found.is_cut) == ([1, 2, 3, 4, 5], True)


async def test_the_tables(service: SqlService) -> None:
    """With their columns and keys; also by the pragma."""
    schema = await service.schema("shop")
    assert [(table.name, table.kind) for table in schema.tables] == [
        ("names", "view"),
        ("orders", "table"),
        ("people", "table"),
    ]
    (key,) = schema.tables[1].foreign_keys
    assert (key.columns, key.table, key.referenced) == (["who"], "people", ["id"])
    assert schema.tables[2].columns[0].is_key
    assert (await service.query("shop", "pragma table_info(people)")).rows[1][1] == "name"


def content(folder: Path) -> dict[str, bytes]:
    """Return the databases in a folder."""
    return {path.name: path.read_bytes() for path in folder.glob("*.db")}


@pytest.mark.parametrize(
    "sql",
    [
        "insert into people(name) values ('x')",
        "update people set name = 'x' returning name",
        "delete from people",
        "drop table people",
        "create table x(y)",
        "create temp table x(y)",
        "create virtual table x using fts5(y)",
        "attach '{folder}/other.db' as other",
        "vacuum",
        "vacuum into '{folder}/copy.db'",
        "pragma user_version = 7",
        "pragma journal_mode = delete",
        "pragma query_only = off",
        "pragma writable_schema = on",
        "select load_extension('{folder}/x.so')",
        "begin",
        "commit",
        "savepoint x",
        "analyze",
        "reindex",
        "detach main",
        "-- nothing",
    ],
)
async def test_what_only_reads(service: SqlService, file: Path, tmp_path: Path, sql: str) -> None:
    """Nothing is written: not the file, no other one, and no state of the connection."""
    before = content(tmp_path)
    error = await problem(service.query("shop", sql.format(folder=tmp_path)))
    assert error.kind == "refused", error.reason
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    ("sql", "params", "kind"),
    [
        ("selec", {}, "statement"),
        ("select 1; drop table people", {}, "statement"),
        ("select * from nothing", {}, "statement"),
        ("select writefile('x', 'y')", {}, "statement"),  # there is none in this build
        ("select :a", {"a": [1]}, "parameters"),
        ("select :a", {"a": 2**70}, "parameters"),
        ("select ?", [], "parameters"),
        ("select hex(zeroblob(1000000000))", {}, "size"),
        ("select hex(randomblob(100000))", {}, "size"),
        (ENDLESS.format("count(*)"), {}, "time"),
        ("select 'a' like '%" + "a%" * 2000 + "'", {}, "statement"),
    ],
)
async def test_what_fails(service: SqlService, sql: str, params: Any, kind: str) -> None:
    """The error says whose limit or fault it is."""
    assert (await problem(service.query("shop", sql, params))).kind == kind


async def test_a_caller_that_leaves(file: Path) -> None:
    """What it asked for is interrupted: the threads are free again."""
    databases = {"shop": {"url": f"sqlite:///{file}", "seconds": LONG_S}}
    async with run(SqlService, config={"databases": databases}) as service:
        endless = ENDLESS.format("max(i)")
        calls = [asyncio.create_task(service.query("shop", endless)) for _ in range(4)]
        await asyncio.sleep(0)
        began = time.monotonic()
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert (await service.query("shop", "select 1")).rows == [[1]]
        assert time.monotonic() - began < LONG_S / 2


async def test_writing(service: SqlService) -> None:
    """Where it is allowed, a statement is a transaction, which it cannot end."""
    assert (await problem(service.execute("shop", "delete from people"))).kind == "refused"
    done = await service.execute("desk", "update people set name = :name", {"name": "x"})
    assert done.rows_changed == 2
    for sql in ("commit", "rollback", "attach 'x' as y", "pragma user_version = 1"):
        assert (await problem(service.execute("desk", sql))).kind == "refused"
    failing = "insert into people values (3, 'new', null), (1, 'again', null)"
    assert (await problem(service.execute("desk", failing))).code.startswith("SQLITE_CONSTRAINT")
    assert (await service.query("desk", "select count(*) from people")).rows == [[2]]
    assert (await problem(service.query("desk", "delete from people"))).kind == "refused"


async def test_a_stream(service: SqlService) -> None:
    """All rows in pieces; a reader that leaves ends it."""
    pieces = [piece async for piece in service.stream("shop", f"{ENDLESS.format('i')} limit 1000")]
    assert [row[0] for piece in pieces for row in piece.rows] == list(range(1, 1001))
    assert len(pieces) == 5
    stream = service.stream("shop", ENDLESS.format("i"))
    assert (await anext(stream)).rows[0] == [1]
    await stream.aclose()
    with pytest.raises(SqlError, match="took longer"):
        _ = [piece async for piece in service.stream("shop", ENDLESS.format("count(*)"))]


async def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """It is tried again later: it may be there then."""
    config = {"databases": {"gone": {"url": f"sqlite:///{tmp_path}/gone.db"}}}
    async with run(SqlService, config=config) as service:
        with pytest.raises(RetryLater, match="cannot be read"):
            await service.query("gone", "select 1")
        assert content(tmp_path) == {}
        assert (await problem(service.query("other", "select 1"))).kind == "database"


async def test_what_is_not_configured() -> None:
    """A database, or its secret."""
    with pytest.raises(PermanentFailure, match="no database is configured"):
        async with run(SqlService):
            pass
    config = {"databases": {"shop": {"url_secret": "SHOP_URL"}}}
    with pytest.raises(PermanentFailure, match="there is no SHOP_URL"):
        async with run(SqlService, config=config):
            pass
    settings = {"SHOP_URL": "mysql://ada:hidden@host/x"}
    with pytest.raises(PermanentFailure, match="no address") as caught:
        async with run(SqlService, config=config, settings=settings):
            pass
    assert "hidden" not in str(caught.value)


# --- in its worker ------------------------------------------------------------------------

CONFIG = """
[defaults]
intensity = 0
[plugins.sql]
[services.sql.config.databases.shop]
url = "sqlite:///{file}"
agent = true
seconds = 20.0
[services.sql.config.databases.private]
url = "sqlite:///{file}"
[plugins.agent]
[services.agent.config]
decide = "model"
[plugins.openai]
[services.openai.config]
base_url = "{url}/v1"
"""


@pytest.fixture
def hosted(file: Path) -> Iterator[Host]:
    """Return a host that is not started."""
    with hosting("", up=False) as host:
        yield host


@pytest.mark.external
async def test_an_agent_reads_a_database(hosted: Host, file: Path) -> None:
    """The model sees the tables, fills in the query, and answers with what was found."""
    async with ModelServer() as server:
        hosted.write("config.toml", CONFIG.format(file=file, url=server.url))
        hosted.up()
        arguments = (
            '{"database": "shop", "sql": "select name from people where id = :id", '
            '"params": {"id": 2}}'
        )
        function = {"name": "QUERY_DATABASE", "arguments": arguments}
        call = {"id": "c1", "type": "function", "function": function}
        said = {"role": "assistant", "content": None, "tool_calls": [call]}
        wrong = {
            **call,
            "function": {**function, "arguments": arguments.replace("shop", "private")},
        }
        server.script(
            Turn(body=completion(said, "tool_calls")),
            Turn(body=completion({**said, "tool_calls": [wrong]}, "tool_calls")),
            Turn("It is Grace."),
        )
        memory = as_memory("Who is number 2?")
        memory.room_id, memory.entity_id, memory.content.source = "r", "ada", "client"
        async with hosted.connect() as client:
            done = await found(client, "agent").process_actions(memory)
        asked = [one.body for one in server.asked]
    assert done["responses"][-1]["content"]["text"] == "It is Grace."
    system = asked[0]["messages"][0]["content"]
    assert "people(id INTEGER primary key" in system
    assert "private" not in system
    results = [one["content"] for one in asked[-1]["messages"] if one["role"] == "tool"]
    assert "Grace" in results[0]
    assert "Grace" not in results[1]


@pytest.mark.external
async def test_a_worker_that_is_killed_in_a_query(hosted: Host, file: Path) -> None:
    """The query is sent to its next incarnation; the file is whole."""
    hosted.write("config.toml", CONFIG.format(file=file, url="http://127.0.0.1:9"))
    hosted.up()
    sql = f"select count(*) from ({ENDLESS.format('i')} limit 50000)"
    async with hosted.connect() as client:
        service = found(client, "sql")
        for _ in range(10):
            call = service.query("shop", sql)
            await asyncio.sleep(0.02)  # it runs, or has not begun: either is sent again
            hosted.kill("sql")
            assert (await call)["rows"] == [[50_000]]
            hosted.ask("restart", "sql")
        with pytest.raises(RemoteError, match="SqlError"):
            await service.query("shop", "delete from people")
    with sqlite3.connect(file) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
    connection.close()
