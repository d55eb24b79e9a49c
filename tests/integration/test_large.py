"""Large values through real sockets and workers arrive whole, in order and once."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import msgspec
import pytest
from tests.support.host import Host, found, hosting
from tests.support.proc import resident
from tests.support.rogue import joined
from tests.support.waiting import eventually, until

from garrison.ipc import (
    CallTimeout,
    Client,
    InvalidCall,
    Overloaded,
    ServiceLost,
    ServiceProxy,
    messages,
    with_timeout,
)
from garrison.ipc import (
    frames as large,
)
from garrison.ipc.system import (
    trimmer,
)

CONFIG = """
[plugins.echo]
[services.echo]
[services.other]
plugin = "echo"
"""
HEARD = """
[plugins.signs]
[plugins.mailbox]
[services.listener]
plugin = "signs"
type = "listener"
[services.mailbox]
"""
MIB = 1 << 20

Hosting = Callable[..., Host]


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Run two of the same service."""
    with hosting(CONFIG, ["echo"]) as host:
        yield host


@pytest.fixture
async def client(running: Host) -> AsyncIterator[Client]:
    """Join the host."""
    async with running.connect() as client:
        yield client


@pytest.fixture
def echo(client: Client) -> ServiceProxy:
    """Return the service `echo`."""
    return found(client, "echo")


