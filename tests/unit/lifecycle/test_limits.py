"""When a service exceeds its limits, and when it is measured again."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from garrison.supervisor.config.cgroup_limits import CgroupLimits
from garrison.supervisor.config.spec import (
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

MIB = 1 << 20


def spec(**keys: Any) -> ServiceSpec:
    """Return a service with these keys."""
    return service_spec(name="bot", plugin="bot", service_type="bot", **keys)


BOTH = ProcessLimits(memory_max=100 * MIB, processes=8)

# --- limits -------------------------------------------------------------------------------


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
def test_a_quarter_above_the_limit_a_service_is_killed(
    memory: int, processes: int, expected: Event | None
) -> None:
    """Up to the limit nothing happens; up to a quarter above, it is drained."""
    assert check_limits(BOTH, Used(0.0, memory * MIB, processes)) is expected


def test_a_limit_that_is_not_set_is_never_exceeded() -> None:
    """A limit of one process can be exceeded by one and still be drained."""
    assert check_limits(ProcessLimits(), Used(0.0, 1 << 50, 10_000)) is None
    assert check_limits(ProcessLimits(processes=1), Used(0.0, 0, 2)) is Event.EXCESS
    assert check_limits(ProcessLimits(processes=1), Used(0.0, 0, 3)) is Event.OVERRUN


@pytest.mark.parametrize(
    ("memory", "processes", "exact", "expected"),
    [
        (200, 2, False, True),
        (200, 2, True, False),  # it is known
        (100, 2, False, False),  # within the limit
        (200, 20, False, False),  # its processes exceed their limit anyway
    ],
)
def test_the_proportional_size_is_read_only_if_it_matters(
    memory: int, processes: int, exact: bool, expected: bool
) -> None:
    """Reading it costs much more than the plain sum."""
    assert needs_pss(BOTH, Used(0.0, memory * MIB, processes, exact)) is expected


def test_the_cause_has_measurement_and_limit() -> None:
    """Only of limits that were exceeded; the first number is always larger than the second."""
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


def test_a_limit_that_is_too_small_is_pointed_out() -> None:
    """Otherwise an operator could find out only by trying."""
    words = excess_words(ProcessLimits(memory_max=16 * MIB), Used(0.0, 30 * MIB, 1), killed=True)
    assert "memory_max is 16 MiB (an idle worker uses nearly 32 MiB), so" in words
    assert too_small(ProcessLimits(memory_max=1))
    assert not too_small(ProcessLimits(memory_max=32 * MIB))
    assert not too_small(ProcessLimits())


# --- when it is measured again --------------------------------------------------------------

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
def test_a_service_is_measured_before_it_can_exceed_its_limit(
    had: int, has: int, expected: float
) -> None:
    """The closer to the limit and the faster it grows, the sooner."""
    used, before = Used(11.0, has * MIB, 1), Used(10.0, had * MIB, 1)
    assert next_check_in(MEMORY, used, before, draining=False) == pytest.approx(expected)


def test_while_a_service_drains_the_kill_threshold_counts() -> None:
    """It is 5 MiB away, at 25 MiB a second."""
    used = Used(10.0, 120 * MIB, 1)
    assert next_check_in(MEMORY, used, used, draining=True) == pytest.approx(0.1)


def test_processes_multiply_faster() -> None:
    """So they are counted more often from the start."""
    assert next_check_in(BOTH, Used(10.0, 0, 1), None, draining=False) == PROCESSES_S
    assert next_check_in(BOTH, Used(10.0, 0, 8), None, draining=False) == CHECK_LEAST_S


@pytest.mark.parametrize(
    ("now", "wait", "due"), [(10.1, 1.0, 11.0), (10.2, 0.25, 10.45), (10.1, 0.25, 10.25)]
)
def test_measurements_that_are_not_urgent_coincide(now: float, wait: float, due: float) -> None:
    """Never later than they are due, and not much more often."""
    assert coalesce(now, wait) == pytest.approx(due)


def test_two_measurements_at_the_same_time_are_no_error() -> None:
    """The clock may not advance between them."""
    used = Used(10.0, 10 * MIB, 1)
    assert next_check_in(MEMORY, used, used, draining=False) == CHECK_S


# --- cgroups --------------------------------------------------------------------------------


def test_the_cgroups_limits_are_above_the_measured_ones() -> None:
    """The kernel acts if the supervisor is too late; it counts threads, of which there are more."""
    assert cgroup_limits(BOTH) == CgroupLimits(memory=125 * MIB, tasks=4 * 8 + 256)
    assert cgroup_limits(ProcessLimits(cpu_weight=7)) == CgroupLimits(cpu_weight=7)
    assert cgroup_limits(ProcessLimits()) == CgroupLimits()
