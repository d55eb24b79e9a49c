"""A service that hangs: its stacks are dumped, it is ended, and it runs again."""

import asyncio
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from tests.support.host import Host, found, hosting
from tests.support.proc import alive, ignores
from tests.support.waiting import SOON, until

from garrison.ipc import Client, ServiceLost

CONFIG = """
[plugins.hang]
[defaults]
intensity = 0
watchdog = 1.0
grace = 0.4
[services.hang]
[services.other]
plugin = "hang"
[services.deaf]
plugin = "hang"
env = { DEAF = "yes" }
[services.patient]
plugin = "hang"
watchdog = 0
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Run services that hang on request."""
    with hosting(CONFIG, ["hang"]) as host:
        yield host


@pytest.fixture
async def client(running: Host) -> AsyncIterator[Client]:
    """Join the host."""
    async with running.connect() as client:
        yield client


@pytest.mark.parametrize("method", ["sleep_in_the_loop", "spin_in_the_loop"])
async def test_a_blocked_loop_is_dumped_and_restarted(
    running: Host, client: Client, method: str
) -> None:
    """After the watchdog its log has the stacks of all threads, the call fails with the reason, and
    the service restarts; other services are not disturbed."""
    hang, other = found(client, "hang"), found(client, "other")
    running.ask("reset", "hang")
    before = running.status("hang")
    lost = getattr(hang, method)()
    # On a loaded machine, the cause may come after the end, which is announced in any case.
    with pytest.raises(ServiceLost, match=r"silent for 1 s|its process ended"):
        await lost
    assert re.search(rf'File ".*hang\.py", line \d+ in {method}', running.log("hang"))
    row = await asyncio.to_thread(running.until_reborn, "hang", before["pid"])
    assert row["restarts"] == before["restarts"] + 1
    assert await hang.echo(1) == 1
    assert await other.echo(1) == 1
    assert running.status("other")["restarts"] == 0


async def test_a_blocked_loop_among_many_threads(running: Host, client: Client) -> None:
    """The stack of the main thread comes first, then that of a busy one, then 100 of all, with how
    many were left out."""
    running.ask("reset", "hang")
    with pytest.raises(ServiceLost):  # on a loaded machine, the cause may come after the end
        await found(client, "hang").sleep_among_threads(150)
    until(lambda: running.status("hang")["state"] == "running")
    death = running.run("death", "hang", json=True).data
    stacks = death["stacks"]
    assert "the main thread first" in stacks, death
    heads = [stacks.index(text) for text in ("the main thread first", "uses the processor")]
    heads.append(stacks.index("more are left out"))
    assert heads == sorted(heads)
    assert "in sleep_among_threads" in stacks[heads[0] : heads[1]]
    assert "in keep_busy" in stacks[heads[1] : heads[2]]
    assert len(re.findall("^Thread 0x", stacks[heads[2] :], re.MULTILINE)) >= 50


async def test_a_stopped_process_is_ended_and_restarted(running: Host, client: Client) -> None:
    """After SIGSTOP only SIGKILL ends it. The call that it ran is lost, the one that it could not
    read goes to the next."""
    hang = found(client, "hang")
    running.ask("reset", "hang")
    lost = hang.never()
    assert await hang.echo(1) == 1  # so it has begun
    pid = running.kill("hang", signal.SIGSTOP)
    unread = hang.echo(2)
    with pytest.raises(ServiceLost):
        await lost
    await asyncio.to_thread(running.until_reborn, "hang", pid)
    assert not alive(pid)
    assert await unread == 2


def test_a_stopped_process_can_be_stopped_by_order(running: Host) -> None:
    """It is killed after its grace."""
    pid = running.kill("hang", signal.SIGSTOP)
    assert running.ask("stop", "hang")["services"] == {"hang": "stopped"}
    assert not alive(pid)
    running.ask("start", "hang")
    assert running.status("hang")["state"] == "running"


def test_one_that_ignores_term_is_killed(running: Host) -> None:
    """Although it ignores SIGTERM and its `stop` hangs."""
    pid = running.status("deaf")["pid"]
    until(lambda: ignores(pid, signal.SIGTERM))
    began = time.monotonic()
    assert running.ask("stop", "deaf")["services"] == {"deaf": "stopped"}
    assert not alive(pid)
    assert time.monotonic() - began < SOON
    running.ask("start", "deaf")


async def test_a_watchdog_of_0_waits_for_ever(running: Host, client: Client) -> None:
    """A service without a watchdog may block for any time, and works again afterwards."""
    patient = found(client, "patient")
    pid = running.kill("patient", signal.SIGSTOP)
    call = patient.echo(3)
    hang = found(client, "other")
    stopped = await asyncio.to_thread(running.kill, "other", signal.SIGSTOP)
    await asyncio.to_thread(running.until_reborn, "other", stopped)  # longer than its watchdog
    os.kill(pid, signal.SIGCONT)
    assert await call == 3
    assert await patient.pid() == pid
    assert await hang.echo(1) == 1


async def test_a_stopped_supervisor_restarts_no_service(running: Host, client: Client) -> None:
    """While it is stopped it reads no beats; afterwards no service is restarted for that, and calls
    made meanwhile are answered."""
    before = {name: row["pid"] for name, row in running.rows().items()}
    os.kill(running.pid, signal.SIGSTOP)
    try:
        call = found(client, "hang").echo(4)
        await asyncio.sleep(3.0)  # three watchdogs: what must not happen has no event
        assert not call.done()
    finally:
        os.kill(running.pid, signal.SIGCONT)
    assert await call == 4
    assert {name: row["pid"] for name, row in running.rows().items()} == before
