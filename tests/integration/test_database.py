"""The database service's contract: the same table of rules on SQLite and on PostgreSQL.

One host for each kind of database. `with pgvector` and `without pgvector` are the same server.
"""

import asyncio
import contextlib
import math
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.support.host import Host, found, hosting
from tests.support.postgres import NEEDS_POSTGRES, Postgres, postgres

from garrison.ipc import RemoteError
from garrison.workers import (
    Component,
    Content,
    DatabaseAdapter,
    Entity,
    Log,
    Memory,
    Relationship,
    Room,
    Task,
)

KINDS = [
    "sqlite",
    pytest.param("with pgvector", marks=NEEDS_POSTGRES),
    pytest.param("without pgvector", marks=NEEDS_POSTGRES),
]
AGENTS = """
[plugins.database]
[plugins.relay]
[agents.ada]
plugins = ["relay"]
[agents.eve]
plugins = ["relay"]
"""
RELAY = '''"""A service that calls the database in a test's name."""

from typing import Any

from garrison.workers import Plugin, Service


class RelayService(Service):
    """Passes calls on."""

    service_type = "relay"

    async def ask(self, method: str, arguments: dict[str, Any]) -> Any:
        """Return what the database answers."""
        return await getattr(self.runtime.get_service("database"), method)(**arguments)


plugin = Plugin(name="relay", services=[RelayService])
'''


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Return which database is tested."""
    chosen: str = request.param
    return chosen


@pytest.fixture(scope="module")
def server(kind: str) -> Iterator[Postgres | None]:
    """Return the server, if the kind needs one."""
    with contextlib.ExitStack() as stack:
        yield None if kind == "sqlite" else stack.enter_context(postgres())


@pytest.fixture(scope="module")
def running(kind: str, server: Postgres | None) -> Iterator[Host]:
    """Return a host that all tests of a kind share."""
    config = AGENTS
    if server is not None:
        pgvector = str(kind == "with pgvector").lower()
        for name in ("database", "second"):
            config += f'[services.{name}.config]\nurl = "{server.url}"\npgvector = {pgvector}\n'
        config += '[services.second]\nplugin = "database"\ntype = "database"\n'
    with hosting(config, files={"relay.py": RELAY}) as host:
        host.wait_for("database", "running")
        yield host


class Database:
    """The database as a program calls it, for one agent."""

    def __init__(self, proxy: Any, agent: str) -> None:
        self._proxy, self.agent = proxy, agent

    def __getattr__(self, method: str) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            return await getattr(self._proxy, method)(*args, agent_id=self.agent, **kwargs)

        return call


@pytest.fixture
async def db(running: Host, request: pytest.FixtureRequest) -> Any:
    """Return the database for an agent of this test's own."""
    async with running.connect() as client:
        proxy = client.get_service(DatabaseClass)
        yield Database(proxy, request.node.name)


class DatabaseClass(DatabaseAdapter):
    """Has annotations that convert results."""

    service_type = "database"


def memory(id: str, text: str = "", at: float = 1.0, **fields: Any) -> Memory:
    """Return a memory."""
    return Memory(content=Content(text or id), id=id, created_at=at, **fields)


def ids(memories: list[Memory]) -> list[str]:
    """Return the ids of memories."""
    return [one.id for one in memories]


# --- memories -----------------------------------------------------------------------------


async def test_a_memory_comes_back_as_it_was(db: Any) -> None:
    """With all fields, values that JSON does not have, and texts that PostgreSQL does not like."""
    content = Content(
        "NUL \0 and 𝄞", source="discord", actions=["REPLY"], data={"raw": b"\0\1", "n": [1, None]}
    )
    stored = Memory(
        content=content, id="m", entity_id="ada", created_at=1.25, room_id="r", world_id="w",
        unique=True, metadata={"embedding_model": "e5"}, embedding=[0.5, -1.0],
    )  # fmt: skip
    assert await db.create_memory(stored) == "m"

    (there,) = await db.get_memories()
    stored.agent_id = db.agent
    assert there == stored
    assert await db.get_memory_by_id("m") == stored
    assert await db.get_memory_by_id("other") is None


