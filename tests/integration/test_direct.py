"""Direct routes: services that call each other without the supervisor in between."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from tests.support.host import Host, Hosting, found, hosting
from tests.support.waiting import eventually, until

from garrison.ipc import Client, ServiceProxy, messages
from garrison.ipc.direct_sockets import connect, new_address
from garrison.ipc.messages import EMPTY_MAP, encode
from garrison.supervisor.cli.counters import read_totals
from garrison.supervisor.direct_routing import FOR_TESTS

CONFIG = """
[plugins.pair]
[defaults]
intensity = 0
[services.one]
plugin = "pair"
[services.two]
plugin = "pair"
"""
WIDTH = 64
PAIR = ("one", "two")


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Run two services whose calls go directly from their first one on."""
    with hosting(CONFIG, ["pair"], env={FOR_TESTS: "all"}) as host:
        yield host


@pytest.fixture
async def client(running: Host) -> AsyncIterator[Client]:
    """Join the host."""
    async with running.connect() as client:
        yield client


@pytest.fixture
async def one(running: Host, client: Client) -> ServiceProxy:
    """Return `one`, whose calls to `two` go directly."""
    caller = found(client, "one")
    await caller.of_caller("two")
    await until_direct(running)
    return caller


def pairs(host: Host) -> set[tuple[str, str]]:
    """Return which pairs call directly."""
    return set(read_totals(host.home).direct)


async def until_direct(host: Host, direct: bool = True) -> None:
    """Wait until the calls of `one` to `two` go directly, or do not."""
    await asyncio.to_thread(until, lambda: (PAIR in pairs(host)) is direct)


async def more(caller: ServiceProxy, calls: int = 500) -> None:
    """Wait until so many more calls have ended."""
    before = len(await caller.made())

    async def ended() -> bool:
        return len(await caller.made()) >= before + calls

    await eventually(ended)


def routed(host: Host) -> int:
    """Return how many messages the supervisor has carried."""
    carried: int = host.ask("status")["supervisor"]["messages"]
    return carried


# --- the same calls -----------------------------------------------------------------------


async def test_calls_of_a_pair_do_without_the_supervisor(running: Host, one: ServiceProxy) -> None:
    """It is shown which pairs do so; the supervisor carries nothing of their calls."""
    before = routed(running)
    assert await one.counted("two", 1000) == 499_500
    assert routed(running) - before < 20  # this test's own calls
    assert running.status("one")["direct_to"] == ["two"]
    assert running.status("two")["direct_from"] == ["one"]
    shown = running.run("graph", json=True).data["edges"]
    assert [one["direct"] for one in shown if (one["from"], one["to"]) == PAIR] == [True]
    assert "direct" in running.run("graph").out


async def test_direct_calls_are_calls(running: Host, one: ServiceProxy) -> None:
    """Their caller is known by name; large values, errors and deadlines are the same."""
    before = routed(running)
    assert await one.of_caller("two") == "one"
    for size in (0, 1, 1 << 20, 5 << 20):
        assert await one.large("two", size)
    assert (await one.fails("two", "fail", 20.0)).startswith("RemoteError: two.fail raised Value")
    assert (await one.fails("two", "hang", 0.05)).startswith("TimeoutError")
    assert routed(running) - before < 40

    async def idle() -> bool:
        return bool(running.status("two")["in_flight"] == 0)

    await eventually(idle)  # what was cancelled has ended at its callee


async def test_a_stranger_is_not_served(running: Host, one: ServiceProxy) -> None:
    """A process of the same user that was not announced is disconnected, and runs nothing."""
    path = next(p for p in (running.home / "run").glob("d*.sock") if is_of(running, p, "two"))
    call = messages.Call(1, "note", msgspec.Raw(encode([-1])), EMPTY_MAP, 5.0)
    before = running.status("two")["refused_frames"]
    with connect(str(path), new_address()) as stranger:
        with contextlib.suppress(OSError):  # it was closed before that
            stranger.send(encode([call]))

        async def refused() -> bool:
            return bool(running.status("two")["refused_frames"] > before)

        await eventually(refused)
        with contextlib.suppress(ConnectionResetError):
            assert stranger.recv(1) == b""
    assert -1 not in await found_order(running)


async def found_order(host: Host) -> list[int]:
    """Return what `two` has noted."""
    noted: list[int] = await host.call("two", "order")
    return noted


def is_of(host: Host, path: Path, name: str) -> bool:
    """Return True if a socket's file is that of a service's incarnation."""
    flight = next((host.home / "run").glob(f"{name}.*.flight"))
    return flight.name.split(".")[-2][2:14] == path.name[1:13]


async def test_a_socket_that_is_removed_is_made_again(running: Host, one: ServiceProxy) -> None:
    """The next caller finds it. A caller that is connected notices nothing."""
    path = next(p for p in (running.home / "run").glob("d*.sock") if is_of(running, p, "two"))
    path.unlink()
    assert await one.counted("two", 10) == 45
    await asyncio.to_thread(until, path.exists)
    assert path.stat().st_mode & 0o777 == 0o600


