"""Processes as /proc shows them: state, children, memory, descriptors, environment."""

import contextlib
import os
from pathlib import Path

MARK = "XDG_GARRISON_TEST"  # in every worker's environment, as all that begins with XDG_
NO_MARK = "0" * 32  # of the command server; its forked launchers replace it by their host's mark
ENVIRON_PART = 1 << 16  # bytes
ROOM = "-" * 600  # an argument of the command server: space for a forked launcher's arguments


def stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; empty if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def alive(pid: int) -> bool:
    """Return True if a process runs; a zombie does not."""
    return stat(pid)[:1] not in ([], ["Z"], ["X"])


def resident(pid: int) -> int:
    """Return a process's resident bytes."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def ignores(pid: int, number: int) -> bool:
    """Return True if a process ignores a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    ignored = next(line for line in status.splitlines() if line.startswith("SigIgn"))
    return bool(int(ignored.split()[1], 16) & 1 << number - 1)


def children(pid: int) -> list[int]:
    """Return a process's children, including zombies."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def descriptors(pid: int | str = "self") -> dict[str, str]:
    """Return a process's open descriptors: number → target."""
    found: dict[str, str] = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # the listing's own is gone by now
            found[entry.name] = str(entry.readlink())
    return found


def bearing(mark: str) -> set[int]:
    """Return the pids of all processes that were started with a mark in their environment."""
    needle = f"\0{MARK}={mark}\0".encode()
    found: set[int] = set()
    for pid in pids():
        with contextlib.suppress(OSError):
            if needle in b"\0" + _environ(pid):
                found.add(pid)
    return found


def pids() -> list[int]:
    """Return the pids of all processes. It makes no Paths, as each host reads every process."""
    with os.scandir("/proc") as entries:
        return [int(entry.name) for entry in entries if entry.name.isdigit()]


def _environ(pid: int) -> bytes:
    fd = os.open(f"/proc/{pid}/environ", os.O_RDONLY)
    try:
        parts = list(iter(lambda: os.read(fd, ENVIRON_PART), b""))
    finally:
        os.close(fd)
    return b"".join(parts)


def listening(pid: int) -> int:
    """Return how many listening Unix sockets a process has.

    A supervisor keeps one for each batch of connections until the last of them is closed.
    """
    # The names of sockets have any bytes.
    lines = Path("/proc/net/unix").read_text("utf-8", "replace").split("\n")[1:]
    rows = [fields for line in lines if len(fields := line.split()) > 6]
    accepting = {fields[6] for fields in rows if fields[3] == "00010000"}
    targets = descriptors(pid).values()
    return sum(target.removeprefix("socket:[").rstrip("]") in accepting for target in targets)
