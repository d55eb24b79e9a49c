"""How many files this process may have open: its limit, and what is left of it."""

import os
import resource

from garrison.ipc.errors import GarrisonError

DESCRIPTORS_LEAST = 128  # with fewer, the supervisor has none left for connections
DESCRIPTORS_BASE, DESCRIPTORS_EACH = 112, 5  # of the supervisor itself, and for each service


def free_descriptors() -> int:
    """Return how many descriptors this process may still open."""
    taken = os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))  # noqa: PTH116, PTH208
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] - taken


def raise_descriptor_limit() -> int:
    """Raise the limit of descriptors to the hard limit: libzmq aborts if an accept finds none.

    Returns:
        The former limit, if it was lower; else 0.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ceiling = 65_536 if hard == resource.RLIM_INFINITY else hard
    if soft >= ceiling:
        return 0
    resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling, hard))
    return soft


def check_descriptor_limit(services: int) -> None:
    """Raise GarrisonError if this process may open too few files to supervise so many services."""
    needed = max(DESCRIPTORS_LEAST, DESCRIPTORS_BASE + DESCRIPTORS_EACH * services)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise GarrisonError(
            f"this process may open {hard} files, and a host with {services} services needs "
            f"{needed} or more: raise the hard limit, with ulimit -Hn {max(needed, 1024)} as root, "
            "with LimitNOFILE= in a systemd unit, or with --ulimit nofile= in docker run"
        )
