"""Looks are spread over turns, and what the kernel does not tell in time is not waited for."""

import time
from collections.abc import Iterator

import pytest

from garrison.ipc.messages import Manifest, State
from garrison.supervisor.config.spec import PluginSpec, service_spec
from garrison.supervisor.lifecycle.limits import Used, check_limits
from garrison.supervisor.lifecycle.policy import Child, Event
from garrison.supervisor.lifecycle.services import Service
from garrison.supervisor.processes import usage
from garrison.supervisor.processes.usage import UsageMonitor

TOKEN = b"t" * 16
MIB = 1 << 20


class Reports:
    """Notes what is reported of a service."""

    def __init__(self) -> None:
        self.used: list[Used] = []

    def __call__(self, token: bytes, used: Used) -> None:
        """Note a sample."""
        assert token == TOKEN
        self.used.append(used)

    def events(self, **limits: int) -> list[Event]:
        """Return what the samples mean for a service with limits."""
        spec = service_spec(name="bot", plugin="bot", service_type="bot", **limits)
        found = [check_limits(spec, used) for used in self.used]
        return [event for event in found if event is not None]


def a_post(pid: int, **limits: int) -> Service:
    """Return a service that runs."""
    spec = service_spec(name="bot", plugin="bot", service_type="bot", **limits)
    post = Service(
        Child(spec, State.RUNNING), PluginSpec(name="bot", use="bot"), Manifest("bot"), 0
    )
    post.current.token, post.current.pid = TOKEN, pid
    return post


@pytest.fixture
def reports() -> Reports:
    """Return what notes the samples."""
    return Reports()


@pytest.fixture
def watch(reports: Reports, monkeypatch: pytest.MonkeyPatch) -> Iterator[UsageMonitor]:
    """Return a watch that looks at once."""
    monkeypatch.setattr(usage, "FIRST_S", 0.0)
    watch = UsageMonitor(reports)
    yield watch
    watch.close()


def test_a_look_at_many_processes_takes_many_turns(
    watch: UsageMonitor, reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No turn is longer than its share, and the next one goes on where it was."""
    monkeypatch.setattr(usage, "TURN_S", 0.0)
    post = a_post(1, processes=4000)  # what is below the first process: at least this one
    watch.begin(post)

    turns = 0
    while watch.last(post.current.token) is None and turns < 10_000:
        assert watch.due <= time.monotonic()
        watch.turn()
        turns += 1

    used = watch.last(post.current.token)
    assert used is not None
    assert turns >= used.processes > 1
    assert reports.events(processes=4000) == []


def test_what_ended_is_looked_at_no_more(watch: UsageMonitor) -> None:
    """Nor what another incarnation took the place of; nor what has no limits."""
    for post in (a_post(1, processes=5), a_post(1)):
        watch.begin(post)
        post.current.token = b""
        watch.turn()
        assert watch.due == float("inf")
        assert watch.last(post.current.token) is None


# --- where the kernel is asked --------------------------------------------------------------


def large(pid: int, enough: int = 0) -> Iterator[None]:
    """Have a tree of two that has far too much, unless its pages are the same."""
    yield
    return Used(time.monotonic(), 500 * MIB, 2), [pid, pid]  # type: ignore[return-value]


def test_what_is_shared_is_asked_for(
    watch: UsageMonitor, reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is done before the answer, which says that it is well."""
    monkeypatch.setattr(usage, "sample_tree", large)
    monkeypatch.setattr(usage, "proportional", lambda pids: 50 * MIB)
    post = a_post(1, memory_max=100 * MIB)
    watch.begin(post)

    deadline = time.monotonic() + 5.0
    while watch.last(post.current.token) is None and time.monotonic() < deadline:
        watch.turn()

    used = watch.last(post.current.token)
    assert used is not None
    assert (used.memory, used.exact) == (50 * MIB, True)
    assert reports.events(memory_max=100 * MIB) == []


@pytest.mark.parametrize("full", [False, True])
def test_an_answer_that_does_not_come_is_not_waited_for(
    watch: UsageMonitor, reports: Reports, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    """Where the kernel holds the thread, or too many wait already, the plain sum counts."""
    monkeypatch.setattr(usage, "sample_tree", large)
    monkeypatch.setattr(usage.PssSampler, "ask", lambda *_: not full)
    monkeypatch.setattr(usage, "ASK_S", 0.0)
    watch.begin(a_post(1, memory_max=100 * MIB))

    watch.turn()
    watch.turn()

    assert reports.events(memory_max=100 * MIB) == [Event.OVERRUN]


def test_a_supervisor_that_was_stopped_asks_again(
    watch: UsageMonitor, reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread was stopped as well: nobody is ended for that."""
    monkeypatch.setattr(usage, "sample_tree", large)
    monkeypatch.setattr(usage.PssSampler, "ask", lambda *_: True)
    monkeypatch.setattr(usage, "ASK_S", -10.0)  # it was due long ago
    watch.begin(a_post(1, memory_max=100 * MIB))

    watch.turn()
    watch.turn()

    assert reports.used == []
