"""Whether a service takes more than it may, and when to look again. Pure.

Times are monotonic seconds, sizes are bytes.
"""

from dataclasses import dataclass, replace

from garrison.supervisor.config.spec import CgroupLimits, ServiceSpec

from .policy import Event

LOOK_S, LEAST_S = 1.0, 0.05  # between two looks at one service
PROCESSES_S = 0.25  # where processes are limited: they multiply faster than memory is written
TOGETHER_S = 0.25  # between the moments at which those are looked at that are in no hurry
BEYOND = 4  # a quarter beyond the limit there is no time to drain
TASKS_EACH, TASKS_BESIDE = 4, 256  # threads that a process may have, before a cgroup refuses more
IDLE = 32 * 1024**2  # what a worker has that does nothing, and a little more
FILLS_S = 4.0  # what seems to rest may begin at once to fill its whole limit within so long


@dataclass(frozen=True, slots=True)
class Used:
    """What a service's tree had at one look."""

    at: float
    memory: int  # resident bytes
    processes: int
    exact: bool = False  # whether pages that several of them share are counted once
    least: bool = False  # whether there were more, which nobody counted


def is_limited(spec: ServiceSpec) -> bool:
    """Tell whether a service is to be looked at."""
    return bool(spec.limits.memory_max or spec.limits.processes)


def beyond(limit: int) -> int:
    """Return what is too much for a limit to be drained for."""
    return limit + max(limit // BEYOND, 1)


def needs_pss(spec: ServiceSpec, used: Used) -> bool:
    """Tell whether it depends on shared pages what this means: it is too much memory where each of
    them is counted once for each process, and not for the number of processes alone."""
    over = 0 < spec.limits.memory_max < used.memory and not used.exact
    return over and check_limits(spec, replace(used, memory=0)) is None


def check_limits(spec: ServiceSpec, used: Used) -> Event | None:
    """Return what the policy is to be told of what a service has."""
    pairs = ((used.memory, spec.limits.memory_max), (used.processes, spec.limits.processes))
    over = [(has, limit) for has, limit in pairs if 0 < limit < has]
    if any(has > beyond(limit) for has, limit in over):
        return Event.OVERRUN
    return Event.EXCESS if over else None


def next_check_in(spec: ServiceSpec, used: Used, before: Used | None, draining: bool) -> float:
    """Return how long until the next look: half of the time until the next limit is reached, were
    it to grow as it grew last, or to fill its whole limit in a few seconds.

    Args:
        spec: Its limits.
        used: What it has.
        before: What it had at the look before.
        draining: Whether the limit that comes next is the one that it is killed at.
    """
    wait = PROCESSES_S if spec.limits.processes else LOOK_S
    gap = used.at - before.at if before is not None else 0.0
    was = (before.memory, before.processes) if before is not None else (0, 0)
    for has, had, limit in (
        (used.memory, was[0], spec.limits.memory_max),
        (used.processes, was[1], spec.limits.processes),
    ):
        if limit:
            rate = max((has - had) / gap if gap > 0 else 0.0, limit / FILLS_S)
            left = (beyond(limit) if draining else limit) - has
            wait = min(wait, left / rate / 2)
    return max(wait, LEAST_S)


def coalesce(now: float, wait: float) -> float:
    """Return when to look, no later than after a wait: with others, where there is no hurry. For
    the loop to be woken up costs as much as a look."""
    due = now + wait
    shared = due - due % TOGETHER_S
    return shared if shared >= now + wait / 2 else due


def cgroup_limits(spec: ServiceSpec) -> CgroupLimits:
    """Return what a cgroup holds a service to, where it can: what the watch has not seen in time.

    Its `pids` counts threads, of which every process has some, so that wall is a wide one.
    """
    memory = beyond(spec.limits.memory_max) if spec.limits.memory_max else 0
    tasks = TASKS_EACH * spec.limits.processes + TASKS_BESIDE if spec.limits.processes else 0
    return CgroupLimits(memory, tasks, spec.limits.cpu_weight)


def excess_words(spec: ServiceSpec, used: Used, killed: bool) -> str:
    """Return why a service is ended, in words: what it had, and what it may have."""
    least = "at least " if used.least else ""
    count = f"{least}{used.processes} process{'es' if used.processes != 1 else ''}"
    told, limits = count, []
    if 0 < spec.limits.memory_max < used.memory:
        told = f"{format_mib(used.memory, up=True)} in {count}"
        small = f" ({small})" if (small := too_small(spec)) else ""
        limits.append(f"memory_max is {format_mib(spec.limits.memory_max)}{small}")
    if 0 < spec.limits.processes < used.processes:
        limits.append(f"processes is {spec.limits.processes}")
    end = "it was killed at once" if killed else "it was ended"
    return f"it had {told}, and {', and '.join(limits)}, so {end}"


def too_small(spec: ServiceSpec) -> str:
    """Return why no service can live with such a limit, in words; empty where one may."""
    return (
        f"a worker that does nothing has nearly {format_mib(IDLE)}"
        if 0 < spec.limits.memory_max < IDLE
        else ""
    )


def oom_words(spec: ServiceSpec) -> str:
    """Return what the kernel did to a service whose cgroup was full, in words."""
    wall = (
        format_mib(beyond(spec.limits.memory_max)) if spec.limits.memory_max else "what it may have"
    )
    return f"its cgroup had {wall}, a quarter above memory_max, and the kernel killed in it"


def format_mib(count: int, up: bool = False) -> str:
    """Return bytes in words; rounded up where they are more than what they stand beside."""
    tenths = -(-count * 10 // 1024**2) if up else count * 10 // 1024**2
    return f"{tenths / 10:,.1f}".removesuffix(".0") + " MiB"
