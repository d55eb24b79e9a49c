"""What a service finds of its agent's: who sends for a source, which parts there are."""

from typing import Any

import pytest

from garrison.ipc.messages import ActionInfo, Entry, Listed, Manifest, State
from garrison.workers.testing import TestRuntime


def bird(name: str, agent: str, *sends_for: str, runs: bool = True) -> Entry:
    """Return a service of the type `bird`, which has send handlers."""
    state = State.RUNNING if runs else State.QUEUED
    manifest = Manifest("bird", sends_for=sends_for)
    return Entry(name, "birds", 0, manifest, state, True, 1, b"t" * runs, agent=agent)


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
        ("", "bird-2", ("bird-2", "bird")),  # though another of its type runs
        ("", "pigeon", ("post-2", "pigeon")),  # nobody's NAME: whoever runs
        ("", "silent", (None, "silent")),
        ("", "nobody", (None, "nobody")),
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
    """By its NAME, also where it was registered for its type; another account's never does."""
    runtime = TestRuntime("asking", {})
    runtime.agent = agent
    runtime.directory.replace(ALL)

    sender, handled = runtime._sender(source, runtime._find(source))
    assert (sender.name if sender else None, handled) == expected
    runtime.close()


async def test_what_several_workers_of_a_plugin_register_is_one() -> None:
    """`init` runs in each: its action must not be run twice for a message. Two plugins may call
    theirs the same."""
    runtime = TestRuntime("asking", {})
    manifest = Manifest("x", actions=(ActionInfo("TIP"),))
    for position, (name, plugin) in enumerate((("a", "p"), ("b", "p"), ("c", "q"))):
        entry = Entry(name, plugin, position, manifest, State.RUNNING, True, 1, b"t")
        runtime.directory.apply(Listed(entry))

    assert [(one.name, one.service) for one in runtime.actions] == [("TIP", "a"), ("TIP", "c")]
    runtime.close()


@pytest.mark.parametrize(
    ("state", "expected"),
    [(State.RUNNING, 5.0), (State.QUEUED, 5.0), (State.BACKOFF, 1.0)],
)
async def test_what_keeps_crashing_is_not_waited_for_long(state: State, expected: float) -> None:
    """Each message would wait for as long; what crashed once is on its way back."""
    runtime = TestRuntime("asking", {})
    runtime.directory.replace([Entry("a", "p", 0, Manifest("a"), state, True)])

    assert runtime.patience("a", 5.0) == expected
    assert runtime.patience("a", 0.5) == 0.5
    assert runtime.patience("gone", 5.0) == 5.0
    runtime.close()


@pytest.mark.parametrize(
    ("agent", "there", "expected"),
    [
        ("", ["ada.database"], "agent"),
        ("", ["ada.database", "database"], "database"),
        ("ada", ["database", "ada.database"], "ada.database"),
        ("max", ["ada.database"], "agent"),
        ("max", ["ada.database", "database"], "database"),
    ],
)
async def test_no_agents_memories_are_in_anothers_database(
    agent: str, there: list[str], expected: str
) -> None:
    """Nor are those of an agent that is everybody's."""
    runtime = TestRuntime("asking", {})
    runtime.agent = agent
    for position, name in enumerate([*there, "agent"]):
        owner, _, service_type = name.rpartition(".")
        manifest = Manifest(service_type)
        entry = Entry(name, "p", position, manifest, State.RUNNING, True, 1, b"t", agent=owner)
        runtime.directory.apply(Listed(entry))

    assert repr(runtime.database_adapter) == f"<service {expected}: running>"
    assert runtime.has_database is (expected != "agent")
    runtime.close()


@pytest.mark.parametrize(("event", "handler"), [(5, print), (None, print), ("SAID", None)])
async def test_an_event_has_a_name_and_a_handler(event: Any, handler: Any) -> None:
    """What the supervisor could not read would keep the next one from adopting the worker."""
    runtime = TestRuntime("asking", {})
    with pytest.raises(TypeError, match="an event's name and a function"):
        runtime.register_event(event, handler)
    runtime.close()
