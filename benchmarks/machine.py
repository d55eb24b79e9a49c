"""The machine that the figures are from."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import zmq


def describe() -> dict[str, object]:
    """Return what the figures depend on."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "pyzmq": version("pyzmq"),
        "libzmq": zmq.zmq_version(),
        "msgspec": version("msgspec"),
        "load": round(os.getloadavg()[0], 2),  # of the last minute, before the run
    }


def line(machine: dict[str, object]) -> str:
    """Return it as one sentence."""
    return (
        "{cpu}, {cores} cores, Linux {kernel}, Python {python}, pyzmq {pyzmq}, "
        "libzmq {libzmq}, msgspec {msgspec}; load before the run {load}"
    ).format_map(machine)


def _cpu() -> str:
    for text in Path("/proc/cpuinfo").read_text().splitlines():
        if text.startswith("model name"):
            return text.partition(":")[2].strip()
    return platform.machine()
