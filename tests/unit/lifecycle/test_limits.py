"""When a service has too much, when it is looked at again, and what a machine does not hold."""

import os
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from garrison.supervisor.config.spec import (
    CgroupLimits,
    ProcessLimits,
    ServiceSpec,
    service_spec,
)
from garrison.supervisor.lifecycle.limits import (
    CHECK_LEAST_S,
    CHECK_S,
    PROCESSES_S,
    Used,
    cgroup_limits,
    check_limits,
    coalesce,
    excess_words,
    needs_pss,
    next_check_in,
    too_small,
)
from garrison.supervisor.lifecycle.policy import Event
from garrison.supervisor.processes.capabilities import (
    UNLIMITED,
    Capabilities,
    files_allowed,
    format_unsupported,
    unsupported_limits,
)
from garrison.supervisor.processes.usage import proportional, sample_quickly, sample_tree

MIB = 1 << 20


def spec(**keys: Any) -> ServiceSpec:
    """Return a service with these keys."""
    return service_spec(name="bot", plugin="bot", service_type="bot", **keys)


BOTH = ProcessLimits(memory_max=100 * MIB, processes=8)

# --- what is too much -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("memory", "processes", "expected"),
    [
        (100, 8, None),
        (101, 1, Event.EXCESS),
        (125, 1, Event.EXCESS),
        (126, 1, Event.OVERRUN),
        (1, 9, Event.EXCESS),
        (1, 10, Event.EXCESS),
        (1, 11, Event.OVERRUN),
        (101, 11, Event.OVERRUN),
    ],
)
def test_a_quarter_beyond_there_is_no_time_left(
    memory: int, processes: int, expected: Event | None
) -> None:
    """Up to the limit it is well, up to a quarter beyond it is drained."""
    assert check_limits(BOTH, Used(0.0, memory * MIB, processes)) is expected


def test_a_limit_that_is_not_set_is_none() -> None:
    """And a limit of one process can be exceeded by one, and drained for."""
    assert check_limits(ProcessLimits(), Used(0.0, 1 << 50, 10_000)) is None
    assert check_limits(ProcessLimits(processes=1), Used(0.0, 0, 2)) is Event.EXCESS
    assert check_limits(ProcessLimits(processes=1), Used(0.0, 0, 3)) is Event.OVERRUN


@pytest.mark.parametrize(
    ("memory", "processes", "exact", "expected"),
    [
        (200, 2, False, True),
        (200, 2, True, False),  # it was read
        (100, 2, False, False),  # nothing to ask for
        (200, 20, False, False),  # it goes for its processes anyway
    ],
)
def test_pss_is_read_only_if_it_matters(
    memory: int, processes: int, exact: bool, expected: bool
) -> None:
    """Asking costs much more than the sum."""
    assert needs_pss(BOTH, Used(0.0, memory * MIB, processes, exact)) is expected


def test_the_cause_says_what_was_measured_against_what() -> None:
    """Only of what was too much, and never that a number is more than itself."""
    used = Used(0.0, 612 * MIB, 3)
    limits = ProcessLimits(memory_max=512 * MIB, processes=2)
    assert excess_words(msgspec.structs.replace(limits, processes=0), used, killed=False) == (
        "it had 612 MiB in 3 processes, and memory_max is 512 MiB, so it was ended"
    )
    assert excess_words(msgspec.structs.replace(limits, memory_max=0), used, killed=True) == (
        "it had 3 processes, and processes is 2, so it was killed at once"
    )
    both = excess_words(limits, replace(used, least=True), killed=True)
    assert both.startswith("it had 612 MiB in at least 3 processes, and memory_max is 512 MiB, and")
    barely = excess_words(ProcessLimits(memory_max=MIB), Used(0.0, MIB + 1, 1), killed=False)
    assert barely.startswith("it had 1.1 MiB in 1 process, and memory_max is 1 MiB")


