"""What the database keeps of a person is exported, erased, and erased again after a restore."""

import importlib.util
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.postgres import NEEDS_POSTGRES, Postgres, postgres

from garrison.ipc.tombstones import Tombstones
from garrison.workers import Content, Memory
from garrison.workers.runtime import Runtime
from garrison.workers.services.database import DatabaseService
from garrison.workers.testing import run

pytestmark = [
    pytest.mark.external,
    pytest.mark.skipif(
        importlib.util.find_spec("sqlalchemy") is None,
        reason="the library sqlalchemy is not installed: pip install '.[external]'",
    ),
]

SECRET = "my sister lives in Ghent"
PEOPLE = """
INSERT INTO entities (agent_id, id) VALUES ('ada', '42'), ('ada', '43');
INSERT INTO components (agent_id, id, entity_id, type, source_entity_id)
  VALUES ('ada', 'c1', '42', 'facts', ''), ('ada', 'c2', '43', 'facts', '42'),
         ('ada', 'c3', '43', 'facts', '43');
INSERT INTO relationships (agent_id, id, source_entity_id, target_entity_id)
  VALUES ('ada', 'r1', '43', '42'), ('ada', 'r2', '43', '44');
INSERT INTO participants (agent_id, room_id, entity_id)
  VALUES ('ada', 'r', '42'), ('ada', 'r', '43');
INSERT INTO logs (agent_id, id, type, entity_id)
  VALUES ('ada', 'l1', 't', '42'), ('bo', 'l2', 't', '42');
INSERT INTO tasks (agent_id, id, name, status, entity_id, queued)
  VALUES ('ada', 't1', 'remind', 'pending', '42', true);
INSERT INTO usage (agent_id, day, provider, model, room_id, entity_id, task, finish, requests, cost)
  VALUES ('ada', '2026-11-30', 'p', 'm', '', '42', '', '', 2, 0.5),
         ('ada', '2026-11-30', 'p', 'm', '', '', '', '', 3, NULL)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """Run one server for all tests."""
    with postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=NEEDS_POSTGRES)])
def url(request: pytest.FixtureRequest) -> str:
    """Return the address of an empty database; empty is a file."""
    if request.param == "sqlite":
        return ""
    server: Postgres = request.getfixturevalue("server")
    name = request.node.name.partition("[")[0][-40:]
    return server.create(name)


@asynccontextmanager
async def database(
    folder: Path, url: str, monkeypatch: pytest.MonkeyPatch, tombstones: Tombstones | None = None
) -> AsyncIterator[DatabaseService]:
    """Yield a database with its file in a folder."""
    monkeypatch.setattr(Runtime, "data_folder", folder)
    if tombstones is not None:
        monkeypatch.setattr("garrison.workers.runtime.Tombstones", lambda: tombstones)
    async with run(DatabaseService, config={"url": url}) as service:
        yield service


def memory(one: str, person: str, source: str = "discord", **content: Any) -> Memory:
    """Return a memory with a vector."""
    return Memory(
        id=one,
        entity_id=person,
        room_id="r",
        content=Content(**{"text": SECRET, "source": source, **content}),
        embedding=[1.0, 2.0],
        created_at=50.0,
    )


async def fill(service: DatabaseService) -> None:
    """Store what several agents keep of person 42, and of others."""
    for agent in ("ada", "bo"):
        await service.create_memory(memory("m1", "42"), agent_id=agent)
        await service.create_memory(memory("fact", "42", ""), table_name="facts", agent_id=agent)
        answer = memory("a1", "agent", in_reply_to="m1")
        await service.create_memory(answer, agent_id=agent)
        other = memory("m2", "43", text="hello")
        await service.create_memory(other, agent_id=agent)
        await service.create_memory(memory("m3", "42", "telegram", text="hello"), agent_id=agent)
    await service.set_cache("profile:42", {"name": "Ada"}, agent_id="ada")
    await service.set_cache("profile:142", 1, agent_id="ada")

    def people(connection: Any) -> None:
        for statement in PEOPLE.split(";"):
            connection.exec_driver_sql(statement)

    await service._stores.database.write(people)


async def rows(service: DatabaseService, query: str) -> list[Any]:
    """Return the values of a query's first column."""
    found = await service._stores.database.read(
        lambda connection: connection.exec_driver_sql(query).scalars().all()
    )
    return list(found)


EXPECTED = {
    "memories": 6,
    "components": 2,
    "relationships": 1,
    "participants": 1,
    "logs": 2,
    "tasks": 1,
    "entities": 1,
    "usage": 1,
    "cached values": 1,
}


async def test_what_is_exported_is_forgotten_in_every_table(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every agent; what is another's is as it was; no byte stays in the files."""
    async with database(tmp_path, url, monkeypatch) as service:
        await fill(service)
        held = [row async for row in service.export_person("discord", "42")]
        msgspec.json.encode(held)
        stores = [row["store"] for row in held]
        assert {one: stores.count(one) for one in stores} == {
            name: count for name, count in EXPECTED.items() if name != "cached values"
        }

        assert await service.forget_person("discord", "42") == EXPECTED

        assert await rows(service, "SELECT id FROM memories ORDER BY id") == [
            "m2",
            "m2",
            "m3",
            "m3",
        ]
        assert await rows(service, "SELECT memory_id FROM embeddings WHERE memory_id = 'm1'") == []
        assert await rows(service, "SELECT id FROM components") == ["c3"]
        assert await rows(service, "SELECT id FROM relationships") == ["r2"]
        assert await rows(service, "SELECT id FROM entities") == ["43"]
        assert await rows(service, "SELECT requests FROM usage") == [5]
        assert await rows(service, "SELECT cost FROM usage") == [0.5]
        assert await rows(service, "SELECT key FROM cache") == ["profile:142"]
        for path in sorted(tmp_path.iterdir()):  # noqa: ASYNC240
            assert SECRET.encode() not in path.read_bytes(), path
        assert sum((await service.forget_person("discord", "42")).values()) == 0


async def test_a_restored_database_forgets_again(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it starts; what was stored after the person was forgotten stays."""
    async with database(tmp_path, url, monkeypatch) as service:
        await fill(service)
        late = msgspec.structs.replace(memory("late", "42"), created_at=200.0)
        await service.create_memory(late, agent_id="ada")
    tombstones = Tombstones(b"salt").adding(("discord",), "42", at=100.0)

    async with database(tmp_path, url, monkeypatch, tombstones) as service:
        found = await rows(service, "SELECT id FROM memories ORDER BY id")
        assert found == ["late", "m2", "m2", "m3", "m3"]
        assert await rows(service, "SELECT id FROM entities") == ["43"]
        await service.create_memory(memory("m1", "42"), agent_id="ada")
    async with database(tmp_path, url, monkeypatch, tombstones) as service:
        assert "m1" in await rows(service, "SELECT id FROM memories")  # it was not looked through


async def test_a_service_of_one_agent_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would erase what other agents keep."""
    async with database(tmp_path, "", monkeypatch) as service:
        caller = type("Caller", (), {"name": "bo.x", "agent": "bo", "service_type": "x"})()
        monkeypatch.setattr(Runtime, "caller", caller)
        with pytest.raises(PermissionError, match="belongs to agent 'bo'"):
            await service.forget_person("discord", "42")
