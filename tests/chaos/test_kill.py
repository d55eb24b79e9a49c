"""A worker is killed: calls in flight are lost at once, later ones go to the next incarnation."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from tests.support.host import Host, found, hosting
from tests.support.proc import alive, children, descriptors, resident
from tests.support.sizes import sizes
from tests.support.waiting import SOON, eventually, until

from garrison.ipc import Client, RemoteError, ServiceLost

# The bus announces an end within 50 ms, even if the launcher has not reported its cause by then.
LOST = "was killed by SIGKILL|its process ended"
CONFIG = """
[plugins.echo]
[plugins.leak]
[defaults]
intensity = 0
[services.echo]
[services.target-1]
plugin = "echo"
[services.target-2]
plugin = "echo"
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Run services that may be killed any number of times."""
    with hosting(CONFIG, ["echo", "leak"]) as host:
        yield host


@pytest.fixture
async def client(running: Host) -> AsyncIterator[Client]:
    """Join the host."""
    async with running.connect() as client:
        yield client


def kill(host: Host, name: str) -> int:
    """Kill a service after a reset of its restarts, so that it restarts at once."""
    host.ask("reset", name)
    return host.kill(name)


async def test_a_call_in_flight_is_lost_with_its_worker_at_once(
    running: Host, client: Client
) -> None:
    """It fails with ServiceLost and the cause; the next call is answered by another process, and
    one restart is counted."""
    target = found(client, "target-1")
    before = await asyncio.to_thread(running.status, "target-1")
    lost = target.hang("doomed")
    assert await target.echo("it is there") == "it is there"
    began = time.monotonic()
    await asyncio.to_thread(os.kill, before["pid"], signal.SIGKILL)
    with pytest.raises(ServiceLost, match=LOST):
        await lost
    assert time.monotonic() - began < SOON
    assert await target.pid() != before["pid"]
    after = await asyncio.to_thread(running.status, "target-1")
    assert after["restarts"] == before["restarts"] + 1
    assert after["generation"] == before["generation"] + 1
    assert after["last_exit"] == "was killed by SIGKILL"
    assert after["state"] == "running"


async def test_a_service_that_calls_learns_of_the_loss_too(running: Host, client: Client) -> None:
    """Its call ends as ServiceLost, in its own process."""
    echo, target = found(client, "echo"), found(client, "target-1")
    lost = echo.ask("target-1", "hang", ["by a service"])

    async def begun() -> bool:
        return "by a service" in await target.hung()

    await eventually(begun)
    await asyncio.to_thread(kill, running, "target-1")
    with pytest.raises(RemoteError, match=f"ServiceLost: .*({LOST})"):
        await lost


async def test_calls_made_while_it_restarts_wait_and_are_answered(
    running: Host, client: Client
) -> None:
    """They go to the next incarnation, in order."""
    target = found(client, "target-1")
    old = await target.pid()
    before = client.directory.get("target-1")
    assert before is not None
    await asyncio.to_thread(kill, running, "target-1")

    async def is_announced() -> bool:
        now = client.directory.get("target-1")
        return now is not None and now.token != before.token

    await eventually(
        is_announced
    )  # until then a call may still be sent to the dead one, and is lost
    assert not alive(old)
    assert await asyncio.gather(*(target.echo(n) for n in range(200))) == list(range(200))


async def test_the_caller_killed_in_mid_call_ends_its_calls(running: Host, client: Client) -> None:
    """Calls of a dead service are cancelled at their callees."""
    target = found(client, "target-2")
    lost = found(client, "target-1").ask("target-2", "hang", ["orphan"])

    async def begun() -> bool:
        return "orphan" in await target.hung()

    await eventually(begun)
    await asyncio.to_thread(kill, running, "target-1")
    with pytest.raises(ServiceLost):
        await lost

    async def cancelled() -> bool:
        return "orphan" in await target.cancellations()

    await eventually(cancelled)


async def test_a_flood_holds_up_neither_deaths_nor_orders(running: Host) -> None:
    """During a flood of calls an end is announced at once and orders are answered; each call of the
    flood ends once."""
    async with running.connect() as flooding, running.connect() as client:
        echo, target = found(flooding, "echo"), found(client, "target-1")
        stop = asyncio.Event()
        ends = 0

        async def flood() -> None:
            nonlocal ends
            while not stop.is_set():
                sizes = await asyncio.gather(*(echo.size(bytes(20_000)) for _ in range(500)))
                assert set(sizes) == {20_000}
                ends += len(sizes)

        async with asyncio.TaskGroup() as group:
            group.create_task(flood())
            for _ in range(5):
                lost = target.hang("flooded")
                pid = await target.pid()
                before = ends
                await asyncio.to_thread(running.ask, "reset", "target-1")
                began = time.monotonic()
                os.kill(pid, signal.SIGKILL)
                with pytest.raises(ServiceLost):
                    await lost
                assert time.monotonic() - began < SOON
                assert await target.pid() != pid
                await asyncio.to_thread(running.ask, "status")
                assert time.monotonic() - began < SOON

                async def went_on(before: int = before) -> bool:
                    return ends > before

                await eventually(went_on)
            stop.set()
        assert len(flooding.calls) == 0


# --- what a worker started ----------------------------------------------------------------


@pytest.mark.parametrize("end", ["kill", "exit", "restart", "term"])
async def test_what_a_worker_started_ends_with_it(running: Host, client: Client, end: str) -> None:
    """Children in other sessions, daemons that forked twice, ones that ignore SIGTERM: however the
    worker ends, none is left when the next incarnation runs."""
    leak = found(client, "leak")
    family, pid = await leak.family(), await leak.pid()
    assert all(alive(one) for one in family)
    match end:
        case "kill":
            await asyncio.to_thread(kill, running, "leak")
        case "term":
            await asyncio.to_thread(running.kill, "leak", signal.SIGTERM)
        case "exit":
            with pytest.raises(ServiceLost):
                await leak.exit(0)
        case "restart":
            await asyncio.to_thread(running.ask, "restart", "leak")
    row = await asyncio.to_thread(running.until_reborn, "leak", pid)
    assert not [one for one in family if alive(one)]
    assert await leak.pid() == row["pid"]
    assert not set(await leak.family()) & set(family)


# --- what stays ---------------------------------------------------------------------------


@pytest.mark.parametrize("restarts", sizes(30, 3000))
def test_nothing_grows_over_restarts(running: Host, restarts: int) -> None:
    """The supervisor and its launcher have the same descriptors, processes, zombies, files and
    memory as before."""
    names = ("echo", "target-1", "target-2")

    def restart(times: int) -> None:
        for _ in range(times):
            old = {name: kill(running, name) for name in names}
            for name in names:
                running.until_reborn(name, old[name])

    def standing() -> dict[str, int]:
        launcher = running.launcher
        return {
            "supervisor's descriptors": len(descriptors(running.pid)),
            "launcher's descriptors": len(descriptors(launcher)),
            "supervisor's children": len(children(running.pid)),
            "launcher's children": len(children(launcher)),
            "processes": len(running.processes()),
            "files": sum(1 for path in running.home.rglob("*") if path.parent.name != "deaths"),
        }

    restart(5)
    live = sum(row["pid"] is not None for row in running.rows().values())
    until(lambda: len(children(running.launcher)) == live + 2, what="one is forked ahead")  # and
    # the template
    before, memory = standing(), (resident(running.pid), resident(running.launcher))
    restart(restarts // len(names))

    def nothing_more() -> bool:
        """Compare with at most: the first count may include a connection that was closing."""
        return all(count <= before[what] for what, count in standing().items())

    until(nothing_more, what=f"it stands as before, {before}")
    grown = resident(running.pid) - memory[0]
    assert grown < 4 << 20, f"the supervisor grew by {grown:,} bytes"
    grown = resident(running.launcher) - memory[1]
    assert grown < 4 << 20, f"the launcher grew by {grown:,} bytes"