def test_a_limit_that_is_too_low_is_reported() -> None:
    """Else what is to be done about it can be found out only by trying."""
    fields = excess_words(ProcessLimits(memory_max=16 * MIB), Used(0.0, 30 * MIB, 1), killed=True)
    assert "memory_max is 16 MiB (an idle worker uses nearly 32 MiB), so" in fields
    assert too_small(ProcessLimits(memory_max=1))
    assert not too_small(ProcessLimits(memory_max=32 * MIB))
    assert not too_small(ProcessLimits())


# --- when it is looked at again -------------------------------------------------------------

MEMORY = ProcessLimits(memory_max=100 * MIB)


@pytest.mark.parametrize(
    ("had", "has", "expected"),
    [
        (10, 10, CHECK_S),  # far below, at rest
        (80, 80, 0.4),  # near: it could begin to fill its whole limit in four seconds
        (10, 40, 1.0),  # 30 a second, and 60 are left
        (10, 70, 0.25),  # 60 a second, and 30 are left
        (0, 99, CHECK_LEAST_S),
        (99, 99, CHECK_LEAST_S),
        (90, 50, 1.0),  # it shrinks
        (100, 120, CHECK_LEAST_S),  # too much by now
    ],
)
def test_it_is_looked_at_before_it_can_be_too_late(had: int, has: int, expected: float) -> None:
    """The nearer it is and the faster it grows, the sooner."""
    used, before = Used(11.0, has * MIB, 1), Used(10.0, had * MIB, 1)
    assert next_check_in(MEMORY, used, before, draining=False) == pytest.approx(expected)


def test_while_it_drains_the_next_limit_counts() -> None:
    """That is where it is killed: 5 MiB off, at 25 a second."""
    used = Used(10.0, 120 * MIB, 1)
    assert next_check_in(MEMORY, used, used, draining=True) == pytest.approx(0.1)


def test_processes_multiply_faster() -> None:
    """So they are looked at more often from the first look on."""
    assert next_check_in(BOTH, Used(10.0, 0, 1), None, draining=False) == PROCESSES_S
    assert next_check_in(BOTH, Used(10.0, 0, 8), None, draining=False) == CHECK_LEAST_S


@pytest.mark.parametrize(
    ("now", "wait", "due"), [(10.1, 1.0, 11.0), (10.2, 0.25, 10.45), (10.1, 0.25, 10.25)]
)
def test_those_in_no_hurry_are_looked_at_together(now: float, wait: float, due: float) -> None:
    """Never later than they are due, and not much more often."""
    assert coalesce(now, wait) == pytest.approx(due)


def test_two_looks_at_one_time_break_nothing() -> None:
    """A clock may stand still between them."""
    used = Used(10.0, 10 * MIB, 1)
    assert next_check_in(MEMORY, used, used, draining=False) == CHECK_S


# --- looks ----------------------------------------------------------------------------------


def test_a_look_sees_this_process() -> None:
    """Its memory is what the kernel says, and no more than what it shares counted twice."""
    used = sample_quickly(os.getpid())
    assert used.processes >= 1
    assert used.memory >= proportional([os.getpid()]) > MIB


def test_what_is_gone_has_nothing() -> None:
    """A process may end at any moment of a look."""
    assert sample_quickly(2**22 + 1).memory == 0
    assert proportional([2**22 + 1]) == 0


def test_a_look_goes_step_by_step_and_ends_at_enough() -> None:
    """A tree may be larger than one turn has time for, or than any limit."""
    steps, looking = 0, sample_tree(1, enough=3)  # the first process: there are more below it
    while True:
        try:
            next(looking)
        except StopIteration as end:
            used, pids = end.value
            break
        steps += 1
    assert len(pids) == used.processes
    assert steps <= 4


# --- walls ----------------------------------------------------------------------------------


