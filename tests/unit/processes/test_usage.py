"""Measurements are spread over turns, and an answer that the kernel delays is not waited for."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest
from tests.support.waiting import until

from garrison.ipc.system import process_tree
from garrison.supervisor.config.spec import ProcessLimits
from garrison.supervisor.lifecycle.limits import Used, check_limits
from garrison.supervisor.lifecycle.policy import Event
from garrison.supervisor.processes import usage
from garrison.supervisor.processes.engine import Usage
from garrison.supervisor.processes.usage import (
    UsageMonitor,
    proportional,
    sample_quickly,
    sample_tree,
)

KEY = b"t" * 16
MIB = 1 << 20
MEMORY = ProcessLimits(memory_max=100 * MIB)


@pytest.fixture
def monitor(monkeypatch: pytest.MonkeyPatch) -> Iterator[UsageMonitor]:
    """Return a monitor that measures at once."""
    monkeypatch.setattr(usage, "FIRST_S", 0.0)
    monitor = UsageMonitor()
    yield monitor
    monitor.close()


@pytest.fixture
def tree() -> Iterator[int]:
    """Return the pid of a process with four children, which stay until the test has ended."""
    script = "sleep 600 & sleep 600 & sleep 600 & sleep 600 & wait"
    parent = subprocess.Popen(["sh", "-c", script], start_new_session=True)
    until(lambda: len(process_tree.children(parent.pid)) == 4)
    yield parent.pid
    os.killpg(parent.pid, signal.SIGKILL)
    parent.wait(10)


def test_measuring_many_processes_takes_many_turns(
    monitor: UsageMonitor, tree: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No turn takes longer than its share, and the next one continues where it stopped."""
    monkeypatch.setattr(usage, "TURN_S", 0.0)
    limits = ProcessLimits(processes=4000)
    monitor.begin(KEY, tree, limits)

    turns = 0
    results: list[Usage] = []
    while not results and turns < 10_000:
        assert monitor.due <= time.monotonic()
        results = monitor.turn()
        turns += 1

    used = monitor.last(KEY)
    assert used is not None
    assert results == [Usage(KEY, used)]
    assert turns >= used.processes == 5
    assert check_limits(limits, used) is None


def test_what_ended_is_not_measured(monitor: UsageMonitor) -> None:
    """Nor is a worker without limits."""
    for limits in (ProcessLimits(processes=5), ProcessLimits()):
        monitor.begin(KEY, 1, limits)
        monitor.end(KEY)
        assert monitor.turn() == []
        assert monitor.due == float("inf")
        assert monitor.last(KEY) is None


# --- one measurement ------------------------------------------------------------------------


def test_this_process_is_measured() -> None:
    """Its proportional size is at most its resident size."""
    used = sample_quickly(os.getpid())
    assert used.processes >= 1
    assert used.memory >= proportional([os.getpid()]) > MIB


def test_a_process_that_has_ended_uses_nothing() -> None:
    """It may end at any moment of a measurement."""
    assert sample_quickly(2**22 + 1).memory == 0
    assert proportional([2**22 + 1]) == 0


def test_sampling_goes_step_by_step_and_ends_at_enough(tree: int) -> None:
    """A tree may be too large for one turn, or larger than any limit."""
    steps, looking = 0, sample_tree(tree, enough=3)
    while True:
        try:
            next(looking)
        except StopIteration as end:
            used, pids = end.value
            break
        steps += 1
    assert len(pids) == used.processes > 3
    assert used.least
    assert steps <= 4


# --- proportional sizes ---------------------------------------------------------------------


def large(pid: int, enough: int = 0) -> Iterator[None]:
    """Sample a tree of two processes that exceeds its limit, unless they share their pages."""
    yield
    return Used(time.monotonic(), 500 * MIB, 2), [pid, pid]  # type: ignore[return-value]


def test_shared_memory_is_counted_once(
    monitor: UsageMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is reported before the proportional size is known."""
    monkeypatch.setattr(usage, "sample_tree", large)
    monkeypatch.setattr(usage, "proportional", lambda pids: 50 * MIB)
    monitor.begin(KEY, 1, MEMORY)

    deadline = time.monotonic() + 5.0
    results: list[Usage] = []
    while not results and time.monotonic() < deadline:
        results = monitor.turn()

    (result,) = results
    assert (result.used.memory, result.used.exact) == (50 * MIB, True)
    assert check_limits(MEMORY, result.used) is None


@pytest.mark.parametrize("full", [False, True])
def test_an_answer_that_does_not_come_is_not_waited_for(
    monitor: UsageMonitor, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    """If the kernel blocks the thread, or too many requests wait, the plain sum counts."""
    monkeypatch.setattr(usage, "sample_tree", large)
    monkeypatch.setattr(usage.PssSampler, "request", lambda *_: not full)
    monkeypatch.setattr(usage, "PSS_S", 0.0)
    monitor.begin(KEY, 1, MEMORY)

    (result,) = monitor.turn() + monitor.turn()

    assert check_limits(MEMORY, result.used) is Event.OVERRUN


def test_a_supervisor_that_was_stopped_requests_again(
    monitor: UsageMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread was stopped as well: no service is ended for that."""
    monkeypatch.setattr(usage, "sample_tree", large)
    monkeypatch.setattr(usage.PssSampler, "request", lambda *_: True)
    monkeypatch.setattr(usage, "PSS_S", -10.0)  # it was due long ago
    monitor.begin(KEY, 1, MEMORY)

    assert monitor.turn() + monitor.turn() == []


def test_zombies_are_not_counted() -> None:
    """They have ended; what their worker adopted is only not reaped yet."""
    before = sample_quickly(os.getpid()).processes
    pids = [os.posix_spawn("/bin/true", ["true"], {}) for _ in range(3)]
    try:
        until(lambda: all(map(process_tree.has_ended, pids)))
        assert sample_quickly(os.getpid()).processes == before
    finally:
        for pid in pids:
            os.waitpid(pid, 0)
