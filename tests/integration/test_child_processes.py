"""`runtime.process`: a process ends with its scope, with all that it has started."""

import asyncio
from collections.abc import Iterator

import pytest
from tests.support.host import Host, found, hosting
from tests.support.proc import alive
from tests.support.waiting import until

from garrison.ipc import CallTimeout, ServiceLost, with_timeout

CONFIG = """\
[plugins.parent]
[services.parent]
secrets = ["TOKEN"]
[services.other]
plugin = "parent"
grace = 0.5
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Run services that start processes."""
    with hosting(CONFIG, ["parent"], env={"TOKEN": "s3cret"}) as host:
        yield host


def gone(pids: list[int]) -> bool:
    """Return whether none of these processes runs."""
    return not any(map(alive, pids))


def logged(host: Host, name: str, count: int) -> list[int]:
    """Return the pids in the last of so many lines of a service's log."""
    lines = until(
        lambda: [line for line in host.log(name).splitlines() if line.startswith("pids ")][
            count - 1 :
        ]
    )
    return [int(word) for word in lines[-1].split()[1:]]


async def test_a_process_of_a_call_ends_with_it(running: Host) -> None:
    """Also where the call was cancelled, or took too long; one that ignores SIGTERM is killed."""
    pids = await running.call("parent", "family", "call")
    until(lambda: gone(pids))
    async with running.connect() as client:
        parent = found(client, "parent")
        with pytest.raises(CallTimeout):
            await with_timeout(parent, 2.0).emit_family(600)
        pids = logged(running, "parent", 1)
        until(lambda: gone(pids))
        call = asyncio.ensure_future(parent.emit_family(600))
        pids = await asyncio.to_thread(logged, running, "parent", 2)
        assert all(map(alive, pids))
        call.cancel()
        await asyncio.to_thread(until, lambda: gone(pids))


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_process_of_a_service_ends_with_it(running: Host, how: str) -> None:
    """It outlives the call. No process is left, whatever its session, also of a killed service."""
    pids = await running.call("other", "family")
    assert all(map(alive, pids))
    before = running.log("other").count("pids ")
    lasting = asyncio.ensure_future(running.call("other", "emit_family", 600))
    pids += await asyncio.to_thread(logged, running, "other", before + 1)
    if how == "stop":
        await asyncio.to_thread(running.ask, "restart", "other", wait=30)
    else:
        old = running.kill("other")
        await asyncio.to_thread(running.until_reborn, "other", old)
    with pytest.raises(ServiceLost):
        await lasting
    assert gone(pids)


async def test_what_a_process_leaves_ends_with_it(running: Host) -> None:
    """And a process ends that no call has used for its idle time."""
    pids = await running.call("parent", "brief")
    until(lambda: gone(pids))
    pids = await running.call("parent", "idle", 600)
    assert all(map(alive, pids))
    pids = await running.call("parent", "idle", 0.01)
    until(lambda: gone(pids))


async def test_a_process_has_no_secrets_and_mistakes_have_their_errors(running: Host) -> None:
    """What it needs besides is given by name."""
    environment = await running.call("parent", "environment")
    assert "PATH=" in environment
    assert "s3cret" not in environment
    text, scope, missing = [
        await running.call("parent", "mistake", kind) for kind in ("text", "scope", "missing")
    ]
    assert text == "TypeError: process takes a list of words, not 'ls'"
    assert scope == 'ValueError: scope is "call" or "service", not \'agent\''
    assert missing.startswith("FileNotFoundError")
    refused = await running.call("parent", "many")
    assert refused == "the service has 64 processes: end one before starting another"