def test_the_wall_is_behind_what_is_watched() -> None:
    """The kernel acts where the supervisor came too late, and counts threads, which are more."""
    assert cgroup_limits(BOTH) == CgroupLimits(memory=125 * MIB, tasks=4 * 8 + 256)
    assert cgroup_limits(ProcessLimits(cpu_weight=7)) == CgroupLimits(cpu_weight=7)
    assert cgroup_limits(ProcessLimits()) == CgroupLimits()


# --- what a machine does not hold -----------------------------------------------------------

USER = Capabilities(files_hard=1024, files_most=1 << 20, nice=0, nice_least=20)
ROOT = Capabilities(
    root=True, may_resource=True, may_nice=True, files_hard=1024, files_most=1 << 20
)
LESS = replace(ROOT, may_resource=False)


@pytest.mark.parametrize(
    ("machine", "fields", "keys"),
    [
        (USER, {}, []),
        (USER, {"open_files": 1024}, []),
        (USER, {"open_files": 1025}, ["open_files"]),
        (replace(USER, files_hard=UNLIMITED), {"open_files": 2000}, []),
        (replace(USER, files_hard=UNLIMITED), {"open_files": 1 << 21}, ["open_files"]),
        (ROOT, {"open_files": 1 << 20}, []),
        (ROOT, {"open_files": (1 << 20) + 1}, ["open_files"]),
        (LESS, {"open_files": 1025, "oom_score_adj": -1}, ["open_files", "oom_score_adj"]),
        (USER, {"nice": 0, "oom_score_adj": 0}, []),
        (USER, {"nice": 19, "oom_score_adj": 1000}, []),
        (USER, {"nice": -1}, ["nice"]),
        (replace(USER, nice=5), {"nice": 4}, ["nice"]),
        (replace(USER, nice_least=-5), {"nice": -5}, []),
        (replace(USER, nice_least=-5), {"nice": -6}, ["nice"]),
        (USER, {"oom_score_adj": -1}, ["oom_score_adj"]),
        (replace(USER, oom_least=100), {"oom_score_adj": 99}, ["oom_score_adj"]),
        (ROOT, {"nice": -20, "oom_score_adj": -1000}, []),
        (ROOT, {"cpu_weight": 50}, ["cpu_weight"]),
        (replace(ROOT, controllers=frozenset({"cpu"})), {"cpu_weight": 50}, []),
        (USER, {"memory_max": 1, "processes": 1, "umask": 0, "no_new_privs": True}, []),
    ],
)
def test_what_is_not_held_is_known(
    machine: Capabilities, fields: dict[str, Any], keys: list[str]
) -> None:
    """By an ordinary user's machine, by root's, by that of a root without all of its rights; what
    is watched or always granted is held by all."""
    found = unsupported_limits(spec(**fields), machine)
    assert [key for key, _ in found] == keys
    assert all(
        format_unsupported("bot", one).startswith(f"services.bot.{one[0]} cannot be")
        for one in found
    )


@pytest.mark.parametrize(
    ("wanted", "machine", "gets"),
    [(64, USER, 64), (5000, USER, 1024), (5000, ROOT, 5000), (1 << 30, ROOT, 1 << 20)],
)
def test_as_many_files_as_there_can_be(wanted: int, machine: Capabilities, gets: int) -> None:
    """The smaller of the setting and the hard limit."""
    assert files_allowed(wanted, machine) == gets


def test_it_says_what_to_do() -> None:
    """And who is refused: root without a right is no ordinary user."""
    (_, why), *_ = unsupported_limits(spec(nice=-5), USER)
    assert "an ordinary user goes no lower than 0, and -5 is asked for; it runs with 0" in why
    assert "LimitNICE=-5" in why
    (_, why), *_ = unsupported_limits(spec(open_files=2048), LESS)
    assert "root without all of its rights cannot raise that" in why
    crowded = replace(ROOT, no_controllers="other processes are in the cgroup /x (such as pid 7)")
    (_, why), *_ = unsupported_limits(spec(cpu_weight=5), crowded)
    assert why.startswith("other processes are in the cgroup /x (such as pid 7); it runs with")
