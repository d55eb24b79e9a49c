"""Detects which limits this process can apply to its services on this machine."""

import contextlib
import os
import resource
from collections.abc import Collection
from pathlib import Path

from . import cgroups
from .capabilities import UNLIMITED, Capabilities

STATUS = Path("/proc/self/status")
NR_OPEN = Path("/proc/sys/fs/nr_open")
ADJUSTMENT = Path("/proc/self/oom_score_adj")
CAP_SYS_NICE, CAP_SYS_RESOURCE = 23, 24  # linux/capability.h


def detect_capabilities(each_cgroup: bool, ours: Collection[int] = ()) -> Capabilities:
    """Return what this process, and the processes that it starts, may do now.

    Args:
        each_cgroup: Whether each worker is to have a cgroup of its own.
        ours: The pids of this host's other processes, which can be moved out of their cgroup.
    """
    rights = _rights()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    _, nice = resource.getrlimit(resource.RLIMIT_NICE)
    controllers, why = frozenset[str](), "[host] cgroups = false"
    if each_cgroup:
        controllers, why = cgroups.offered(cgroups.own(), {os.getpid(), *ours})
    return Capabilities(
        root=os.geteuid() == 0,
        may_resource=bool(rights >> CAP_SYS_RESOURCE & 1),
        may_nice=bool(rights >> CAP_SYS_NICE & 1),
        files_hard=UNLIMITED if hard == resource.RLIM_INFINITY else hard,
        files_most=_number(NR_OPEN, UNLIMITED),
        nice=os.getpriority(os.PRIO_PROCESS, 0),
        nice_least=-20 if nice == resource.RLIM_INFINITY else 20 - nice,
        oom_least=_oom_least(),
        controllers=controllers,
        no_controllers=why,
    )


def _rights() -> int:
    """Return this process's effective capabilities, one bit each."""
    with contextlib.suppress(OSError, StopIteration):
        lines = STATUS.read_text().splitlines()
        return int(next(line for line in lines if line.startswith("CapEff:")).split()[1], 16)
    return 0


def _oom_least() -> int:
    """Return how low oom_score_adj can be set without privileges.

    The kernel does not report that, so this tries it. systemd starts users' processes with a
    value above 0, which they may lower to 0.
    """
    now = _number(ADJUSTMENT, 0)
    if now <= 0:
        return now
    try:
        ADJUSTMENT.write_text("0")
    except OSError:
        return now
    with contextlib.suppress(OSError):
        ADJUSTMENT.write_text(str(now))
    return 0


def _number(path: Path, otherwise: int) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return otherwise