async def test_an_id_is_stored_once(db: Any) -> None:
    """A second memory with an id changes nothing; a call may therefore be repeated."""
    await db.create_memory(memory("m", "first"))
    await db.create_memory(memory("m", "second"))

    assert [one.content.text for one in await db.get_memories()] == ["first"]


async def test_many_are_stored_all_or_none(db: Any) -> None:
    """One that cannot be stored leaves none of them."""
    wrong = memory("wrong", embedding=[math.inf])
    with pytest.raises(RemoteError, match="not finite"):
        await db.create_memories([memory("a"), wrong, memory("b")])
    assert await db.count_memories() == 0

    assert await db.create_memories([memory("a"), memory("b")]) == ["a", "b"]
    assert await db.count_memories() == 2


async def test_pages_are_right_while_memories_are_added(db: Any) -> None:
    """Newest first; those of one time by their ids; `before` goes on where a page ended."""
    await db.create_memories([memory(f"m{n}", at=1.0 + n // 2) for n in range(6)])
    first = await db.get_memories(count=2)
    await db.create_memory(memory("new", at=9.0))
    second = await db.get_memories(count=2, before=first[-1].id)
    rest = await db.get_memories(before=second[-1].id)

    assert [ids(page) for page in (first, second, rest)] == [
        ["m5", "m4"],
        ["m3", "m2"],
        ["m1", "m0"],
    ]
    assert ids(await db.get_memories(count=2, offset=1)) == ["m5", "m4"]
    assert await db.get_memories(count=0) == []
    assert await db.get_memories(before="none such") == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ["c", "b", "a"]),
        ({"room_id": "r"}, ["b", "a"]),
        ({"world_id": "w"}, ["c"]),
        ({"entity_id": "max"}, ["b"]),
        ({"start": 2.0}, ["c", "b"]),
        ({"end": 2.0}, ["b", "a"]),
        ({"unique": True}, ["c"]),
        ({"unique": False}, ["b", "a"]),
        ({"table_name": "facts"}, ["f"]),
        ({"room_id": "r", "start": 2.0, "count": 1}, ["b"]),
    ],
)
async def test_memories_are_chosen(db: Any, query: dict[str, Any], expected: list[str]) -> None:
    """By table, room, world, sender, time and `unique`."""
    await db.create_memories(
        [
            memory("a", at=1.0, room_id="r"),
            memory("b", at=2.0, room_id="r", entity_id="max"),
            memory("c", at=3.0, world_id="w", unique=True),
        ]
    )
    await db.create_memory(memory("f"), "facts")

    assert ids(await db.get_memories(**query)) == expected


async def test_memories_by_ids_and_rooms(db: Any) -> None:
    """Those that exist, in the order of the ids; of rooms, the newest first."""
    await db.create_memories([memory(id, at=1.0 + n, room_id=id) for n, id in enumerate("abc")])
    await db.create_memory(memory("f"), "facts")

    assert ids(await db.get_memories_by_ids(["c", "f", "x", "a", "c"])) == ["c", "f", "a"]
    assert ids(await db.get_memories_by_ids(["c", "f"], "facts")) == ["f"]
    assert ids(await db.get_memories_by_room_ids(["a", "c", "c"])) == ["c", "a"]
    assert ids(await db.get_memories_by_room_ids(["a", "b", "c"], limit=2)) == ["c", "b"]
    assert await db.get_memories_by_room_ids([]) == []
    assert await db.get_memories_by_ids([]) == []


async def test_memories_are_changed_and_deleted(db: Any) -> None:
    """By id, several, a room; what does not exist is no error."""
    for room in ("r", "r2"):
        await db.create_memories([memory(f"{room}{n}", room_id=room) for n in range(3)])
    assert await db.update_memory(memory("r0", "changed", room_id="r"))
    assert not await db.update_memory(memory("none such"))
    there = await db.get_memory_by_id("r0")
    assert there.content.text == "changed"

    await db.delete_memory("r0")
    await db.delete_memory("r0")
    await db.delete_many_memories(["r20", "none such"])
    assert await db.count_memories() == 4
    await db.delete_all_memories("r")
    assert ids(await db.get_memories()) == ["r22", "r21"]
    assert await db.count_memories("r2") == 2
    assert await db.count_memories(unique=True) == 0


