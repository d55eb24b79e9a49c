"""What a worker's cgroup enforces. Pure; launchers import it, and no keys of the config."""

import msgspec


class CgroupLimits(msgspec.Struct, frozen=True, omit_defaults=True):
    """The limits of a worker's cgroup; 0 is none."""

    memory: int = 0  # bytes
    tasks: int = 0  # threads, of all its processes
    cpu_weight: int = 0
