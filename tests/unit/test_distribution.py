"""How tests are spread over processes."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.distribution import ALONE, GroupScheduling

SEEN: list[int] = []  # in this process


@pytest.mark.parametrize("number", range(6))
def test_tests_of_a_group_run_in_one_process(number: int) -> None:
    """In their order: a file of unit tests is a group, as is what shares a host."""
    SEEN.append(number)
    assert list(range(SEEN[0], number + 1)) == SEEN


class Process:
    """What the scheduler sees of a process: it keeps its last test until it is given another."""

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.shutting_down = False
        self.has_ended = False
        self.given: list[int] = []
        self.ran: list[int] = []

    def send_runtest_some(self, tests: list[int]) -> None:
        """Give it tests."""
        assert not self.shutting_down
        self.given += tests

    def shutdown(self) -> None:
        """Have it end after the tests that it was given."""
        self.shutting_down = True

    @property
    def can_run(self) -> bool:
        """Return whether it runs a test now."""
        return len(self.given) > (0 if self.shutting_down else 1)


class Run:
    """A run of tests by the scheduler.

    Args:
        folder: For the file of the groups.
        tests: Test → its group; empty: it has none.
        count: Of processes.
    """

    def __init__(self, folder: Path, tests: Mapping[str, str], count: int) -> None:
        file = folder / "groups.json"
        file.write_text(json.dumps({test: group for test, group in tests.items() if group}))
        option = SimpleNamespace(loadscopereorder=False)
        config: Any = SimpleNamespace(option=option, getvalue=lambda _: [f"{count}*popen"])
        self.tests, self.scheduling = list(tests), GroupScheduling(config, None, file)
        self.processes = [Process(f"gw{number}") for number in range(count)]
        self.order: list[tuple[str, int]] = []  # test, other processes that had some then
        for one in self.processes:
            self.scheduling.add_node(_controller(one))
        for one in self.processes:
            self.scheduling.add_node_collection(_controller(one), self.tests)
        self.scheduling.schedule()

    def turn(self, one: Process) -> bool:
        """Have a process run a test, or end; return whether it did."""
        if one.can_run:
            test = one.given.pop(0)
            one.ran.append(test)
            others = sum(bool(other.given) for other in self.processes if other is not one)
            self.order.append((self.tests[test], others))
            self.scheduling.mark_test_complete(_controller(one), test)
            return True
        if one.shutting_down and not one.has_ended:
            one.has_ended = True
            if one in self.scheduling.nodes:
                assert self.scheduling.remove_node(_controller(one)) is None
            return True
        return False

    def crash(self, one: Process) -> str | None:
        """Have a process crash, and another one begin in its place; return the test it was at."""
        one.has_ended, one.given = True, []
        at = self.scheduling.remove_node(_controller(one))
        other = Process(f"{one.gateway.id}'")
        self.processes.append(other)
        self.scheduling.add_node(_controller(other))
        self.scheduling.add_node_collection(_controller(other), self.tests)
        self.scheduling.schedule()
        return at

    def finish(self, choose: Callable[[list[Process]], list[Process]] = list) -> None:
        """Run everything that is left."""
        while any(self.turn(one) for one in choose(self.processes)):
            if self.scheduling.tests_finished:  # then xdist ends all processes
                for one in self.processes:
                    one.shutdown()
        assert all(one.has_ended for one in self.processes)


def _controller(one: Process) -> Any:
    return one


def last_first(processes: list[Process]) -> list[Process]:
    """Return processes in the other order."""
    return processes[::-1]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("choose", [list, last_first])
@pytest.mark.parametrize(
    "tests",
    [
        {"a": ALONE, "b": "", "c": "x", "d": "x", "e": "x", "f": ALONE, "g": ""},
        {"a": ALONE, "b": ALONE},
        {"a": "x", "b": "x", "c": "x", "d": "x", "e": ALONE},
        {"a": "", "b": "x", "c": ""},
        {"a": ALONE, **{str(number): "" for number in range(20)}},
    ],
)
def test_tests_that_need_the_machine_run_last_and_alone(
    tmp_path: Path,
    tests: dict[str, str],
    choose: Callable[[list[Process]], list[Process]],
    count: int,
) -> None:
    """Each test runs once; those of `alone` when no other process has any left."""
    run = Run(tmp_path, tests, count)
    run.finish(choose)
    ran = [test for test, _ in run.order]
    assert sorted(ran) == sorted(tests)
    alone = [test for test, group in tests.items() if group == ALONE]
    assert ran[len(ran) - len(alone) :] == alone
    assert {others for test, others in run.order if tests[test] == ALONE} <= {0}


def test_tests_of_a_crashed_process_run_before_those_that_need_the_machine(tmp_path: Path) -> None:
    """Another process runs them, and still nothing runs beside `alone`."""
    tests = {"a": ALONE, "b": "x", "c": "x", "d": "x", "e": "", "f": "", "g": "", "h": ""}
    run = Run(tmp_path, tests, 2)
    run.turn(run.processes[0])
    at = run.crash(run.processes[0])
    assert at is not None
    run.finish()
    assert sorted({test for test, _ in run.order}) == sorted(tests)
    assert run.order[-1] == ("a", 0)