def random_bytes(size: int) -> bytes:
    """Return bytes without repetition."""
    return os.urandom(4096) * (size // 4096) + os.urandom(size % 4096)


@pytest.mark.parametrize("size", [MIB - 1, MIB, MIB + 1, 16 * MIB, 63 * MIB])
async def test_large_bytes_come_back(echo: ServiceProxy, size: int) -> None:
    """Unchanged, whatever their size, from a program and by keyword."""
    data = random_bytes(size)
    assert await echo.echo(data) == data
    assert await echo.size(value=data) == size


async def test_large_bytes_go_between_services(echo: ServiceProxy) -> None:
    """In a nested call, and beside other values."""
    data, more = random_bytes(2 * MIB), random_bytes(3 * MIB)
    assert await echo.ask("other", "echo", [data]) == data
    nested = {"a": [data, {"b": more}], "text": "ä" * MIB, "1": 1}
    assert await echo.ask("other", "echo", [nested]) == nested


async def test_many_large_arguments(echo: ServiceProxy) -> None:
    """More than a message may have frames."""
    values = [random_bytes(MIB // 2 + number) for number in range(70)]
    assert await echo.echo(values) == values


async def test_what_is_too_large_for_any_message_is_refused_at_once(echo: ServiceProxy) -> None:
    """The sum counts, whatever the number of frames; also for a result."""
    data = random_bytes(33 * MIB)
    with pytest.raises(InvalidCall, match="max_message"):
        await echo.ask(data, data, [])
    with pytest.raises(Exception, match="max_message"):
        await echo.blob(65 * MIB)


async def test_a_wrong_type_is_an_invalid_call(echo: ServiceProxy) -> None:
    """Large bytes for a number are refused as small ones are."""
    with pytest.raises(InvalidCall, match="expected int, got bytes"):
        await echo.add(random_bytes(MIB))
    with pytest.raises(InvalidCall, match="expected bytes, got str"):
        await echo.size("x" * 2 * MIB)


async def test_a_stream_of_large_items(echo: ServiceProxy) -> None:
    """Each whole, and in order."""
    data = random_bytes(MIB)
    numbers = []
    async for item in echo.blobs(data, 40):
        assert item[4:] == data
        numbers.append(int.from_bytes(item[:4]))
    assert numbers == list(range(40))


async def test_large_calls_side_by_side(client: Client) -> None:
    """Each gets its own bytes, with small calls between; one callee receives them in order."""

    async def one(number: int) -> None:
        data = random_bytes(MIB + number)
        service = found(client, ("echo", "other")[number % 2])
        assert await service.echo(data) == data
        assert await service.echo(number) == number

    await asyncio.gather(*(one(number) for number in range(60)))


async def test_what_was_used_is_given_back(echo: ServiceProxy) -> None:
    """A worker returns most of the memory of large messages afterwards."""
    pid = await echo.pid()
    data = random_bytes(24 * MIB)
    for _ in range(4):
        await echo.echo(data)
    used = resident(pid)
    await asyncio.to_thread(until, lambda: resident(pid) < used - 24 * MIB, trimmer.IDLE_S + 10)


async def outcomes(calls: list[Any]) -> tuple[int, int]:
    """Return how many calls returned their bytes, and how many were lost; each has ended."""
    ended = await asyncio.gather(*calls, return_exceptions=True)
    lost = [one for one in ended if isinstance(one, ServiceLost)]
    assert all(isinstance(one, ServiceLost) or one is True for one in ended), ended
    return len(ended) - len(lost), len(lost)


async def test_a_callee_killed_in_mid_transfer(running: Host, client: Client) -> None:
    """Each call ends once: with its own bytes, or lost. Later ones go to the next incarnation."""
    echo = found(client, "echo")

    async def one(number: int) -> bool:
        data = random_bytes(2 * MIB + number)
        returned: bytes = await echo.echo(data)
        return returned == data

    for _ in range(3):
        pid = await echo.pid()
        calls = [asyncio.ensure_future(one(number)) for number in range(30)]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        os.kill(pid, signal.SIGKILL)
        await outcomes(calls)
        await asyncio.to_thread(running.until_reborn, "echo", pid)
        running.ask("reset", "echo")
        assert await one(1)


async def test_a_supervisor_killed_in_mid_transfer() -> None:
    """Each call ends once, and large values pass the next router."""
    with hosting(CONFIG, ["echo"]) as host:
        async with host.connect() as client:
            echo = found(client, "echo")

            async def one(number: int) -> bool:
                data = random_bytes(2 * MIB + number)
                returned: bytes = await echo.echo(data)
                return returned == data

            calls = [asyncio.ensure_future(one(number)) for number in range(30)]
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.to_thread(host.end, signal.SIGKILL)
            await asyncio.to_thread(host.up)
            await outcomes(calls)
            assert await one(1)


async def test_a_stopped_callee_fills_no_memory(running: Host, client: Client) -> None:
    """Calls in flight stay within the window, and each ends by its deadline."""
    echo = found(client, "other")
    pid = await echo.pid()
    data = random_bytes(4 * MIB)
    before = resident(running.pid)
    os.kill(pid, signal.SIGSTOP)
    try:
        calls = [asyncio.ensure_future(with_timeout(echo, 1.5).size(data)) for _ in range(60)]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        grown = resident(running.pid) - before
        ended = await asyncio.gather(*calls, return_exceptions=True)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert {type(one) for one in ended} <= {CallTimeout, Overloaded}
    assert grown < 64 * MIB  # of 240
    assert await echo.echo(data) == data


async def test_what_was_never_run_is_sent_again_with_its_frames(
    running: Host, client: Client
) -> None:
    """At an ordered restart, drained calls and later ones go to the next incarnation."""
    echo = found(client, "other")

    async def one(number: int) -> bool:
        data = random_bytes(2 * MIB + number)
        returned: bytes = await echo.echo(data)
        return returned == data

    restart = asyncio.create_task(asyncio.to_thread(running.ask, "restart", "other"))
    lost = 0
    while not restart.done():
        calls = [asyncio.ensure_future(one(number)) for number in range(4)]
        lost += (await outcomes(calls))[1]
    await restart
    assert lost <= 4  # its last answers may come after its end is announced


async def test_an_idempotent_call_is_sent_again_with_its_frames(
    running: Host, client: Client
) -> None:
    """After the end of its callee during the transfer."""
    echo = found(client, "other")
    data = random_bytes(8 * MIB)
    pid = await echo.pid()
    future: asyncio.Future[Any] = client.loop.create_future()
    os.kill(pid, signal.SIGSTOP)
    client.call("other", "echo", (data,), {}, 20.0, lambda raw: raw, future, idempotent=True)
    await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)
    returned = large.decoded(msgspec.msgpack.Decoder().decode, await future)
    assert returned == data
    await asyncio.to_thread(running.until_reborn, "other", pid)
    running.ask("reset", "other")


async def test_a_caller_that_gives_up_in_mid_transfer(client: Client) -> None:
    """Its window is free again, and its answers are dropped."""
    echo = found(client, "echo")
    data = random_bytes(8 * MIB)
    for turns in range(8):
        call = asyncio.ensure_future(echo.echo(data))
        for _ in range(turns):
            await asyncio.sleep(0.002)
        call.cancel()
    small = await asyncio.gather(*(echo.echo(number) for number in range(50)))
    assert small == list(range(50))
    assert await echo.echo(data) == data
    assert client.refused == 0


async def test_a_caller_of_an_older_release_has_large_results_whole(running: Host) -> None:
    """It cannot read frames."""
    with joined(running) as rogue:
        async with running.connect() as client:
            entry = client.directory.get("echo")
        assert entry is not None
        call = [0, 1, "blob", [2 * MIB], {}, 20.0, 0]
        rogue.bus.send_multipart([entry.token, messages.encode([call])])
        frames = rogue.bus.recv_multipart()
        assert len(frames) == 2
        (reply,) = messages.decode_data(frames[1])
        assert isinstance(reply, messages.Reply)
        assert len(msgspec.msgpack.decode(large.joined(reply.result))) == 2 * MIB


async def test_forged_frames_do_no_harm(running: Host, client: Client) -> None:
    """From a program, to a worker and to a program: they are refused and counted."""
    echo = found(client, "echo")
    token = await echo.pid() and client.directory.get("echo").token  # type: ignore[union-attr]
    place = msgspec.Raw(messages.encode(msgspec.msgpack.Ext(large.PLACE, messages.encode(0))))
    reply = messages.Reply(1, place)
    refused = (running.head() or {})["refused_frames"]
    limit = 32 * MIB
    with joined(running) as rogue:
        for to in (token, client.token):
            for frames in (
                [messages.encode([reply, messages.Frames(0)])],
                [messages.encode([reply, messages.Frames(2**62)]), b"x"],
                [messages.encode([reply]), b"x"],
                [b"x"] * 61,
                [messages.encode([reply, messages.Frames(61)]), *[b"x"] * 61],
                [messages.encode([messages.Frames(1)]), b"x"],
                [b"x"] * 64,  # one with more frames than may be is not carried
                [messages.encode([reply, messages.Frames(3)]), *[bytes(limit)] * 3],  # nor so large
            ):
                rogue.bus.send_multipart([to, *frames])
        await asyncio.to_thread(
            until,
            lambda: (running.head() or {"refused_frames": 0})["refused_frames"] >= refused + 4,
        )
        await asyncio.to_thread(until, lambda: client.refused >= 6)
    data = random_bytes(2 * MIB)
    assert await echo.echo(data) == data


def test_large_values_from_the_command_line(running: Host) -> None:
    """Arguments up to the kernel's limit; results whole."""
    done = running.run("call", "echo", "blob", f"[{2 * MIB}]")
    assert len(done.out) > 2 * MIB


async def test_large_events_and_posted_ones() -> None:
    """An event is a call; a posted message comes back from disk unchanged."""
    payload = {"data": random_bytes(3 * MIB)}
    with hosting(HEARD, ["signs"]) as host:
        async with host.connect() as client:
            signs = found(client, "listener")
            for durable in (False, True):
                await client.emit_event("news", payload, durable=durable)

            async def heard() -> bool:
                return bool((await signs.got_so_far()).count(payload) == 2)

            await eventually(heard)
