"""A service that exceeds a limit, itself or by its children, is ended in time."""

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from tests.support.distribution import ALONE
from tests.support.host import LONG_GRACE, Host, Hosting, found
from tests.support.proc import resident
from tests.support.waiting import until

from garrison.ipc import GarrisonError

pytestmark = [pytest.mark.external, pytest.mark.xdist_group(ALONE)]

MIB = 1 << 20
CONFIG = """
[plugins.glutton]
[defaults]
intensity = 0
grace = 5.0
[services.glutton]
memory_max = 134217728
[services.crowd]
plugin = "glutton"
type = "glutton"
processes = 20
[services.free]
plugin = "glutton"
type = "glutton"
"""


def deaths(host: Host, name: str) -> list[dict[str, Any]]:
    """Return a service's deaths, the newest first."""
    records: list[dict[str, Any]] = host.status(name)["deaths"]
    return records


def cause(host: Host, name: str) -> str:
    """Return why a service died, once there is a record."""
    line = until(lambda: deaths(host, name), what=f"a death of {name}")[0]
    assert line["kind"] == "limit", line
    text: str = line["cause"]
    return text


def threads(pid: int) -> int:
    """Return the number of a process's threads."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


async def start(host: Host, name: str, method: str, *args: Any) -> None:
    """Start a service in a mode."""
    async with host.connect() as client:
        try:
            await getattr(found(client, name), method)(*args)
        except GarrisonError:  # it was killed in the middle of it
            return


async def test_a_slow_leak_is_drained_and_started_again(host: Hosting) -> None:
    """It ends in order before it exceeds the limit by a quarter; other services are not
    affected."""
    running = host(CONFIG, ["glutton"])
    old, free = running.status("glutton")["pid"], running.status("free")["pid"]

    await start(running, "glutton", "grow_aside", 400, 1, 0.01)
    row = running.until_reborn("glutton", old)

    assert "in 1 process, and memory_max is 128 MiB, so it was ended" in cause(running, "glutton")
    assert row["last_exit"] == "exited with code 0"
    assert row["restarts"] == 1
    assert running.status("free")["pid"] == free
    death = running.run("death", "glutton", json=True).data
    assert (death["kind"], death["state"]) == ("limit", "running")


async def test_a_fast_leak_is_killed_at_once(host: Hosting) -> None:
    """There is no time to drain, whatever the grace: 400 MiB at once. A measurement may fall into
    the moment in which it has a little more than is allowed; then the next one kills it."""
    running = host(CONFIG.replace("grace = 5.0", "grace = 60.0"), ["glutton"])
    old = running.status("glutton")["pid"]

    await start(running, "glutton", "keep_and_block", 400)
    row = running.until_reborn("glutton", old)

    assert "memory_max is 128 MiB, so it was" in cause(running, "glutton")
    assert row["last_exit"] == "was killed by SIGKILL"


async def test_what_goes_on_growing_while_it_is_drained_is_killed(host: Hosting) -> None:
    """Calls in flight may end, unless they take the memory."""
    running = host(CONFIG.replace("grace = 5.0", "grace = 60.0"), ["glutton"])
    old = running.status("glutton")["pid"]

    await start(running, "glutton", "grow", 1000, 1, 0.01)
    row = running.until_reborn("glutton", old)

    assert "so it was killed at once" in cause(running, "glutton")
    assert row["last_exit"] == "was killed by SIGKILL"
    assert running.events("service.overrun", "glutton")


async def test_what_it_started_counts_wherever_that_has_gone(host: Hosting) -> None:
    """A grandchild in a session of its own, whose parent has ended, counts and is ended too."""
    running = host(CONFIG, ["glutton"])
    old = running.status("glutton")["pid"]

    await start(running, "glutton", "have_kept", 150)
    running.until_reborn("glutton", old)

    assert "in 2 processes, and memory_max is 128 MiB" in cause(running, "glutton")
    until(lambda: _largest(running) < 128 * MIB, what="the grandchild is gone")


def _largest(host: Host) -> int:
    """Return the memory of the largest process of a host, in bytes."""
    sizes = [0]
    for pid in host.processes():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            sizes.append(resident(pid))
    return max(sizes)


async def test_shared_pages_are_counted_once(host: Hosting) -> None:
    """Five forks of 60 MiB have 60 MiB together, as the kernel reports."""
    running = host(CONFIG, ["glutton"])
    pid, before = running.status("glutton")["pid"], threads(running.pid)

    await start(running, "glutton", "share", 60, 5)
    until(lambda: threads(running.pid) > before, what="a thread reads what they share")
    answered = time.monotonic() + 0.5  # a few times

    while time.monotonic() < answered:
        row = running.status("glutton")
        assert (row["state"], row["pid"]) == ("running", pid)
        assert row["tree"]["memory_bytes"] > 300 * MIB
    assert deaths(running, "glutton") == []


async def test_too_many_processes_end_with_all_of_them(host: Hosting) -> None:
    """A worker that multiplies is killed with all that it started."""
    running = host(CONFIG, ["glutton"])
    old, before = running.status("crowd")["pid"], len(running.processes())

    await start(running, "crowd", "multiply", 60)
    running.until_reborn("crowd", old)

    assert "processes is 20, so it was" in cause(running, "crowd")
    until(lambda: len(running.processes()) <= before + 1, what="all of them are gone")


async def test_a_few_processes_too_many_are_drained(host: Hosting) -> None:
    """Up to a quarter above the limit it is drained."""
    running = host(CONFIG, ["glutton"])
    old = running.status("crowd")["pid"]

    await start(running, "crowd", "multiply", 22)
    row = running.until_reborn("crowd", old)

    words = "it had 23 processes, and processes is 20, so it was ended"
    assert cause(running, "crowd") == words
    assert row["last_exit"] == "exited with code 0"


@pytest.mark.parametrize("launcher_too", [False, True])
async def test_the_next_supervisor_goes_on_looking(host: Hosting, launcher_too: bool) -> None:
    """Adopted workers keep their limits, also reparented ones."""
    running = host(LONG_GRACE + CONFIG, ["glutton"])
    old, launcher = running.status("glutton")["pid"], running.launcher
    running.end(signal.SIGKILL)
    if launcher_too:
        os.kill(launcher, signal.SIGKILL)
    running.up()
    assert running.status("glutton")["pid"] == old

    await start(running, "glutton", "grow_aside", 400, 1, 0.01)
    running.until_reborn("glutton", old)

    assert "memory_max is 128 MiB" in cause(running, "glutton")


async def test_status_shows_what_a_tree_has_beside_its_limits(host: Hosting) -> None:
    """For one service its whole tree; the table has its memory, within 80 columns."""
    running = host(CONFIG, ["glutton"])
    await start(running, "crowd", "multiply", 9)

    records = running.run("status", "crowd").out
    table = running.run("status").out

    assert "10 of 20 processes" in records
    line = next(line for line in table.splitlines() if line.startswith("glutton"))
    assert "M/128M" in line
    assert max(map(len, table.splitlines())) <= 80


async def test_what_is_too_much_at_each_start_is_given_up(host: Hosting) -> None:
    """It counts as a crash: a limit that the service always exceeds ends in `failed`."""
    limits = "intensity = 2\nperiod = 60.0\nmemory_max = 1048576\n"
    running = host(f"[plugins.glutton]\n[services.glutton]\n{limits}", ["glutton"], up=False)
    running.start()

    until(lambda: running.head() is not None, what="it is up")
    row = running.wait_for("glutton", "failed")

    assert "memory_max is 1 MiB" in row["reason"]