# --- vectors ------------------------------------------------------------------------------


def axis(*numbers: float) -> list[float]:
    """Return a vector of four dimensions."""
    return [*numbers, *[0.0] * (4 - len(numbers))]


async def test_the_most_similar_are_found(db: Any) -> None:
    """By the angle between vectors, nearest first, down to a threshold; at most `count`."""
    await db.create_memories(
        [
            memory("same", embedding=axis(3.0)),
            memory("near", embedding=axis(1.0, 0.5), room_id="r"),
            memory("across", embedding=axis(0.0, 1.0), entity_id="max"),
            memory("opposite", embedding=axis(-1.0)),
            memory("nowhere", embedding=axis(0.0)),
            memory("other length", embedding=[1.0, 0.0]),
            memory("none"),
        ]
    )
    everything = await db.search_memories(axis(2.0), match_threshold=-1.0)
    assert ids(everything) == ["same", "near", "across", "opposite"]
    similarities = [1.0, 1 / math.sqrt(1.25), 0.0, -1.0]
    assert [one.similarity for one in everything] == pytest.approx(similarities, abs=1e-6)

    assert ids(await db.search_memories(axis(2.0), match_threshold=0.5)) == ["same", "near"]
    assert ids(await db.search_memories(axis(2.0), count=1)) == ["same"]
    assert ids(await db.search_memories(axis(2.0), room_id="r")) == ["near"]
    assert ids(await db.search_memories(axis(0.0, 1.0), entity_id="max")) == ["across"]
    assert ids(await db.search_memories([2.0, 0.0])) == ["other length"]
    assert await db.search_memories(axis(1.0), table_name="facts") == []
    assert await db.search_memories(axis(0.0)) == []
    assert await db.search_memories(axis(1.0), count=0) == []


async def test_a_search_sees_every_change(db: Any) -> None:
    """What was stored, changed, moved and deleted before it."""
    await db.create_memory(memory("a", embedding=axis(1.0)))
    assert ids(await db.search_memories(axis(1.0))) == ["a"]
    await db.create_memory(memory("b", embedding=axis(1.0, 0.1)))
    assert ids(await db.search_memories(axis(1.0))) == ["a", "b"]

    await db.update_memory(memory("a", embedding=axis(0.0, 1.0), room_id="moved"))
    assert ids(await db.search_memories(axis(1.0), match_threshold=0.5)) == ["b"]
    assert ids(await db.search_memories(axis(0.0, 1.0), room_id="moved")) == ["a"]

    await db.delete_memory("b")
    await db.delete_all_memories("moved")
    assert await db.search_memories(axis(1.0), match_threshold=-1.0) == []


async def test_a_search_is_right_behind_many_deleted(db: Any) -> None:
    """However many of the nearest are gone."""
    near = [memory(f"n{n}", embedding=axis(1.0, 0.001 * n), room_id="gone") for n in range(100)]
    await db.create_memories([*near, memory("far", embedding=axis(0.0, 1.0))])
    assert ids(await db.search_memories(axis(1.0), count=2)) == ["n0", "n1"]

    await db.delete_all_memories("gone")
    assert ids(await db.search_memories(axis(1.0), count=2)) == ["far"]


async def test_a_search_sees_what_other_hosts_write(running: Host, kind: str, db: Any) -> None:
    """On one server: another process stores, changes and deletes."""
    if kind == "sqlite":
        return  # a file has one service
    async with running.connect() as client:
        other = Database(client.get_service(DatabaseClass), db.agent)
        second = found(client, "second")
        near = {"agent_id": db.agent, "match_threshold": 0.5}

        async def seen() -> list[str]:
            return [one["id"] for one in await second.search_memories(axis(1.0), **near)]

        assert await seen() == []
        await other.create_memory(memory("a", embedding=axis(1.0)))
        await other.create_memory(memory("b", embedding=axis(1.0, 0.1)))
        assert await seen() == ["a", "b"]
        await other.update_memory(memory("a", embedding=axis(0.0, 1.0)))
        assert await seen() == ["b"]
        await other.delete_memory("b")
        assert await seen() == []


