"""Figures that tests print: `pytest -s` shows them. Times are seconds, sizes are bytes."""

import os
import statistics
from typing import Any

from tests.support.proc import stat


def processor_s(pid: int) -> float:
    """Return the processor time of a process in seconds."""
    fields = stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def p99(times: list[float]) -> float:
    """Return the 99th percentile."""
    return sorted(times)[min(len(times) - 1, int(len(times) * 0.99))]


def spread(times: list[float]) -> str:
    """Return the median, the 99th percentile and the maximum, in milliseconds."""
    if not times:
        return "none"
    return (
        f"p50 {statistics.median(times) * 1000:.1f} ms, p99 {p99(times) * 1000:.1f} ms, "
        f"most {max(times) * 1000:.1f} ms of {len(times):,}"
    )


def mib(size: float) -> str:
    """Format a growth in MiB."""
    return f"{size / (1 << 20):+.1f} MiB"


def show(what: str, **figures: Any) -> None:
    """Print figures: `-s` shows them."""
    print(
        f"\n{what}" + "".join(f"\n  {name.replace('_', ' ')}: {v}" for name, v in figures.items())
    )
