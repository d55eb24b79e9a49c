"""The agent functions of a service: the choice of send handlers, components and databases."""

from collections.abc import Iterable
from typing import Any

import pytest

from garrison.ipc.messages import ActionInfo, Entry, Manifest, State
from garrison.workers.agents.api import AgentApi
from garrison.workers.testing import Harness, LoopbackClient


def bird(name: str, agent: str, *sends_for: str, runs: bool = True) -> Entry:
    """Return a service of the type `bird` with send handlers."""
    state = State.RUNNING if runs else State.QUEUED
    manifest = Manifest("bird", sends_for=sends_for)
    return Entry(name, "birds", 0, manifest, state, True, 1, b"t" * runs, agent=agent)


def api_with(entries: Iterable[Entry], agent: str = "") -> tuple[AgentApi, LoopbackClient]:
    """Return the functions of a service `tested` of an agent, with these services around it."""
    client = LoopbackClient("tested")
    client.agent = agent
    client.directory.replace(entries)
    return AgentApi(client, "tested"), client


ALL = [
    bird("bird", "", "bird"),
    bird("bird-2", "", "bird", runs=False),
    bird("silent", ""),
    bird("post", "", "pigeon", runs=False),
    bird("post-2", "", "pigeon"),
    bird("ada.bird", "ada", "bird", runs=False),
    bird("ada.own", "ada", "own", "bird"),
    bird("max.bird", "max", "bird"),
]


@pytest.mark.parametrize(
    ("agent", "source", "expected"),
    [
        ("", "bird", ("bird", "bird")),
        ("", "bird-2", ("bird-2", "bird")),  # although another one of its type is running
        ("", "pigeon", ("post-2", "pigeon")),  # not a NAME: the one that is running
        ("", "silent", (None, "silent")),
        ("", "unknown", (None, "unknown")),
        ("ada", "ada.bird", ("ada.bird", "bird")),
        ("ada", "bird", ("ada.bird", "bird")),
        ("ada", "ada.own", ("ada.own", "own")),
        ("max", "max.bird", ("max.bird", "bird")),
        ("max", "pigeon", ("post-2", "pigeon")),
    ],
)
async def test_a_services_own_send_handler_sends_for_it(
    agent: str, source: str, expected: tuple[str | None, str]
) -> None:
    """A NAME means that service's handler, even if registered for its type; never another's."""
    api, client = api_with(ALL, agent)

    sender, registered = api._send_handler(source, client.entry_of(source))
    assert (sender.name if sender else None, registered) == expected
    client.close()


async def test_a_component_that_several_workers_of_a_plugin_register_is_listed_once() -> None:
    """`init` runs in each worker, but the action must run once. Other plugins may use its name."""
    manifest = Manifest("x", actions=(ActionInfo("TIP"),))
    workers = (("a", "p"), ("b", "p"), ("c", "q"))
    api, client = api_with(
        Entry(name, plugin, position, manifest, State.RUNNING, True, 1, b"t")
        for position, (name, plugin) in enumerate(workers)
    )

    assert [(one.name, one.service) for one in api.actions] == [("TIP", "a"), ("TIP", "c")]
    client.close()


@pytest.mark.parametrize(
    ("agent", "databases", "expected"),
    [
        ("", ["ada.database"], "agent"),
        ("", ["ada.database", "database"], "database"),
        ("ada", ["database", "ada.database"], "ada.database"),
        ("max", ["ada.database"], "agent"),
        ("max", ["ada.database", "database"], "database"),
    ],
)
async def test_an_agents_memories_are_never_in_another_agents_database(
    agent: str, databases: list[str], expected: str
) -> None:
    """The same holds for a shared service."""
    entries = []
    for position, name in enumerate([*databases, "agent"]):
        owner, _, service_type = name.rpartition(".")
        manifest = Manifest(service_type)
        entries.append(
            Entry(name, "p", position, manifest, State.RUNNING, True, 1, b"t", agent=owner)
        )
    api, client = api_with(entries, agent)

    assert repr(api.database_adapter) == f"<service {expected}: running>"
    assert api.has_database is (expected != "agent")
    client.close()


@pytest.mark.parametrize(("event", "handler"), [(5, print), (None, print), ("SAID", None)])
async def test_an_event_handler_needs_a_name_and_a_function(event: Any, handler: Any) -> None:
    """An event's name that cannot be decoded would prevent the worker's adoption."""
    harness = Harness("tested")
    with pytest.raises(TypeError, match="an event's name and a function"):
        harness.runtime.register_event(event, handler)
    await harness.close()
