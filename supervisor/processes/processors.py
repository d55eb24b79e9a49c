"""How many processors this process may use: by its affinity, and by its cgroups' `cpu.max`."""

import contextlib
import math
import os
from collections.abc import Iterable

from . import cgroups


def processor_count() -> int:
    """Return how many processors this process may use, at least 1.

    Of `os` neither `process_cpu_count` nor `cpu_count` knows of a quota: in a container with two
    processors of a large machine they return all of the machine's.
    """
    quotas = list[str]()
    own = cgroups.own()
    for folder in (own, *own.parents) if own is not None else ():
        with contextlib.suppress(OSError, UnicodeDecodeError):  # the root has none
            quotas.append((folder / "cpu.max").read_text("ascii"))
    return limited(len(os.sched_getaffinity(0)), quotas)


def limited(processors: int, quotas: Iterable[str]) -> int:
    """Return how many processors are left by quotas; a part of one counts as one.

    Args:
        processors: How many there are.
        quotas: The content of `cpu.max` of a cgroup and its parents: microseconds in a period, or
            `max`, then the period.
    """
    for text in quotas:
        quota, _, period = text.strip().partition(" ")
        if quota.isdecimal() and period.isdecimal() and int(period):
            processors = min(processors, math.ceil(int(quota) / int(period)))
    return max(processors, 1)