async def test_vectors_of_several_models_are_kept(db: Any) -> None:
    """Side by side, also those of another length; of the same text only."""

    def of(model: str, vector: list[float], text: str = "same") -> Memory:
        return memory("m", text, embedding=vector, metadata={"embedding_model": model})

    await db.create_memory(of("one", axis(1.0)))
    await db.update_memory(of("two", axis(0.0, 1.0)))
    await db.update_memory(of("short", [1.0, 0.0]))

    assert ids(await db.search_memories(axis(1.0), model="one", match_threshold=0.9)) == ["m"]
    assert ids(await db.search_memories(axis(0.0, 1.0), model="two", match_threshold=0.9)) == ["m"]
    assert await db.search_memories(axis(1.0), model="short") == []
    (best,) = await db.search_memories(axis(1.0))
    assert best.similarity == pytest.approx(1.0)
    there = await db.get_memory_by_id("m")
    assert there.embedding == [1.0, 0.0]

    await db.update_memory(of("two", axis(0.0, 1.0), "another text"))
    assert await db.search_memories([1.0, 0.0]) == []
    await db.update_memory(memory("m", "another text"))
    assert await db.search_memories(axis(0.0, 1.0)) == []


# --- the cache ----------------------------------------------------------------------------


async def test_values_are_cached(db: Any) -> None:
    """Of any kind; the last one of a key; until they expire."""
    value = {"bytes": b"\0\1", "list": [1, None, "x"]}
    assert await db.get_cache("k") is None
    assert await db.set_cache("k", value)
    assert await db.get_cache("k") == value
    assert await db.set_cache("k", 7, ttl=60.0)
    assert await db.get_cache("k") == 7
    assert await db.set_cache("k", 8, ttl=0.0)
    assert await db.get_cache("k") is None
    assert await db.delete_cache("k")
    assert not await db.delete_cache("k")


# --- people, places, logs -----------------------------------------------------------------


async def test_people_and_places(db: Any) -> None:
    """Records come back as their classes; elizaOS's own names of methods work too."""
    tea = Component(entity_id="eve", type="taste", data={"likes": "tea"})
    assert await db.create_entities([Entity(id="eve", names=["Eve"]), Entity(id="mal")])
    assert not await db.create_entity(Entity(id="eve"))
    assert await db.create_component(tea) != ""
    assert await db.create_rooms([Room(id="r", world_id="w", type="GROUP")]) == ["r"]
    assert await db.add_participants_room(["eve", "mal"], "r")
    (eve, mal) = await db.get_entities_for_room("r", include_components=True)
    assert (eve.names, [one.data for one in eve.components]) == (["Eve"], [tea.data])
    assert (await db.get_entity_by_id("mal")) == mal
    assert await db.get_component("eve", "taste") == eve.components[0]
    assert await db.get_participants_for_room("r") == ["eve", "mal"]
    assert await db.get_rooms_for_participant("eve") == ["r"]
    await db.set_participant_user_state("r", "eve", "MUTED")
    assert await db.get_participant_user_state("r", "eve") == "MUTED"
    with pytest.raises(RemoteError, match=r"ghost.*takes no part in room 'r'"):
        await db.set_participant_user_state("r", "ghost", "MUTED")
    assert [room.id for room in await db.get_rooms(worldId="w")] == ["r"]
    await db.create_relationship(
        Relationship(source_entity_id="eve", target_entity_id="mal", tags=["friend"])
    )
    (pair,) = await db.get_relationships(entityId="mal", tags=["friend"])
    assert (pair.source_entity_id, pair.agent_id) == ("eve", db.agent)
    assert await db.delete_entity("eve")
    assert await db.get_participants_for_room("r") == ["mal"]


