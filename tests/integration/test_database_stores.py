"""People, places, logs, tasks and retention of the database: the same on a file and on a server."""

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from tests.support.examples import examples
from tests.support.postgres import NEEDS_POSTGRES, postgres
from tests.support.stores import Opened, StoreRunner
from tests.support.task_queries import queries, task_lists

from garrison.workers import (
    Component,
    Entity,
    Log,
    Participant,
    Relationship,
    Room,
    Task,
    TaskChanges,
    TaskQuery,
    World,
)
from garrison.workers.services.database.retention import RetentionStore

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
ENGINES = [
    pytest.param("sqlite", id="sqlite"),
    pytest.param("postgres", id="postgres", marks=NEEDS_POSTGRES),
]


@pytest.fixture(scope="module", params=ENGINES)
def run(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[StoreRunner]:
    """Yield what runs a scenario on one of the engines."""
    if request.param == "sqlite":
        folder: Path = tmp_path_factory.mktemp("stores")
        yield StoreRunner(folder)
        return
    with postgres() as server:
        yield StoreRunner(server.url)


# --- commits whose outcome is not known -----------------------------------------------------


def test_a_transaction_that_the_store_does_not_know_has_not_committed(run: StoreRunner) -> None:
    """A server that crashed before it had written any of it says "in the future"."""

    async def scenario(stores: Opened) -> bool:
        return await stores.database.engine.committed(str(2**40 + 5))

    assert not run(scenario)


# --- people -------------------------------------------------------------------------------


def test_entities(run: StoreRunner) -> None:
    """An entity is stored once, with its components, and deleted with all that is about it."""
    ada, bob = run.agent(), run.agent()

    async def scenario(stores: Opened) -> None:
        people, places = stores.people, stores.places
        tea = Component(entity_id="", type="taste", data={"likes": ["tea", None, 2**40]})
        eve = Entity(id="eve", names=["Eve", "Ève"], metadata={"n": 1.5}, components=[tea])
        assert await people.create_entities(ada, [eve, Entity(id="mal")])
        assert not await people.create_entities(ada, [Entity(id="eve", names=["x"]), Entity()])
        assert await people.create_entities(bob, [Entity(id="eve", names=["other"])])
        assert await people.create_entities(ada, [])

        found = await people.entities_by_ids(ada, ["mal", "eve", "nobody", "eve"], True)
        assert [(one.id, one.names, one.agent_id) for one in found] == [
            ("mal", [], ada),
            ("eve", ["Eve", "Ève"], ada),
        ]
        assert [part.data for part in found[1].components] == [tea.data]
        assert found[1].components[0].entity_id == "eve"

        assert await people.update_entity(ada, Entity(id="eve", names=["E"], metadata={"m": {}}))
        assert not await people.update_entity(ada, Entity(id="nobody"))
        await places.add_participants(ada, "r", ["mal", "eve", "ghost"])
        await people.create_relationship(
            ada, Relationship(source_entity_id="mal", target_entity_id="eve")
        )
        room = await people.entities_of_room(ada, "r", False)
        assert [(one.id, one.names, one.components) for one in room] == [
            ("mal", [], []),
            ("eve", ["E"], []),
        ]
        assert await people.delete_entity(ada, "eve")
        assert not await people.delete_entity(ada, "eve")
        assert await people.components(ada, "eve", {}) == []
        assert await people.relationships(ada, "mal", []) == []
        assert await places.participant(ada, "r", "eve") is None
        assert len(await people.entities_by_ids(bob, ["eve"], False)) == 1

    run(scenario)


def test_many_entities_at_once(run: StoreRunner) -> None:
    """More than one statement takes; some exist already."""
    ada = run.agent()

    async def scenario(stores: Opened) -> None:
        many = [Entity(id=str(number)) for number in range(1_200)]
        await stores.people.create_entities(ada, many[500:600])
        assert not await stores.people.create_entities(ada, many)
        found = await stores.people.entities_by_ids(ada, [one.id for one in many], True)
        assert [one.id for one in found] == [one.id for one in many]

    run(scenario)


def test_components(run: StoreRunner) -> None:
    """They are found by type, world and sender, the newest first where one is wanted."""
    ada = run.agent()

    async def scenario(stores: Opened) -> None:
        people = stores.people
        for number, (kind, world) in enumerate([("a", "w1"), ("a", "w2"), ("b", "w1")]):
            part = Component(
                id=f"c{number}", entity_id="e", type=kind, world_id=world, created_at=number + 1.0
            )
            assert await people.create_component(ada, part) == f"c{number}"

        async def ids(newest: bool = False, **where: str | None) -> list[str]:
            return [one.id for one in await people.components(ada, "e", where, newest)]

        assert await ids() == ["c0", "c1", "c2"]
        assert await ids(type="a") == ["c0", "c1"]
        assert await ids(type="a", newest=True) == ["c1"]
        assert await ids(type="a", world_id="w1", newest=True) == ["c0"]
        assert await ids(source_entity_id="x") == []
        changed = Component(id="c0", entity_id="e", type="a", data={"new": True})
        assert await people.update_component(ada, changed)
        assert not await people.update_component(ada, Component(id="x", entity_id="e", type="a"))
        first = (await people.components(ada, "e", {}))[0]
        assert (first.data, first.world_id, first.created_at) == ({"new": True}, "", 1.0)
        await people.delete_component(ada, "c0")
        assert await ids() == ["c1", "c2"]

    run(scenario)


def test_relationships(run: StoreRunner) -> None:
    """One for each ordered pair, found from either side, by all of the tags."""
    ada = run.agent()

    async def scenario(stores: Opened) -> None:
        people = stores.people

        def pair(source: str, target: str, *tags: str) -> Relationship:
            return Relationship(source_entity_id=source, target_entity_id=target, tags=list(tags))

        first = await people.create_relationship(ada, pair("a", "b", "friend", "ünï%_'"))
        assert await people.create_relationship(ada, pair("a", "b", "foe")) == first
        await people.create_relationship(ada, pair("b", "a", "friend"))
        await people.create_relationship(ada, pair("c", "d"))

        assert len(await people.relationships(ada, "a", [])) == 2
        assert len(await people.relationships(ada, "a", ["friend"])) == 2
        assert [one.id for one in await people.relationships(ada, "b", ["ünï%_'", "friend"])] == [
            first
        ]
        assert await people.relationships(ada, "a", ["friend", "foe"]) == []
        changed = pair("a", "b", "ex")
        changed.metadata = {"since": 3}
        assert await people.update_relationship(ada, changed)
        assert not await people.update_relationship(ada, pair("a", "z"))
        found = await people.relationship(ada, "a", "b")
        assert found is not None
        assert (found.id, found.tags, found.metadata) == (first, ["ex"], {"since": 3})
        assert await people.relationship(ada, "a", "z") is None

    run(scenario)


# --- places -------------------------------------------------------------------------------


def test_worlds_and_rooms(run: StoreRunner) -> None:
    """They are kept by agent; a world's rooms are deleted with their participants."""
    ada, bob = run.agent(), run.agent()

    async def scenario(stores: Opened) -> None:
        places = stores.places
        assert await places.create_world(ada, World(id="w", name="one")) == "w"
        assert await places.create_world(ada, World(id="w", name="two")) == "w"
        assert await places.create_world(ada, World(name="x" * 2_000)) != ""
        assert [one.name[:5] for one in await places.worlds(ada)] == ["one", "xxxxx"]
        assert await places.update_world(ada, World(id="w", name="three", metadata={"a": [1]}))
        assert [(one.name, one.metadata) for one in await places.worlds(ada, "w")] == [
            ("three", {"a": [1]})
        ]
        assert await places.worlds(bob, "w") == []
        assert not await places.update_world(bob, World(id="w"))

        rooms = [Room(id=f"r{n}", world_id="w", type="GROUP", source="discord") for n in (2, 1)]
        assert await places.create_rooms(ada, [*rooms, Room(id="dm")]) == ["r2", "r1", "dm"]
        await places.create_rooms(bob, rooms)
        assert await places.create_rooms(ada, []) == []
        assert [one.id for one in await places.rooms_of_world(ada, "w")] == ["r2", "r1"]
        assert [one.source for one in await places.rooms_by_ids(ada, ["dm", "r1", "no"])] == [
            "",
            "discord",
        ]
        assert await places.update_room(ada, Room(id="r1", name="hall", world_id="w"))
        assert not await places.update_room(ada, Room(id="no"))
        await places.add_participants(ada, "r1", ["eve"])
        await places.add_participants(ada, "dm", ["eve"])
        await places.delete_rooms(ada, world_id="w")
        assert await places.rooms_of_world(ada, "w") == []
        assert [one.room_id for one in await places.participants(ada, entity_ids=["eve"])] == ["dm"]
        await places.delete_rooms(ada, room_id="dm")
        assert await places.participants(ada, entity_ids=["eve"]) == []
        assert len(await places.rooms_of_world(bob, "w")) == 2
        await places.remove_world(ada, "w")
        assert await places.worlds(ada, "w") == []

    run(scenario)


def test_participants(run: StoreRunner) -> None:
    """An entity takes part once and keeps its state; a state needs a part."""
    ada = run.agent()

    async def scenario(stores: Opened) -> None:
        places = stores.places
        await places.add_participants(ada, "r", ["eve", "mal", "eve"])
        assert await places.set_state(ada, "r", "eve", "MUTED")
        await places.add_participants(ada, "r", ["eve", "ann"])
        await places.add_participants(ada, "q", ["eve"])

        assert [one.entity_id for one in await places.participants(ada, room_id="r")] == [
            "eve",
            "mal",
            "ann",
        ]
        assert await places.participant(ada, "r", "eve") == Participant(
            entity_id="eve", room_id="r", agent_id=ada, state="MUTED"
        )
        found = await places.participants(ada, entity_ids=["eve", "mal"])
        assert [one.room_id for one in found] == ["r", "r", "q"]
        assert not await places.set_state(ada, "r", "ghost", "MUTED")
        assert await places.remove_participant(ada, "r", "eve")
        assert not await places.remove_participant(ada, "r", "eve")
        assert await places.participant(ada, "r", "eve") is None

    run(scenario)


# --- logs ---------------------------------------------------------------------------------


def test_logs(run: StoreRunner) -> None:
    """Newest first, in pages, by entity, room and type."""
    ada = run.agent()

    async def scenario(stores: Opened) -> None:
        logs = stores.logs
        for number in range(5):
            entry = Log(
                id=str(number), type="abc"[number % 3], created_at=number + 1.0, room_id="r"
            )
            await logs.create(ada, entry)
        await logs.create(ada, Log(id="3", type="x"))  # exists

        async def ids(count: int | None = None, offset: int = 0, **where: str | None) -> str:
            return "".join(one.id for one in await logs.select(ada, where, count, offset))

        assert await ids() == "43210"
        assert await ids(2) == "43"
        assert await ids(2, 2) == "21"
        assert await ids(type="a", room_id="r", entity_id=None) == "30"
        assert await ids(entity_id="e") == ""
        await logs.delete(ada, "3")
        assert await ids() == "4210"

    run(scenario)


# --- tasks --------------------------------------------------------------------------------


def test_tasks(run: StoreRunner) -> None:
    """What was stored comes back; one of several callers changes a status."""
    ada, bob = run.agent(), run.agent()

    async def scenario(stores: Opened) -> None:
        tasks = stores.tasks
        task = Task(
            id="t", name="remind", tags=["queue"], metadata={"updateInterval": 5, "b": b"\0"},
            scheduled_for=NOON + timedelta(microseconds=123_457), cron="* * * * *", max_late=3.5,
            attempts=2, runs=1, missed_until=5.0, error="x" * 2_000, created_at=7.0,
        )  # fmt: skip
        assert await tasks.create(ada, task) == "t"
        assert await tasks.create(ada, Task(id="t", name="other")) == "t"
        assert await tasks.create(ada, Task(name="nameless")) != ""
        found = await tasks.get(ada, "t")
        assert found is not None
        assert found.updated_at > 0
        task.agent_id, task.updated_at = ada, found.updated_at
        assert found == task
        assert await tasks.get(bob, "t") is None

        running = TaskChanges.parse({"status": "running"})
        done = [await tasks.update(ada, "t", running, "pending") for _ in range(2)]
        assert done == [True, False]
        assert await tasks.update(ada, "t", TaskChanges.parse({"scheduledFor": None}), None)
        assert await tasks.update(ada, "t", TaskChanges.parse({}), "running")
        found = await tasks.get(ada, "t")
        assert found is not None
        assert (found.status, found.scheduled_for, found.error) == ("running", None, task.error)
        with pytest.raises(LookupError, match="no task 'x'"):
            await tasks.update(ada, "x", running, "pending")
        await tasks.delete(ada, "t")
        assert await tasks.get(ada, "t") is None

    run(scenario)


def test_queries_of_tasks_in_pages(run: StoreRunner) -> None:
    """Also where a condition is not SQL's: metadata is compared after the rows are read."""
    ada = run.agent()

    async def scenario(stores: Opened) -> None:
        for number in range(1_100):
            task = Task(
                id=str(number), name="n", metadata={"odd": number % 2}, created_at=number + 1.0
            )
            await_all.append(stores.tasks.create(ada, task))
        await asyncio.gather(*await_all)

        async def ids(query: dict[str, Any]) -> list[int]:
            found = await stores.tasks.select(ada, TaskQuery.parse(query))
            return [int(one.id) for one in found]

        assert await ids({"limit": 3, "offset": 2}) == [2, 3, 4]
        assert await ids({"metadata": {"odd": 1}, "limit": 3, "offset": 500}) == [1001, 1003, 1005]
        assert len(await ids({"metadata": {"odd": 0}})) == 550
        assert await ids({"name": {"$in": [str(n) for n in range(600)]}}) == []

    await_all: list[Any] = []
    run(scenario)


def test_queries_mean_the_same_as_in_python(run: StoreRunner) -> None:
    """Of generated tasks and queries; the property test tries more of them on a file."""
    tried: list[tuple[list[Task], dict[str, Any]]] = []

    @settings(database=None, max_examples=examples(60), deadline=None)
    @given(task_lists(), queries())
    def collect(stored: list[Task], params: dict[str, Any]) -> None:
        tried.append((stored, params))

    collect()

    async def scenario(stores: Opened) -> None:
        for stored, params in tried:
            agent, query = run.agent(), TaskQuery.parse(params)
            for task in stored:
                await stores.tasks.create(agent, task)
            found = await stores.tasks.select(agent, query)
            assert [one.id for one in found] == [one.id for one in query.select(stored)], params

    run(scenario)


def test_a_claim_takes_what_is_due(run: StoreRunner) -> None:
    """The earliest first; not what is later, paused, claimed, another's or without the tag."""
    ada, bob = run.agent(), run.agent()
    now = time.time()

    def at(seconds: float) -> datetime:
        return datetime.fromtimestamp(now + seconds, UTC)

    async def scenario(stores: Opened) -> None:
        tasks, queue = stores.tasks, ["queue"]
        for task in (
            Task(id="late", name="a", tags=queue, scheduled_for=at(3_600)),
            Task(id="2", name="a", tags=queue, scheduled_for=at(-10)),
            Task(id="3", name="b", tags=queue, scheduled_for=at(-5)),
            Task(id="1", name="a", tags=["x", "queue"]),
            Task(id="paused", name="a", tags=queue, status="paused"),
            Task(id="own", name="a"),
        ):
            await tasks.create(ada, task)
        await tasks.create(bob, Task(id="2", name="a", tags=queue))

        async def claim(limit: int = 10, lease: float = 60.0, **named: Any) -> list[str]:
            found = await tasks.claim(ada, "runner", lease, limit, named.get("names"))
            assert all(one.status == "running" and one.lease for one in found)
            return [one.id for one in found]

        assert await claim(names=["b"]) == ["3"]
        assert await claim(1) == ["1"]
        assert await claim() == ["2"]
        assert await claim() == []
        assert [one.agent_id for one in await tasks.claim(bob, "r", 60.0, 5, None)] == [bob]
        assert await tasks.update(ada, "late", TaskChanges.parse({"scheduled_for": now - 1}), None)
        assert await tasks.update(ada, "own", TaskChanges.parse({"tags": queue}), None)
        assert sorted(await claim()) == ["late", "own"]

    run(scenario)


def test_a_lease_fences(run: StoreRunner) -> None:
    """Who lost the lease changes nothing; what ends the lease is its time, or another status."""
    ada = run.agent()

    async def scenario(stores: Opened) -> None:
        tasks = stores.tasks

        async def claim() -> list[Task]:
            return await tasks.claim(ada, "runner", 60.0, 5, None)

        await tasks.create(ada, Task(id="t", name="n", tags=["queue"]))
        first = (await claim())[0]
        assert await claim() == []
        assert await tasks.renew(ada, "t", first.lease, -1.0)  # its time is over
        second = (await claim())[0]
        assert first.lease != second.lease
        done = TaskChanges.parse({"status": "done"})
        assert not await tasks.renew(ada, "t", first.lease, 60.0)
        assert not await tasks.settle(ada, "t", first.lease, done)
        assert not await tasks.settle(ada, "t", "", done)
        assert await tasks.renew(ada, "t", second.lease, 60.0)
        retry = TaskChanges.parse({"attempts": 1, "error": "x", "scheduled_for": None})
        assert await tasks.settle(ada, "t", second.lease, retry)
        assert not await tasks.settle(ada, "t", second.lease, done)
        third = (await claim())[0]
        assert (third.attempts, third.error) == (1, "x")
        assert await tasks.update(ada, "t", TaskChanges.parse({"status": "paused"}), "running")
        assert not await tasks.settle(ada, "t", third.lease, done)
        found = await tasks.get(ada, "t")
        assert found is not None
        assert (found.status, found.lease, found.lease_owner) == ("paused", "", "")
        assert await claim() == []

    run(scenario)


def test_tasks_are_settled_together(run: StoreRunner) -> None:
    """Each by its own lease and with its own values, also where the columns differ."""
    ada = run.agent()

    async def scenario(stores: Opened) -> None:
        tasks = stores.tasks
        for number in range(4):
            await tasks.create(ada, Task(id=str(number), name="n", tags=["queue"]))
        leases = {one.id: one.lease for one in await tasks.claim(ada, "r", 60.0, 9, None)}
        given: list[tuple[str, str, dict[str, Any]]] = [
            ("0", leases["0"], {"status": "done", "metadata": {"n": 0}, "tags": ["a"]}),
            ("1", "another", {"status": "done", "metadata": {"n": 1}, "tags": ["b"]}),
            ("2", leases["2"], {"status": "pending", "metadata": {"n": None}, "tags": ["queue"]}),
            ("3", leases["3"], {"scheduled_for": NOON, "max_late": None, "attempts": 7}),
            ("0", leases["0"], {"status": "failed", "metadata": {}, "tags": []}),
        ]
        done = await asyncio.gather(
            *(tasks.settle(ada, one, lease, TaskChanges.parse(new)) for one, lease, new in given)
        )
        assert done == [True, False, True, True, False]
        found = await tasks.select(ada, TaskQuery())
        assert [(one.status, one.metadata, one.tags) for one in found] == [
            ("done", {"n": 0}, ["a"]),
            ("running", {}, ["queue"]),
            ("pending", {"n": None}, ["queue"]),
            ("pending", {}, ["queue"]),
        ]
        assert (found[3].scheduled_for, found[3].max_late, found[3].attempts) == (NOON, None, 7)
        assert [one.id for one in await tasks.claim(ada, "r", 60.0, 9, None)] == ["2", "3"]

    run(scenario)


def test_an_owner_gives_up_what_its_former_process_held(run: StoreRunner) -> None:
    """The tasks are due again, of the owner's alone; "*" is of every agent."""
    ada, bob = run.agent(), run.agent()
    owner, other = f"{ada}-runner", f"{ada}-other"

    async def scenario(stores: Opened) -> None:
        tasks = stores.tasks
        for agent in (ada, bob):
            for number in range(4):
                await tasks.create(agent, Task(id=str(number), name="n", tags=["queue"]))
            assert len(await tasks.claim(agent, owner, 60.0, 2, None)) == 2
            assert len(await tasks.claim(agent, other, 60.0, 2, None)) == 2
        assert await tasks.release(ada, owner) == 2
        assert await tasks.release(ada, owner) == 0
        assert len(await tasks.claim(ada, other, 60.0, 9, None)) == 2
        assert await tasks.release("*", owner) == 2
        assert await tasks.claim(ada, owner, 60.0, 9, None) == []
        assert len(await tasks.claim(bob, owner, 60.0, 9, None)) == 2

    run(scenario)


def test_each_due_task_is_claimed_once(run: StoreRunner) -> None:
    """By several claimers at once, of one agent or of all."""
    ada = run.agent()

    async def scenario(stores: Opened) -> None:
        tasks = stores.tasks
        await asyncio.gather(
            *(tasks.create(ada, Task(id=str(n), name=ada, tags=["queue"])) for n in range(200))
        )

        async def work(agent: str, owner: str) -> list[str]:
            ids: list[str] = []
            while found := await tasks.claim(agent, owner, 60.0, 7, [ada]):
                ids += [one.id for one in found]
                for one in found:
                    done = TaskChanges.parse({"status": "done"})
                    assert await tasks.settle(ada, one.id, one.lease, done)
            return ids

        lists = await asyncio.gather(work(ada, "1"), work("*", "2"), work(ada, "3"), work("*", "4"))
        found = [one for ids in lists for one in ids]
        assert sorted(found, key=int) == [str(n) for n in range(200)]

    run(scenario)


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        (Task(name="n", tags=["a\0"]), "NUL"),
        (Task(name="n\0"), "NUL"),
        (Task(name="n", error="\0"), "NUL"),
        (Task(name="n" * 600), "600 characters"),
        (Task(name="n", room_id="r" * 600), "600 characters"),
    ],
)
def test_what_no_database_can_store_is_an_error(run: StoreRunner, task: Task, problem: str) -> None:
    """On a file too, so that a host can move to PostgreSQL."""

    async def scenario(stores: Opened) -> None:
        with pytest.raises(ValueError, match=problem):
            await stores.tasks.create("ada", task)

    run(scenario)


