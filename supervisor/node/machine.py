"""Reads what this machine has, and how much of it is used."""

import contextlib
import os
from importlib import metadata
from pathlib import Path

from garrison.supervisor.processes.node_protocol import Machine
from garrison.supervisor.processes.processors import processor_count

KIB = 1024
PACKAGES_MOST = 2000
SERVICES_MOST = 1000


def read_machine(services: Path) -> Machine:
    """Return the processors, the load and the memory of this machine, and what it keeps.

    Args:
        services: The folder of the services' data folders.
    """
    figures: dict[str, int] = {}
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text("ascii").splitlines():
            name, _, rest = line.partition(":")
            if name in {"MemTotal", "MemAvailable"}:
                figures[name] = int(rest.split()[0]) * KIB
    load = 0.0
    with contextlib.suppress(OSError):
        load = os.getloadavg()[0]
    return Machine(
        processor_count(),
        load,
        figures.get("MemTotal", 0),
        figures.get("MemAvailable", 0),
        _with_files(services),
    )


def _with_files(services: Path) -> tuple[str, ...]:
    """Return the services whose data folder has something in it."""
    found: list[str] = []
    with contextlib.suppress(OSError):
        for folder in sorted(services.iterdir()):
            with contextlib.suppress(OSError):
                if len(found) < SERVICES_MOST and any(folder.iterdir()):
                    found.append(folder.name)
    return tuple(found)


def read_packages() -> dict[str, str]:
    """Return the version of each installed distribution, by its name in lower case."""
    found: dict[str, str] = {}
    for one in metadata.distributions():
        name = one.metadata["Name"]
        if name and len(found) < PACKAGES_MOST:
            found.setdefault(str(name).lower().replace("_", "-"), one.version)
    return found