async def test_logs(db: Any) -> None:
    """In both forms of storing them."""
    await db.create_log(Log(type="model", body={"tokens": 3}, room_id="r", created_at=1.0))
    await db.log(type="action", body={}, roomId="r")
    found = await db.get_logs(roomId="r")
    assert [one.type for one in found] == ["action", "model"]
    await db.delete_log(found[0].id)
    assert [one.body for one in await db.get_logs(type="model")] == [{"tokens": 3}]
    assert len(await db.get_logs()) == 1


# --- tasks --------------------------------------------------------------------------------


async def test_tasks_are_chosen(db: Any) -> None:
    """In either spelling, in pages; a time crosses the wire."""
    now = datetime.now(UTC)
    for number in range(3):
        at = now + timedelta(hours=number - 1)
        task = Task(id=f"t{number}", name="n", room_id="r", scheduled_for=at)
        task.tags = ["queue"] * (number < 2)
        await db.create_task(task)
    due = await db.get_tasks({"roomId": "r", "scheduledFor": {"$lte": now}, "tags": ["queue"]})
    assert [one.id for one in due] == ["t0", "t1"]
    assert due[1].scheduled_for == now
    assert [one.id for one in await db.get_tasks({"limit": 1, "offset": 1})] == ["t1"]
    assert [one.id for one in await db.get_tasks_by_name("n")] == ["t0", "t1", "t2"]
    with pytest.raises(RemoteError, match="no field 'colour'"):
        await db.get_tasks({"colour": "red"})


async def test_a_task_is_claimed_and_settled_once(db: Any) -> None:
    """What lost its lease changes nothing; one of several callers changes a status."""
    await db.create_task(Task(id="t", name="n", tags=["queue"]))
    done = [await db.update_task("t", {"error": "x"}, if_status=one) for one in ("done", "pending")]
    assert done == [False, True]
    (task,) = await db.claim_tasks(owner="runner", lease=60.0, limit=5)
    assert (task.status, task.lease_owner, task.error) == ("running", "runner", "x")
    assert await db.claim_tasks(owner="other", lease=60.0) == []
    assert await db.renew_lease("t", task.lease, 60.0)
    assert await db.release_leases("runner") == 1
    assert not await db.settle_task("t", task.lease, {"status": "done"})
    (task,) = await db.claim_tasks(owner="runner", lease=60.0)
    assert await db.settle_task("t", task.lease, {"status": "done", "roomId": "r"})
    settled = await db.get_task("t")
    assert (settled.status, settled.room_id, settled.lease) == ("done", "r", "")
    with pytest.raises(RemoteError, match="LookupError: there is no task 'x'"):
        await db.update_task("x", {})
    with pytest.raises(RemoteError, match="a lease of some seconds"):
        await db.claim_tasks(owner="runner", lease=0.0)


async def test_tasks_of_every_agent(running: Host) -> None:
    """A service that belongs to no agent claims them; one that belongs to one may not."""
    async with running.connect() as client:
        ada, eve = found(client, "ada.relay"), found(client, "eve.relay")
        database: Any = client.get_service(DatabaseClass)
        for one in (ada, eve):
            await one.ask("create_task", {"task": Task(id="t", name="of all", tags=["queue"])})
        everything = {"owner": "every", "lease": 60.0, "names": ["of all"], "agent_id": "*"}
        with pytest.raises(RemoteError, match="every agent"):
            await ada.ask("claim_tasks", everything)
        claimed = await database.claim_tasks(limit=9, **everything)
        assert {one.agent_id for one in claimed} == {"ada", "eve"}
        assert [one.agent_id for one in await database.get_tasks({"agentId": "eve"})] == ["eve"]
        assert await database.get_logs({"agentId": "eve", "roomId": "none"}) == []


# --- agents -------------------------------------------------------------------------------