# --- retention ----------------------------------------------------------------------------


def test_retention(run: StoreRunner) -> None:
    """What is older is deleted, in parts; tasks that may run again are kept at any age."""
    ada = run.agent()
    now = time.time()

    async def scenario(stores: Opened) -> None:
        for number in range(3):
            await stores.logs.create(ada, Log(id=f"old{number}", type="x", created_at=5.0))
        await stores.logs.create(ada, Log(id="new", type="x"))
        for status in ("pending", "done", "failed", "paused", "running"):
            task = Task(id=status, name="n", status=status, created_at=5.0, updated_at=5.0)
            await stores.tasks.create(ada, task)
        await stores.tasks.create(ada, Task(id="just", name="n", status="done"))

        assert await stores.retention.delete_part("logs", now - 100.0) >= 3
        assert [one.id for one in await stores.logs.select(ada, {}, None, 0)] == ["new"]
        assert await stores.retention.delete_part("tasks", now - 100.0) >= 2
        left = {one.id for one in await stores.tasks.select(ada, TaskQuery())}
        assert left == {"pending", "paused", "running", "just"}
        assert await stores.retention.delete_part("logs", now - 100.0) == 0
        for table in ("cache", "usage", "messages"):
            assert await stores.retention.delete_part(table, now) == 0

        await stores.logs.create(ada, Log(id="old", type="x", created_at=5.0))
        swept = RetentionStore(stores.database, {"logs": now - 100.0, "tasks": 0.0})
        assert await swept.sweep() == swept.deleted == 1
        assert await swept.sweep() == 0

    run(scenario)
