"""A call that no process has read is never lost: it waits for the next incarnation or router."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.services.busy import outcome
from tests.support.host import Host, found, hosting
from tests.support.waiting import until

from garrison.ipc import ServiceLost

CALLS = 12
CONFIG = """
[plugins.busy]
[defaults]
intensity = 0
watchdog = 0
[services.caller]
plugin = "busy"
secrets = ["RUNS"]
[services.callee]
plugin = "busy"
secrets = ["RUNS"]
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Run a caller and a callee."""
    runs = tmp_path_factory.mktemp("runs") / "runs"
    runs.touch()
    with hosting(CONFIG, ["busy"], env={"RUNS": str(runs)}) as host:
        yield host


def runs(host: Host) -> Counter[str]:
    """Return how often each call was run since the last look."""
    path = Path(host.env["RUNS"])
    noted = Counter(path.read_text().splitlines())
    path.write_text("")
    return noted


def restart(host: Host) -> None:
    """Restart the callee in order."""
    assert host.run("restart", "callee", "--wait", "20").code == 0


def kill(host: Host) -> None:
    """Kill the callee, and wait until it runs again."""
    host.until_reborn("callee", host.kill("callee"))


def upgrade(host: Host) -> None:
    """Replace the supervisor."""
    assert host.run("upgrade").code == 0


@pytest.mark.parametrize("change", [restart, kill, upgrade])
async def test_a_program_whose_loop_was_busy_loses_nothing(
    running: Host, change: Callable[[Host], None]
) -> None:
    """What it sends to an incarnation or router that has ended meanwhile goes to the next."""
    async with running.connect() as client:
        callee = found(client, "callee")
        assert await callee.note("before") == "before"
        change(running)  # this thread's loop is blocked meanwhile
        calls = [callee.note(f"call {number}") for number in range(CALLS)]
        stream = callee.items("stream")

        outcomes = [await outcome(call) for call in calls]
        assert [item async for item in stream] == ["stream", "stream"]

    assert outcomes == [f"call {number}" for number in range(CALLS)]
    assert set(runs(running).values()) == {1}


@pytest.mark.parametrize("change", [restart, kill, upgrade])
async def test_a_service_whose_loop_was_busy_loses_nothing(
    running: Host, change: Callable[[Host], None], tmp_path: Path
) -> None:
    """Likewise from one worker to another."""
    go = tmp_path / "go"
    async with running.connect() as client:
        caller = found(client, "caller")
        calling = caller.block_then_call("callee", str(go), CALLS)
        await asyncio.to_thread(until, Path(f"{go}.blocked").exists)
        await asyncio.to_thread(change, running)
        go.touch()
        if change is upgrade:  # its own caller's call went through the former router
            with pytest.raises(ServiceLost, match="the router restarted"):
                await calling
            await asyncio.to_thread(until, lambda: _lines(running) >= CALLS + 1)
        else:
            assert await calling == [f"call {number}" for number in range(CALLS)]

    assert set(runs(running).values()) == {1}


def _lines(host: Host) -> int:
    return len(Path(host.env["RUNS"]).read_text().splitlines())


async def test_what_a_killed_worker_never_read_goes_to_the_next(running: Host) -> None:
    """Its loop was blocked: the call that blocked it is lost, those behind it are not."""
    async with running.connect() as client:
        callee = found(client, "callee")
        pid = await callee.pid()
        blocking = callee.block(60.0)
        await asyncio.to_thread(until, lambda: _sleeps(pid))
        behind: list[Any] = [callee.note(f"call {number}") for number in range(CALLS)]
        await asyncio.sleep(0)  # they leave this process
        carried = running.ask("status")["supervisor"]["messages"]
        await asyncio.to_thread(until, lambda: _carried(running) >= carried)
        os.kill(pid, signal.SIGKILL)

        with pytest.raises(ServiceLost):
            await blocking
        assert [await outcome(call) for call in behind] == [f"call {n}" for n in range(CALLS)]
    assert set(runs(running).values()) == {1}


def _sleeps(pid: int) -> bool:
    return "nanosleep" in Path(f"/proc/{pid}/wchan").read_text() or _syscall(pid) in {35, 230}


def _syscall(pid: int) -> int:
    return int(Path(f"/proc/{pid}/syscall").read_text().split()[0].replace("running", "-1"))


def _carried(host: Host) -> int:
    count: int = host.ask("status")["supervisor"]["messages"]
    return count


async def test_answers_that_a_killed_supervisor_had_sent_arrive(running: Host) -> None:
    """They wait in the caller's socket while its loop is busy."""
    async with running.connect() as client:
        callee = found(client, "callee")
        await callee.note("before")
        calls = [callee.note(f"call {number}") for number in range(CALLS)]
        await asyncio.sleep(0)
        until(lambda: _lines(running) >= CALLS + 1)  # blocks this loop
        _wait_for_messages(running)
        running.end(signal.SIGKILL)

        outcomes = [await outcome(call) for call in calls]
        running.up()

    assert outcomes == [f"call {number}" for number in range(CALLS)]
    runs(running)


def _wait_for_messages(host: Host) -> None:
    """Return once the router has carried all that was on its way."""
    last = -1
    while last != (now := _carried(host)):
        last = now
        time.sleep(0.02)
