"""The proxy of a database: whose records a call means, and what it sends of that."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from garrison.ipc import InvalidCall, ServiceUnavailable, with_timeout
from garrison.ipc.directory import Directory
from garrison.ipc.messages import Entry, Manifest, State
from garrison.workers import Memory, Service, Task, as_memory, testing
from garrison.workers.agents.database.client import DatabaseProxy, agent_of_caller, takes_agent


def entry(name: str, service_type: str, agent: str = "") -> Entry:
    """Return a service that runs."""
    return Entry(name, "p", 0, Manifest(service_type), State.RUNNING, True, 1, b"t", agent=agent)


def host(*agents: str, shared: Iterable[str] = ("agent", "helper", "database")) -> Directory:
    """Return a host with shared services, and for each agent an own one and an own database."""
    own = [entry(f"{one}.{kind}", kind, one) for one in agents for kind in ("helper", "database")]
    return Directory([*(entry(kind, kind) for kind in shared), *own])


@pytest.mark.parametrize(
    ("directory", "name", "agent", "database", "expected"),
    [
        (host(), "helper", "", "database", ""),  # a host without agents
        (host("ada"), "ada.helper", "ada", "database", "ada"),
        (host("ada"), "helper", "", "ada.database", "ada"),  # it has no other's
        (host("ada", "max"), "max.helper", "max", "ada.database", "max"),  # which refuses it
        (host("ada"), "agent", "", "database", ""),  # a shared agent has its own conversations
        (host("ada"), "helper", "", "database", None),  # it must name one
        (host("ada"), "helper", "", "agent", None),
        (host("ada"), "unlisted", "", "database", None),
    ],
)
def test_the_agent_is_the_callers(
    directory: Directory, name: str, agent: str, database: str, expected: str | None
) -> None:
    """A shared service has none, and two agents' records are never mixed by a guess."""
    assert agent_of_caller(directory, name, agent, database) == expected


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        ("(memory: Memory, agent_id: str | None = None) -> str", True),
        ("(memory: Memory) -> str", False),
        ("(memory: Memory, my_agent_id: str = '') -> str", False),
        ("(*args: Any, **kwargs: Any)", False),
        ("(" + "x" * 499, True),  # cut off
    ],
)
def test_a_database_of_ones_own_need_not_know_agents(signature: str, expected: bool) -> None:
    """Its methods are called without what they do not take."""
    assert takes_agent(signature) is expected


class Asker(Service):
    """A service that uses the database."""

    service_type = "asker"

    def ask(self) -> int:
        """Ask from the thread of a plain method."""
        return self.runtime.database_adapter.count_memories("r").result(5)  # type: ignore[attr-defined, no-any-return]


class Database:
    """A fake that notes the agents it is called with."""

    service_type = "database"

    def __init__(self) -> None:
        self.agents: list[str | None] = []

    async def create_memory(
        self,
        memory: Memory,
        table_name: str = "messages",
        unique: bool = False,
        agent_id: str | None = None,
    ) -> str:
        """Note the agent."""
        self.agents.append(agent_id)
        return memory.id

    async def get_memory_by_id(self, memory_id: str, agent_id: str | None = None) -> Any:
        """Return a memory."""
        self.agents.append(agent_id)
        return as_memory(memory_id)

    async def count_memories(self, room_id: str | None = None, agent_id: str | None = None) -> int:
        """Note the agent."""
        self.agents.append(agent_id)
        return 8

    async def get_logs(self, *, room_id: str = "", agent_id: str | None = None) -> list[Any]:
        """Note the agent and the room."""
        self.agents.append(f"{agent_id}/{room_id}")
        return []

    async def get_task(self, task_id: str) -> dict[str, Any]:
        """Return a task, as a database without agents does."""
        return {"name": task_id}

    async def size(self, agent_id: str = "all") -> str:
        """Be no method of `DatabaseAdapter`."""
        return agent_id


