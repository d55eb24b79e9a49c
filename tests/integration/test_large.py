"""Large values through real sockets and workers: whole, in order, once, whoever dies."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from tests.conftest import Host, found, hosting, resident, until

from garrison.ipc import Client, InvalidCall, ServiceLost, ServiceProxy, quiet

CONFIG = """
[plugins.echo]
[services.echo]
[services.other]
plugin = "echo"
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
    """Return bytes of which no part is like another."""
    return os.urandom(4096) * (size // 4096) + os.urandom(size % 4096)


@pytest.mark.parametrize("size", [MIB - 1, MIB, MIB + 1, 16 * MIB, 63 * MIB])
async def test_large_bytes_come_back(echo: ServiceProxy, size: int) -> None:
    """As they went, whatever their size, from a program and by name."""
    data = random_bytes(size)
    assert await echo.echo(data) == data
    assert await echo.size(value=data) == size


async def test_large_bytes_go_between_services(echo: ServiceProxy) -> None:
    """Nested in a call of a call, and beside others."""
    data, more = random_bytes(2 * MIB), random_bytes(3 * MIB)
    assert await echo.ask("other", "echo", [data]) == data
    nested = {"a": [data, {"b": more}], "text": "ä" * MIB, "1": 1}
    assert await echo.ask("other", "echo", [nested]) == nested


async def test_many_large_arguments(echo: ServiceProxy) -> None:
    """More than there may be frames of a message."""
    values = [random_bytes(MIB // 2 + number) for number in range(70)]
    assert await echo.echo(values) == values


async def test_what_is_too_large_for_any_message_is_refused_at_once(echo: ServiceProxy) -> None:
    """All of it counts, however many frames it would be; the result of a method likewise."""
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
    """None has another's bytes, small ones between them; to one service they arrive in order."""

    async def one(number: int) -> None:
        data = random_bytes(MIB + number)
        service = found(client, ("echo", "other")[number % 2])
        assert await service.echo(data) == data
        assert await service.echo(number) == number

    await asyncio.gather(*(one(number) for number in range(60)))


async def test_what_was_used_is_given_back(echo: ServiceProxy) -> None:
    """A worker that has no large messages any more returns most of what they took."""
    pid = await echo.pid()
    data = random_bytes(24 * MIB)
    for _ in range(4):
        await echo.echo(data)
    used = resident(pid)
    await asyncio.to_thread(until, lambda: resident(pid) < used - 24 * MIB, quiet.QUIET_S + 10)


async def outcomes(calls: list[Any]) -> tuple[int, int]:
    """Return how many calls had their bytes back, and how many were lost; each ended."""
    ended = await asyncio.gather(*calls, return_exceptions=True)
    lost = [one for one in ended if isinstance(one, ServiceLost)]
    assert all(isinstance(one, ServiceLost) or one is True for one in ended), ended
    return len(ended) - len(lost), len(lost)


async def test_a_callee_killed_in_mid_transfer(running: Host, client: Client) -> None:
    """Each call ends once: with its own bytes, or lost; the next incarnation has those after."""
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
    """Each call ends once, and large ones flow through the next router."""
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
