"""Whatever a worker does, its neighbours keep running, it is restarted, and nothing of it is
left."""

import asyncio
import contextlib
import fcntl
import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.services.fault import BLOCKS, DUMPED, FAULTS
from tests.support.host import Host, Hosting, found, hosting
from tests.support.proc import alive, children, pids
from tests.support.waiting import eventually, until

from garrison.ipc import CallError, OrderFailed, ServiceLost, with_timeout

WATCHDOG = 1.0
TELL_S = WATCHDOG + 1.0  # from the block to the dump: what is promised
MARGIN_S = 2.0  # for a machine whose processors are all busy, as some of these make them
SLOW_S = 4.0  # a neighbour's answer takes milliseconds; this is a neighbour that was disturbed

HEAD = """
[host]
cgroups = {cgroups}
[plugins.fault]
[plugins.echo]
[defaults]
intensity = 0
watchdog = 1.0
grace = 0.5
start_timeout = 0.5
"""
VICTIM = '[services.{name}]\nplugin = "fault"\ntype = "fault"\nautostart = {autostart}\n'
MODES = [
    *("init raises", "init hangs", "init blocks", "init exits", "init is killed"),
    *("start raises", "start hangs", "start blocks", "start exits", "start is killed"),
    "start runs out of memory",
]
ENDS = ["stop raises", "stop hangs", "stop blocks", "stop exits", "stop is killed"]


def config() -> str:
    """Return the config of a host with a service for each fault of init, start and stop."""
    text = HEAD.format(cgroups="true")
    for mode in (*MODES, *ENDS):
        name = mode.replace(" ", "-")
        text += VICTIM.format(name=name, autostart="false") + f'env = {{ MODE = "{mode}" }}\n'
    return text


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Run services with all faults, each in a cgroup if there are cgroups."""
    with hosting(config(), ["fault", "echo"]) as host:
        yield host


@pytest.fixture(scope="module")
def without() -> Iterator[Host]:
    """Run services with all faults, and one for each way to block, without cgroups."""
    text = HEAD.format(cgroups="false")
    for block in BLOCKS:
        text += VICTIM.format(name=block, autostart="true")
    with hosting(text, ["fault", "echo"]) as host:
        yield host


@contextlib.asynccontextmanager
async def undisturbed(host: Host) -> AsyncIterator[None]:
    """Call a neighbour in a loop: each call is answered in time, and it never restarts."""
    before = await asyncio.to_thread(host.status, "echo")
    slowest = 0.0
    async with host.connect() as client:
        echo, stop = with_timeout(found(client, "echo"), SLOW_S), asyncio.Event()

        async def calling() -> None:
            nonlocal slowest
            while not stop.is_set():
                began = time.monotonic()
                assert await echo.echo(1) == 1
                slowest = max(slowest, time.monotonic() - began)
                await asyncio.sleep(0.01)

        async with asyncio.TaskGroup() as group:
            group.create_task(calling())
            yield
            stop.set()
    print(f"slowest answer of the neighbour: {slowest * 1000:.1f} ms")
    after = await asyncio.to_thread(host.status, "echo")
    assert (after["pid"], after["restarts"]) == (before["pid"], before["restarts"])


def strays(host: Host) -> dict[int, str]:
    """Return the processes that a host has left behind, found by the environment that they
    started with and by their cgroup."""
    head = host.head()
    assert head is not None
    launcher = head["launcher_pid"]
    known = {host.pid, launcher, *(row["pid"] for row in host.rows().values())}
    found = host.processes() | in_cgroups(launcher)
    spare = set(children(launcher)) - known  # one is forked ahead, perhaps the next already
    return {pid: _told(pid) for pid in found - known - spare if alive(pid)}


def in_cgroups(launcher: int) -> set[int]:
    """Return the processes in the cgroups of a launcher's workers."""
    found: set[int] = set()
    for pid in pids():
        with contextlib.suppress(OSError):
            if f"/garrison-{launcher}-" in Path(f"/proc/{pid}/cgroup").read_text():
                found.add(pid)
    return found


