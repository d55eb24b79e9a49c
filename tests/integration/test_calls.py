"""Calls through real sockets and workers: each ends once, with a result or one typed error."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, ClassVar, Protocol

import msgspec
import pytest

from garrison.ipc import (
    CallTimeout,
    Client,
    InvalidCall,
    Overloaded,
    RemoteError,
    ServiceLost,
    ServiceProxy,
    State,
    state,
    with_timeout,
)
from tests.conftest import PATIENCE, Host, hosting

CONFIG = """
[plugins.echo]
[services.echo]
[services.other]
plugin = "echo"
[services.narrow]
plugin = "echo"
window = 4
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Run three of the same service."""
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


def found(client: Client, name: str) -> ServiceProxy:
    """Return a service that is there."""
    proxy = client.get_service(name)
    assert proxy is not None
    return proxy


async def until(condition: Any, timeout: float = PATIENCE) -> Any:
    """Return what an asynchronous condition gives once that is true."""
    async with asyncio.timeout(timeout):
        while not (value := await condition()):
            await asyncio.sleep(0.02)
    return value


async def test_echo(echo: ServiceProxy) -> None:
    """x"""
    assert await echo.echo(1) == 1
