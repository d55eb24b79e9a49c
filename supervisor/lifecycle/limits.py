"""Whether a service exceeds its limits, and when to measure it again. Pure.

Times are monotonic seconds, sizes are bytes.
"""

import msgspec
from msgspec.structs import replace

from garrison.supervisor.config.cgroup_limits import CgroupLimits
from garrison.supervisor.config.spec import ProcessLimits

from .policy import Event

CHECK_S, CHECK_LEAST_S = 1.0, 0.05  # longest and shortest wait between two measurements
PROCESSES_S = 0.25  # longest wait if processes are limited: they multiply faster than memory grows
COALESCE_S = 0.25  # measurements that are not urgent happen together, at multiples of this
KILL_SHARE = 4  # a quarter above the limit, a service is killed without drain
TASKS_EACH, TASKS_BESIDE = 4, 256  # threads that its cgroup allows: for each process, and besides
IDLE_BYTES = 32 * 1024**2  # an idle worker, and a little more
FILL_S = 4.0  # assumed shortest time in which an idle service can fill its whole limit


class Used(msgspec.Struct, frozen=True):
    """One measurement of a service's process tree."""

    at: float
    memory: int  # resident bytes
    processes: int
    exact: bool = False  # pages that several processes share are counted once
    least: bool = False  # there are more processes, which were not counted


def is_limited(limits: ProcessLimits) -> bool:
    """Return whether a service must be measured."""
    return bool(limits.memory_max or limits.processes)


def kill_threshold(limit: int) -> int:
    """Return the use above which a service is killed without drain."""
    return limit + max(limit // KILL_SHARE, 1)


def needs_pss(limits: ProcessLimits, used: Used) -> bool:
    """Return whether only the proportional size shows if a limit is exceeded.

    That is so if RSS exceeds `memory_max`, shared pages were counted more than once, and the
    number of processes is within its limit.
    """
    over = 0 < limits.memory_max < used.memory and not used.exact
    return over and check_limits(limits, replace(used, memory=0)) is None


def check_limits(limits: ProcessLimits, used: Used) -> Event | None:
    """Return the policy's event for a measurement; None if all limits are kept."""
    pairs = ((used.memory, limits.memory_max), (used.processes, limits.processes))
    over = [(has, limit) for has, limit in pairs if 0 < limit < has]
    if any(has > kill_threshold(limit) for has, limit in over):
        return Event.OVERRUN
    return Event.EXCESS if over else None


def next_check_in(limits: ProcessLimits, used: Used, before: Used | None, draining: bool) -> float:
    """Return the seconds until the next measurement.

    That is half of the time in which the next limit is reached, if use grows as fast as it did
    last, or fills the whole limit in `FILL_S`.

    Args:
        limits: The service's limits.
        used: The last measurement.
        before: The measurement before it.
        draining: Whether the service is being drained; then the next limit is the one at which it
            is killed.
    """
    wait = PROCESSES_S if limits.processes else CHECK_S
    gap = used.at - before.at if before is not None else 0.0
    was = (before.memory, before.processes) if before is not None else (0, 0)
    for has, had, limit in (
        (used.memory, was[0], limits.memory_max),
        (used.processes, was[1], limits.processes),
    ):
        if limit:
            rate = max((has - had) / gap if gap > 0 else 0.0, limit / FILL_S)
            left = (kill_threshold(limit) if draining else limit) - has
            wait = min(wait, left / rate / 2)
    return max(wait, CHECK_LEAST_S)


def coalesce(now: float, wait: float) -> float:
    """Return when to measure, after `wait` at most.

    Measurements that are not urgent share a moment: waking the loop costs as much as measuring.
    """
    due = now + wait
    shared = due - due % COALESCE_S
    return shared if shared >= now + wait / 2 else due


def cgroup_limits(limits: ProcessLimits) -> CgroupLimits:
    """Return what a service's cgroup enforces, for growth that is too fast to be measured.

    The cgroup counts threads, not processes, so its limit is a wide one.
    """
    memory = kill_threshold(limits.memory_max) if limits.memory_max else 0
    tasks = TASKS_EACH * limits.processes + TASKS_BESIDE if limits.processes else 0
    return CgroupLimits(memory, tasks, limits.cpu_weight)


def excess_words(limits: ProcessLimits, used: Used, killed: bool) -> str:
    """Return why a service is ended: what it used, and what its limits are."""
    least = "at least " if used.least else ""
    count = f"{least}{used.processes} process{'es' if used.processes != 1 else ''}"
    had, over = count, []
    if 0 < limits.memory_max < used.memory:
        had = f"{format_mib(used.memory, up=True)} in {count}"
        small = f" ({small})" if (small := too_small(limits)) else ""
        over.append(f"memory_max is {format_mib(limits.memory_max)}{small}")
    if 0 < limits.processes < used.processes:
        over.append(f"processes is {limits.processes}")
    end = "it was killed at once" if killed else "it was ended"
    return f"it had {had}, and {', and '.join(over)}, so {end}"


def too_small(limits: ProcessLimits) -> str:
    """Return why no service can run within such a memory limit; empty if one can."""
    return (
        f"an idle worker uses nearly {format_mib(IDLE_BYTES)}"
        if 0 < limits.memory_max < IDLE_BYTES
        else ""
    )


def oom_words(limits: ProcessLimits) -> str:
    """Return why the kernel's OOM killer killed in a service's cgroup."""
    threshold = (
        format_mib(kill_threshold(limits.memory_max)) if limits.memory_max else "all its memory"
    )
    return (
        f"its cgroup had used {threshold}, a quarter above memory_max, and the kernel killed in it"
    )


def format_mib(count: int, up: bool = False) -> str:
    """Return bytes as MiB; with `up`, rounded up, for a number that exceeds the one beside it."""
    tenths = -(-count * 10 // 1024**2) if up else count * 10 // 1024**2
    return f"{tenths / 10:,.1f}".removesuffix(".0") + " MiB"
