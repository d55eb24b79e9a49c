"""Looks are spread over turns, and what the kernel does not tell in time is not waited for."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from garrison.ipc.messages import Manifest, State
from garrison.supervisor.config.spec import PluginSpec, service_spec
from garrison.supervisor.lifecycle.limits import Used
from garrison.supervisor.lifecycle.policy import Child, Event
from garrison.supervisor.lifecycle.services import Service
from garrison.supervisor.processes import usage
from garrison.supervisor.processes.usage import UsageMonitor

TOKEN = b"t" * 16
MIB = 1 << 20


class Supervisor:
    """Notes what the policy would be told."""

    def __init__(self) -> None:
        self.told: list[Event] = []
        self.journal = self

    def advance(self, post: Service, event: Event) -> None:
        """Note an event."""
        self.told.append(event)

    def record(self, event: str, service: str, **data: Any) -> None:
        """Do nothing."""


def a_post(pid: int, **limits: int) -> Service:
    """Return a service that runs."""
    spec = service_spec(name="bot", plugin="bot", service_type="bot", **limits)
    post = Service(
        Child(spec, State.RUNNING), PluginSpec(name="bot", use="bot"), Manifest("bot"), 0
    )
    post.current.token, post.current.pid = TOKEN, pid
    return post


@pytest.fixture
def host() -> Supervisor:
    """Return what stands for the supervisor."""
    return Supervisor()


@pytest.fixture
def watch(host: Supervisor, monkeypatch: pytest.MonkeyPatch) -> Iterator[UsageMonitor]:
    """Return a watch that looks at once."""
    monkeypatch.setattr(usage, "FIRST_S", 0.0)
    watch = UsageMonitor(host)  # type: ignore[arg-type]
    yield watch
    watch.close()


def test_a_look_at_many_processes_takes_many_turns(
    watch: UsageMonitor, host: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No turn is longer than its share, and the next one goes on where it was."""
    monkeypatch.setattr(usage, "TURN_S", 0.0)
    post = a_post(1, processes=4000)  # what is below the first process: at least this one
    watch.begin(post)

    turns = 0
    while watch.last(post) is None and turns < 10_000:
        assert watch.due <= time.monotonic()
        watch.turn()
        turns += 1

    used = watch.last(post)
    assert used is not None
    assert turns >= used.processes > 1
    assert host.told == []


def test_what_ended_is_looked_at_no_more(watch: UsageMonitor) -> None:
    """Nor what another incarnation took the place of; nor what has no limits."""
    for post in (a_post(1, processes=5), a_post(1)):
        watch.begin(post)
        post.current.token = b""
        watch.turn()
        assert watch.due == float("inf")
        assert watch.last(post) is None


# --- where the kernel is asked --------------------------------------------------------------


def large(pid: int, enough: int = 0) -> Iterator[None]:
    """Have a tree of two that has far too much, unless its pages are the same."""
    yield
    return Used(time.monotonic(), 500 * MIB, 2), [pid, pid]  # type: ignore[return-value]


def test_what_is_shared_is_asked_for(
    watch: UsageMonitor, host: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is done before the answer, which says that it is well."""
    monkeypatch.setattr(usage, "sample_tree", large)
    monkeypatch.setattr(usage, "proportional", lambda pids: 50 * MIB)
    post = a_post(1, memory_max=100 * MIB)
    watch.begin(post)

    deadline = time.monotonic() + 5.0
    while watch.last(post) is None and time.monotonic() < deadline:
        watch.turn()

    used = watch.last(post)
    assert used is not None
    assert (used.memory, used.exact) == (50 * MIB, True)
    assert host.told == []


@pytest.mark.parametrize("full", [False, True])
def test_an_answer_that_does_not_come_is_not_waited_for(
    watch: UsageMonitor, host: Supervisor, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    """Where the kernel holds the thread, or too many wait already, the plain sum counts."""
    monkeypatch.setattr(usage, "sample_tree", large)
    monkeypatch.setattr(usage.PssSampler, "ask", lambda *_: not full)
    monkeypatch.setattr(usage, "ASK_S", 0.0)
    watch.begin(a_post(1, memory_max=100 * MIB))

    watch.turn()
    watch.turn()

    assert host.told == [Event.OVERRUN]


def test_a_supervisor_that_was_stopped_asks_again(
    watch: UsageMonitor, host: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread was stopped as well: nobody is ended for that."""
    monkeypatch.setattr(usage, "sample_tree", large)
    monkeypatch.setattr(usage.PssSampler, "ask", lambda *_: True)
    monkeypatch.setattr(usage, "ASK_S", -10.0)  # it was due long ago
    watch.begin(a_post(1, memory_max=100 * MIB))

    watch.turn()
    watch.turn()

    assert host.told == []