# --- order --------------------------------------------------------------------------------


async def test_calls_keep_their_order_over_each_change(host: Hosting) -> None:
    """To the direct way, and back when the callee is paused; each is run once."""
    a = host(CONFIG, ["pair"], env={FOR_TESTS: "all"})
    async with a.connect() as client:
        one, two = found(client, "one"), found(client, "two")
        await one.begin("two", WIDTH)
        await until_direct(a)
        await more(one)
        assert a.run("pause", "two").code == 0
        await until_direct(a, False)
        assert a.run("resume", "two").code == 0
        await more(one)
        outcomes = await one.end()
        noted = await two.order()
    assert set(outcomes) == {"ok"}
    assert all(after == before + 1 for before, after in pairwise(noted))
    assert len(noted) >= len(outcomes)


# --- ends ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["note", "again"])
async def test_a_callee_that_is_killed_loses_what_it_had(
    running: Host, one: ServiceProxy, method: str
) -> None:
    """Each call ends once; idempotent ones are repeated. The next incarnation gets a route of its
    own, and the socket of the former one is gone."""
    await one.begin("two", WIDTH, method)
    for _ in range(3):
        await until_direct(running)
        await more(one)
        [socket] = [p for p in (running.home / "run").glob("d*.sock") if is_of(running, p, "two")]
        pid = await asyncio.to_thread(running.kill, "two")
        await asyncio.to_thread(running.until_reborn, "two", pid)
        await more(one)
        assert not socket.exists()
    outcomes = await one.end()
    assert set(outcomes) <= ({"ok"} if method == "again" else {"ok", "ServiceLost"})
    lost = outcomes.count("ServiceLost")
    assert lost <= 3 * WIDTH


async def test_a_caller_that_is_killed_leaves_nothing(running: Host, one: ServiceProxy) -> None:
    """Its calls are cancelled at their callee."""
    await one.begin("two", 4, "hang_on")

    async def serving() -> bool:
        return bool(running.status("two")["in_flight"] == 4)

    await eventually(serving)
    pid = await asyncio.to_thread(running.kill, "one")
    await asyncio.to_thread(running.until_reborn, "one", pid)

    async def none() -> bool:
        return bool(running.status("two")["in_flight"] == 0)

    await eventually(none)


async def test_direct_calls_go_on_without_a_supervisor(host: Hosting) -> None:
    """New ones too. Its successor learns the routes; nothing is lost or run twice."""
    a = host(CONFIG, ["pair"], env={FOR_TESTS: "all"})
    async with a.connect() as client:
        one = found(client, "one")
        await one.begin("two", WIDTH)
        await until_direct(a)
        await more(one)
    a.end(signal.SIGKILL)
    a.up()
    await until_direct(a)
    async with a.connect() as client:
        one, two = found(client, "one"), found(client, "two")
        await more(one)
        outcomes = await one.end()
        noted = await two.order()
        assert set(outcomes) == {"ok"}
        assert noted == list(range(len(noted)))
        pid = await asyncio.to_thread(a.kill, "two")  # its end is announced to its direct caller
        await asyncio.to_thread(a.until_reborn, "two", pid)
        assert await one.of_caller("two") == "one"


async def test_a_caller_that_is_killed_without_a_supervisor_leaves_nothing(host: Hosting) -> None:
    """Its callee sees the end of the connection, and cancels what it has called."""
    config = "[host]\norphan_grace = 60\n" + CONFIG
    a = host(config, ["pair"], env={FOR_TESTS: "all"})
    async with a.connect() as client:
        one = found(client, "one")
        await one.of_caller("two")
        await until_direct(a)
        await one.begin("two", 4, "hang_on")

        async def serving() -> bool:
            return bool(a.status("two")["in_flight"] == 4)

        await eventually(serving)
        pid = a.status("one")["pid"]
    a.end(signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    log = a.home / "logs" / "two.log"
    await asyncio.to_thread(until, lambda: log.read_text().count("given up") == 4)
    a.up()


# --- which pairs --------------------------------------------------------------------------


async def test_a_pair_that_calls_often_gets_a_route(host: Hosting) -> None:
    """And no other."""
    a = host("[host]\ndirect = true\n" + CONFIG, ["pair"], env={FOR_TESTS: ""})
    async with a.connect() as client:
        one = found(client, "one")
        assert await found(client, "two").of_caller("one") == "two"
        await one.begin("two", 2)
        await until_direct(a)
        assert pairs(a) == {PAIR}
        await one.end()


async def test_without_the_key_there_are_no_routes(host: Hosting) -> None:
    """`direct = false`."""
    a = host("[host]\ndirect = false\n" + CONFIG, ["pair"], env={FOR_TESTS: ""})
    async with a.connect() as client:
        one = found(client, "one")
        await one.begin("two", 8)
        await more(one, 2000)
        await one.end()
        assert await one.counted("two", 1000) == 499_500
    assert pairs(a) == set()
    assert list((a.home / "run").glob("d*.sock")) == []
