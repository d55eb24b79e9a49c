"""An idle worker has little memory of its own, and goes on as if nothing had happened."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.host import Host, hosting
from tests.support.waiting import until

MIB = 1 << 20
OWN = 6 * MIB  # of a worker that has answered a call, and is idle again: 7.7 without the drop

CONFIG = """
[plugins.remembers]
[services.remembers]
"""
REMEMBERS = """
from garrison.workers import Plugin, Service

class Remembers(Service):
    service_type = "remembers"
    seen = {}  # of the class, which the process had before it was idle

    async def put(self, key: str, value: list[int]) -> int:
        self.seen[key] = value
        return len(self.seen)

    async def get(self, key: str) -> list[int]:
        return self.seen[key]

plugin = Plugin(name="remembers", services=[Remembers])
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Run a service that remembers what it is told."""
    with hosting(CONFIG, files={"remembers.py": REMEMBERS}) as host:
        yield host


def private(pid: int) -> int:
    """Return the memory that no other process shares, in bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def test_an_idle_worker_shares_what_it_only_used(running: Host) -> None:
    """Soon after its start; it still knows what it was told, and is the same process."""
    assert asyncio.run(running.call("remembers", "put", "a", [1, 2, 3])) == 1
    pid = running.status("remembers")["pid"]
    until(lambda: private(pid) < OWN, what="it has dropped its copies")
    for number in range(200):
        assert asyncio.run(running.call("remembers", "get", "a")) == [1, 2, 3], number
        if number % 40 == 0:
            asyncio.run(running.call("remembers", "put", f"b{number}", [number]))
    now = running.status("remembers")
    assert (now["pid"], now["restarts"]) == (pid, 0)