async def test_agent_id_is_filled_in_unless_it_is_given() -> None:
    """By keyword or by position; None stands for the caller's."""
    fake = Database()
    async with testing.run(Asker, fakes={"database": fake}) as asker:
        asker.runtime.client.agent = "ada"
        adapter, memory = asker.runtime.database_adapter, as_memory("x")

        await adapter.create_memory(memory)
        await adapter.create_memory(memory, "facts", True, "max")
        await adapter.create_memory(memory, "facts", True, None)
        await adapter.create_memory(memory, agent_id="max")
        await adapter.create_memory(memory, agent_id=None)
        await with_timeout(adapter, 5.0).create_memory(memory)
        assert await asyncio.to_thread(asker.ask) == 8

    assert fake.agents == ["ada", "max", "ada", "max", "ada", "ada", "ada"]


async def test_elizaos_form_of_a_query() -> None:
    """`agentId` too is an agent that is given, as a keyword or within the mapping."""
    fake = Database()
    async with testing.run(Asker, fakes={"database": fake}) as asker:
        asker.runtime.client.agent = "ada"
        logs: Any = asker.runtime.database_adapter.get_logs

        await logs(roomId="r")
        await logs(roomId="r", agentId="max")
        await logs({"roomId": "r"})
        await logs({"roomId": "r", "agentId": "max"})

    assert fake.agents == ["ada/r", "max/r", "ada/r", "max/r"]


async def test_what_a_database_has_besides_is_called_as_it_is() -> None:
    """Also a method of `DatabaseAdapter` that takes no agent, even where one is named."""
    async with testing.run(Asker, fakes={"database": Database()}) as asker:
        adapter: Any = asker.runtime.database_adapter

        assert await adapter.size() == "all"
        assert (await adapter.get_task("t")).name == "t"
        assert (await adapter.get_task("t", agent_id="ada")).name == "t"


@pytest.mark.parametrize("wanted", ["database", "shelf", Database])
async def test_get_service_converts_a_databases_results(wanted: Any) -> None:
    """By NAME and by type as by a class: a dict would have no `name`."""
    fake = Database()
    async with testing.run(Asker, fakes={"shelf": fake}) as asker:
        runtime = asker.runtime
        found: list[Any] = [
            runtime.get_service(wanted),
            runtime.get_services_by_type("database")[0],
            runtime.get_all_services()["database"][0],
            await runtime.get_service_load_promise(wanted),
        ]

        for one in found:
            assert isinstance(one, DatabaseProxy)
            assert await one.get_memory_by_id("x")
        kinds = {type(await one.get_task("t")) for one in found[1:3]}

    assert kinds == {Task}
    assert fake.agents == [""] * 4


async def test_a_shared_service_names_an_agent_where_there_are_any() -> None:
    """The error says so, before anything is sent."""
    fake = Database()
    async with testing.run(Asker, fakes={"database": fake}) as asker:
        directory = asker.runtime.client.directory
        directory.replace([*directory, entry("ada.chat", "chat", "ada")])
        adapter = asker.runtime.database_adapter

        with pytest.raises(InvalidCall, match=r"asker belongs to no agent.*agent_id=, one of ada"):
            await adapter.count_memories()
        assert await adapter.count_memories(agent_id="ada") == 8

    assert fake.agents == ["ada"]


async def test_the_agent_says_what_it_lacks() -> None:
    """People, places and logs need a service of type `database`."""
    agent = Database()
    agent.service_type = "agent"
    async with testing.run(Asker, fakes={"agent": agent}) as asker:
        adapter: Any = asker.runtime.database_adapter

        assert await adapter.count_memories() == 8
        with pytest.raises(ServiceUnavailable, match=r"add \[plugins.database\]"):
            await adapter.get_all_worlds()
        with pytest.raises(AttributeError, match="did you mean 'count_memories'"):
            adapter.count_memory()
