"""Which limits of a service this machine does not support, and what to do about it. Pure.

`garrison check` and the start of a service report unsupported limits; a service runs without
them. Settings that it relies on, or that protect, are not here: without them it does not start.
"""

from typing import TypeAlias

import msgspec

from garrison.supervisor.config.spec import ServiceSpec

UnsupportedLimit: TypeAlias = tuple[str, str]  # a key, and why it is unsupported and what to do

UNLIMITED = -1  # RLIM_INFINITY
# key → controller of the cgroup
CONTROLLERS = {"memory_max": "memory", "processes": "pids", "cpu_weight": "cpu"}


class Capabilities(msgspec.Struct, frozen=True):
    """What this process may do to the processes that it starts."""

    root: bool = False
    may_resource: bool = False  # CAP_SYS_RESOURCE
    may_nice: bool = False  # CAP_SYS_NICE
    files_hard: int = UNLIMITED  # RLIMIT_NOFILE
    files_most: int = UNLIMITED  # fs.nr_open, the most for any process
    nice: int = 0  # this process's
    nice_least: int = 19  # by RLIMIT_NICE
    oom_least: int = 0  # lowest oom_score_adj without privileges
    controllers: frozenset[str] = msgspec.field(
        default_factory=frozenset
    )  # for each worker's cgroup
    no_controllers: str = ""  # why some or all are missing, in words


def unsupported_limits(spec: ServiceSpec, machine: Capabilities) -> list[UnsupportedLimit]:
    """Return the limits of a service that this machine does not support, each with what to do."""
    found = (
        ("open_files", _files(spec, machine)),
        ("nice", _nice(spec, machine)),
        ("oom_score_adj", _oom(spec, machine)),
        ("cpu_weight", _weight(spec, machine)),
    )
    return [(key, why) for key, why in found if why]


def format_unsupported(name: str, one: UnsupportedLimit) -> str:
    """Return an unsupported limit as a sentence that can stand alone."""
    return f"services.{name}.{one[0]} cannot be held here: {one[1]}"


def files_allowed(wanted: int, machine: Capabilities) -> int:
    """Return how many descriptors a process gets if it wants this number."""
    most = [machine.files_most, *([] if machine.may_resource else [machine.files_hard])]
    return min([wanted, *(one for one in most if one != UNLIMITED)])


def _user_kind(machine: Capabilities) -> str:
    return "root without all of its rights" if machine.root else "an ordinary user"


def _files(spec: ServiceSpec, machine: Capabilities) -> str:
    gets = files_allowed(spec.limits.open_files, machine)
    if gets == spec.limits.open_files:
        return ""
    why = f"{spec.limits.open_files:,} are more than the {gets:,} that a process may have"
    if gets == machine.files_most:
        return f"{why}; it runs with those. Raise the sysctl fs.nr_open, or ask for less"
    return (
        f"{why}, and {_user_kind(machine)} cannot raise that; it runs with those. Start the "
        "supervisor with a higher hard limit (systemd's LimitNOFILE=, limits.conf), or ask for less"
    )


def _nice(spec: ServiceSpec, machine: Capabilities) -> str:
    least = min(machine.nice, machine.nice_least)
    if spec.limits.nice is None or machine.may_nice or spec.limits.nice >= least:
        return ""
    return (
        f"{_user_kind(machine)} goes no lower than {least}, and {spec.limits.nice} is asked for; "
        f"it runs with {machine.nice}. Start the supervisor with systemd's "
        f"LimitNICE={spec.limits.nice:+d}, or as root"
    )


def _oom(spec: ServiceSpec, machine: Capabilities) -> str:
    wanted = spec.limits.oom_score_adj
    if wanted is None or machine.may_resource or wanted >= machine.oom_least:
        return ""
    return (
        f"{_user_kind(machine)} goes no lower than {machine.oom_least}, and {wanted} is asked for; "
        f"it runs without. Start the supervisor with systemd's OOMScoreAdjust={wanted}"
    )


def _weight(spec: ServiceSpec, machine: Capabilities) -> str:
    if not spec.limits.cpu_weight or CONTROLLERS["cpu_weight"] in machine.controllers:
        return ""
    why = machine.no_controllers or "no cgroup of version 2 here has the controller cpu"
    return (
        f"{why}; it runs with the same share as the others. Delegate a cgroup (systemd's "
        "Delegate=cpu memory pids), or use nice"
    )