async def test_agents_do_not_see_each_other(running: Host, db: Any) -> None:
    """They may use the same ids; a service gets its own agent's without naming it."""
    async with running.connect() as client:
        ada, eve = found(client, "ada.relay"), found(client, "eve.relay")
        for one, text in ((ada, "of Ada"), (eve, "of Eve")):
            given = {"memory": memory("m", text, embedding=axis(1.0)), "table_name": "check"}
            assert await one.ask("create_memory", given) == "m"
            await one.ask("set_cache", {"key": "k", "value": text})
        for one, text in ((ada, "of Ada"), (eve, "of Eve")):
            (there,) = await one.ask("get_memories", {"table_name": "check"})
            assert there["content"]["text"] == text
            query = {"embedding": axis(1.0), "table_name": "check"}
            (nearest,) = await one.ask("search_memories", query)
            assert nearest["content"]["text"] == text
            assert await one.ask("get_cache", {"key": "k"}) == text
        await eve.ask("delete_memory", {"memory_id": "m"})
        assert await ada.ask("count_memories", {"table_name": "check"}) == 1


async def test_another_agent_s_records_are_refused(running: Host) -> None:
    """By the database, whoever asks: the error names both agents."""
    async with running.connect() as client:
        ada = found(client, "ada.relay")
        with pytest.raises(RemoteError, match=r"ada\.relay belongs to agent 'ada'.*agent 'eve'"):
            await ada.ask("get_memories", {"agent_id": "eve"})
        with pytest.raises(RemoteError, match="every agent"):
            await ada.ask("count_memories", {"agent_id": "*"})
        assert await ada.ask("count_memories", {"agent_id": "ada", "table_name": "none"}) == 0
        with pytest.raises(RemoteError, match="name one"):
            await found(client, "database").count_memories(agent_id="*")


# --- backups --------------------------------------------------------------------------------


async def test_a_backup_while_it_is_written(running: Host, kind: str, db: Any) -> None:
    """It has what was stored before it, with the mode 600, and replaces no file. PostgreSQL has a
    program of its own for that. An agent's service gets none."""
    target = running.folder / "copy.db"
    if kind != "sqlite":
        with pytest.raises(RemoteError, match="pg_dump"):
            await running.call("database", "backup", str(target))
        return
    await db.create_memory(memory("before", "kept"))
    writing = asyncio.gather(*(db.create_memory(memory(f"w{n}")) for n in range(100)))
    done = running.run("call", "database", "backup", str(target))
    assert (done.code, done.out.strip()) == (0, str(target))
    await writing

    assert target.stat().st_mode & 0o777 == 0o600
    with contextlib.closing(sqlite3.connect(target)) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        query = "SELECT content ->> 'text' FROM memories WHERE agent_id = ? AND id = 'before'"
        assert copy.execute(query, (db.agent,)).fetchone() == ("kept",)
    with pytest.raises(RemoteError, match=r"copy\.db exists already"):
        await running.call("database", "backup", str(target))
    with pytest.raises(RemoteError, match="No such file"):
        await running.call("database", "backup", "/nowhere/copy.db")
    with pytest.raises(RemoteError, match="records of all agents"):
        await running.call("ada.relay", "ask", "backup", {"path": str(target)})
    assert [path.name for path in target.parent.glob("copy*")] == ["copy.db"]


# --- errors -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (("create_memory", memory("x" * 600)), "id has 600 characters; the limit is 512"),
        (("create_memory", memory("m", room_id="a\0b")), "room_id 'a.x00b' has a NUL"),
        (("create_memory", memory("m", embedding=[1.0] * 16_001)), "1 to 16000 numbers"),
        (("set_cache", "k\0", 1), "has a NUL"),
    ],
)
async def test_what_cannot_be_stored_is_refused(db: Any, call: tuple[Any, ...], match: str) -> None:
    """With what is wrong; the other writes of the same moment are stored."""
    method, *arguments = call
    with pytest.raises(RemoteError, match=match):
        await getattr(db, method)(*arguments)
    began = time.monotonic()
    await db.create_memory(memory("good"))
    assert time.monotonic() - began < 30.0