def _told(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text()[:60]
    except OSError:
        return "gone meanwhile"


# --- faults of a running service ----------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
async def test_it_dies_alone_and_comes_back(running: Host, fault: str) -> None:
    """The call ends, neighbours answer, the service restarts, and nothing that it started is
    left."""
    await dies_alone_and_comes_back(running, fault)


@pytest.mark.parametrize("fault", ["breaks away", "respawns", "runs away", "parent killed"])
async def test_without_cgroups_nothing_is_left_either(without: Host, fault: str) -> None:
    """Process groups, the subreaper and a repeated walk reach all of it."""
    await dies_alone_and_comes_back(without, fault)


async def dies_alone_and_comes_back(host: Host, fault: str) -> None:
    """Run a fault; check that the service restarts and that nothing is left."""
    async with undisturbed(host), host.connect() as client:
        victim = found(client, "fault")
        await asyncio.to_thread(host.ask, "reset", "fault")
        pid = await victim.pid()
        with contextlib.suppress(CallError):  # some say yes before they end
            await victim.do(fault)
        await asyncio.to_thread(host.until_reborn, "fault", pid)
        assert await victim.pid() != pid
    until(lambda: not strays(host), 10, f"nothing is left of it: {strays(host)}")


async def test_blocked_in_every_way_at_once(without: Host) -> None:
    """The stacks are dumped within the watchdog and a second, with the names of the functions. Each
    service is restarted, and neighbours answer although processors are busy. Processes that ignore
    signals are ended without cgroups too."""
    logs = {name: len(without.log(name)) for name in DUMPED}
    dumped: dict[str, float] = {}
    async with undisturbed(without), without.connect() as client:
        before = {name: await found(client, name).pid() for name in BLOCKS}
        began = time.monotonic()
        lost = [asyncio.ensure_future(found(client, name).do(name)) for name in BLOCKS]

        async def all_told() -> bool:
            for name in DUMPED:
                if name not in dumped and f"in {name}" in without.log(name)[logs[name] :]:
                    dumped[name] = time.monotonic() - began
            return len(dumped) == len(DUMPED)

        await eventually(all_told, what="every stack is in its log")
        print({name: f"{after:.2f} s" for name, after in dumped.items()})
        assert max(dumped.values()) <= TELL_S + MARGIN_S
        outcomes = await asyncio.gather(*lost, return_exceptions=True)
        assert [one for one in outcomes if not isinstance(one, ServiceLost)] == []
        for name, pid in before.items():
            await asyncio.to_thread(without.until_reborn, name, pid)
    until(lambda: not strays(without), 10, f"nothing is left of them: {strays(without)}")


async def test_init_and_start_may_go_wrong_in_every_way_at_once(running: Host) -> None:
    """Each is retried with growing pauses, and disturbs no other."""
    names = [mode.replace(" ", "-") for mode in MODES]
    async with undisturbed(running):

        def start() -> None:
            with contextlib.suppress(Exception):
                running.ask("start", *names, wait=0.1)

        await asyncio.to_thread(start)

        async def all_have_failed() -> bool:
            rows = await asyncio.to_thread(running.rows)
            return all(rows[name]["restarts"] for name in names)

        await eventually(all_have_failed, what="each has failed, and is to be tried again")
        late = running.log("start-hangs")  # its loop turns, so it can tell where its tasks wait
        assert re.search(r"where it waits:\n.*in start\n", late, re.DOTALL), late
        await asyncio.to_thread(running.ask, "stop", *names)
    until(lambda: not strays(running), 10, f"nothing is left of them: {strays(running)}")


async def test_stop_may_go_wrong_in_every_way_at_once(running: Host) -> None:
    """Each is stopped within its grace and the time for signals."""
    names = [mode.replace(" ", "-") for mode in ENDS]
    async with undisturbed(running):
        await asyncio.to_thread(running.ask, "start", *names)
        stopped = await asyncio.to_thread(running.ask, "stop", *names)
        assert set(stopped["services"].values()) == {"stopped"}
    until(lambda: not strays(running), 10, f"nothing is left of them: {strays(running)}")


# --- the lock -----------------------------------------------------------------------------------


def test_a_leftover_with_the_lock_refuses_a_second_incarnation(host: Hosting) -> None:
    """The error names the holder and the fix; the service starts once the leftover is gone. A
    service that is not exclusive starts beside it."""
    shared = '[services.shared]\nplugin = "echo"\nexclusive = false\n'
    text = f"[plugins.echo]\n[defaults]\nintensity = 0\n[services.echo]\n{shared}"
    one = host(text, ["echo"])
    one.ask("stop", "echo", "shared")
    locks = []
    try:
        for name in ("echo", "shared"):  # this test stands for the leftovers
            path = one.home / "run" / f"{name}.service.lock"
            locks.append(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            fcntl.flock(locks[-1], fcntl.LOCK_EX)
        one.ask("start", "shared")
        assert one.status("shared")["state"] == "running"
        with pytest.raises(OrderFailed, match=rf"pid .*\b{os.getpid()} .*exclusive = false"):
            one.ask("start", "echo")
    finally:
        for lock in locks:
            os.close(lock)
    assert one.wait_for("echo", "running")["generation"] > 2
