"""Descriptors run out: a connection is accepted only if a descriptor is free for it.

libzmq aborts the whole process when an accept on a Unix socket finds none.
"""

import contextlib
import errno
import os
import resource
import signal
import socket
from collections.abc import Iterator

import pytest
from tests.support.distribution import ALONE
from tests.support.host import Host, found, hosting
from tests.support.proc import descriptors
from tests.support.rogue import dealer
from tests.support.waiting import SOON, eventually, until

from garrison.ipc import ServiceLost, with_timeout

pytestmark = [pytest.mark.external, pytest.mark.xdist_group(ALONE)]

CONFIG = """
[plugins.echo]
[defaults]
intensity = 0
[services.echo]
[services.other]
plugin = "echo"
"""


def connections(host: Host, stack: contextlib.ExitStack, number: int) -> int:
    """Open connections as fast as possible and hold them; return how many found room."""
    taken = 0
    paths = [str(host.home / "run" / f"{name}.sock") for name in ("control", "bus")]
    for n in range(number):
        one = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        one.setblocking(False)
        try:
            one.connect(paths[n % 2])
            taken += 1
        except OSError as error:
            if error.errno != errno.EAGAIN:  # the backlog is full
                raise
    return taken


@pytest.fixture(params=[128, 1600])
def running(request: pytest.FixtureRequest) -> Iterator[Host]:
    """Run a host with few descriptors: from the start, and such that they become few."""
    with hosting(CONFIG, ["echo"], limit=request.param) as host:
        yield host


async def test_more_connections_than_descriptors(running: Host) -> None:
    """The supervisor survives and calls are answered; new programs can join once others left."""
    pids = {name: row["pid"] for name, row in running.rows().items()}
    before = len(descriptors(running.pid))
    async with running.connect() as client:
        echo = with_timeout(found(client, "echo"), SOON)
        other = with_timeout(found(client, "other"), SOON)
        for _ in range(4):
            with contextlib.ExitStack() as stack:
                for n in range(10):
                    connections(running, stack, 150)
                    assert await echo.echo(n) == n
                    assert await echo.ask("other", "echo", [n]) == n
        assert await other.echo(1) == 1

    async def answered() -> bool:
        return bool(await running.call("echo", "echo", 1))

    await eventually(answered)
    assert {name: row["pid"] for name, row in running.rows().items()} == pids
    until(lambda: len(descriptors(running.pid)) <= before + 3, what="their descriptors are free")
    assert not running.events("supervisor.erred")


async def test_a_worker_is_started_again_during_many_connections() -> None:
    """Silent connections are dropped after half a second, so the new worker is accepted."""
    with hosting(CONFIG, ["echo"], limit=128) as running:
        async with running.connect() as client:
            echo = found(client, "echo")
            pid = await echo.pid()
            with contextlib.ExitStack() as stack:
                connections(running, stack, 400)
                old = await found(client, "other").pid()
                os.kill(old, signal.SIGKILL)

                async def another() -> bool:
                    try:
                        return bool(await found(client, "other").pid() != old)
                    except ServiceLost:  # sent before the end was announced
                        return False

                await eventually(another)
                assert await echo.pid() == pid


def test_connections_that_stay_take_no_descriptor_that_is_needed() -> None:
    """The supervisor reserves descriptors for itself; once the connections are gone, services start
    as before."""
    with hosting(CONFIG, ["echo"], limit=128) as running, contextlib.ExitStack() as stack:
        for _ in range(120):
            stack.enter_context(dealer(running, "bus"))
        until(lambda: len(descriptors(running.pid)) > 70)
        assert running.process is not None
        assert running.process.poll() is None
        stack.close()
        assert running.ask("restart", "echo")["services"][0]["state"] == "running"
        assert running.head() is not None


async def test_a_limit_that_is_lowered_is_raised_again() -> None:
    """Even if the next connection comes at once: descriptors are counted before each accept."""
    with hosting(CONFIG, ["echo"]) as running:
        for lowered in (4, 20, 60):
            hard = resource.prlimit(running.pid, resource.RLIMIT_NOFILE)[1]
            resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (lowered, hard))
            assert await running.call("echo", "echo", 1) == 1
            assert resource.prlimit(running.pid, resource.RLIMIT_NOFILE)[0] > 1000
        running.until_reborn("echo", running.kill("echo"))
        raised = [one["data"]["lowered_to"] for one in running.events("descriptors.raised")]
        assert raised == [4, 20, 60]


@pytest.mark.parametrize("options", [(), ("--detach",)])
def test_too_low_a_limit_is_refused(options: tuple[str, ...]) -> None:
    """With a sentence that says what to set."""
    with hosting(CONFIG, ["echo"], up=False) as host:
        for limit in (64, 100):
            refused = host.run(
                *("up", "-c", str(host.config), *options),
                before=("prlimit", f"--nofile={limit}"),
                timeout=SOON,
            )
            assert refused.code == 1
            assert f"may open {limit} files" in refused.err
            assert "ulimit -Hn" in refused.err
