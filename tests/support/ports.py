"""Ports that stay free: neither another process of the tests nor the kernel gives them away.

A port that the kernel chooses may be the source of any connection between its choice and its use,
or while its server is killed and started again. So these are below the kernel's range, and each
process of the tests has some of its own.
"""

import itertools
import os
import socket
from pathlib import Path

FIRST, EACH = 10_240, 80  # of all; of a process
RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def _ports() -> range:
    """Return the ports of this process."""
    low = int(RANGE.read_text().split()[0]) if RANGE.exists() else 32_768
    places = max((low - FIRST) // EACH, 1)
    first = FIRST + os.getpid() % places * EACH
    return range(first, first + EACH)


_NEXT = itertools.cycle(_ports())


def free_port() -> int:
    """Return a port that is free, and that no call before has returned lately."""
    for port in itertools.islice(_NEXT, EACH):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no port of {_ports()} is free")
