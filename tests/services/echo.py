"""A service that returns its arguments, in every way that a method can be called."""

import asyncio
import os
import socket
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from garrison.workers import Plugin, Runtime, Service, with_timeout


class Point(msgspec.Struct, frozen=True):
    """Something that a method's annotation converts."""

    x: int
    y: int = 0


class EchoService(Service):
    """Echoes."""

    service_type = "echo"
    capability_description = "Returns its arguments"

    def __init__(self, runtime: Runtime | None = None) -> None:
        super().__init__(runtime)
        self.begun: list[str] = []
        self.cancelled: list[str] = []
        self.given: dict[str, int] = {}
        self.gate = threading.Event()

    async def echo(self, value: Any = None) -> Any:
        """Return the value."""
        return value

    async def pid(self) -> int:
        """Return the worker's pid."""
        return os.getpid()

    async def add(self, first: int, second: int = 2) -> int:
        """Return a sum."""
        return first + second

    async def moved(self, point: Point, *, by: int = 1) -> Point:
        """Return a point further on."""
        return Point(point.x + by, point.y)

    async def total(self, *numbers: int, **named: int) -> int:
        """Return the sum of everything."""
        return sum(numbers) + sum(named.values())

    def thread(self) -> tuple[int, str]:
        """Return the process and the thread that a plain method runs in."""
        return os.getpid(), threading.current_thread().name

    def hold(self) -> bool:
        """Hold a thread until `release`."""
        return self.gate.wait(60)

    async def release(self) -> None:
        """Let those go that are held, and the later ones too."""
        self.gate.set()

    async def fail(self, text: str) -> None:
        """Raise."""
        raise ValueError(text)

    async def lookup(self, key: str) -> str:
        """Raise an error without a text of its own."""
        nothing: dict[str, str] = {}
        return nothing[key]

    async def hang(self, key: str) -> None:
        """Never return; note a cancellation."""
        self.begun.append(key)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.append(key)
            raise

    async def hung(self) -> list[str]:
        """Return what has begun to hang."""
        return self.begun

    async def cancellations(self) -> list[str]:
        """Return what was cancelled."""
        return self.cancelled

    async def count(self, until: int) -> AsyncIterator[int]:
        """Stream numbers, below a limit."""
        for number in range(until):
            yield number

    async def points(self, until: int) -> AsyncIterator[Point]:
        """Stream what is to be converted."""
        for number in range(until):
            yield Point(number)

    async def endless(self, key: str) -> AsyncIterator[int]:
        """Stream numbers without end; note how many, and the cancellation."""
        number = 0
        try:
            while True:
                self.given[key] = number
                yield number
                number += 1
        finally:
            self.cancelled.append(key)

    async def produced(self, key: str) -> int:
        """Return how far `endless` came."""
        return self.given.get(key, -1)

    async def fail_at(self, number: int) -> AsyncIterator[int]:
        """Stream numbers, and raise at one."""
        for one in range(number):
            yield one
        raise ValueError(f"at {number}")

    async def slowly(self, key: str) -> AsyncIterator[int]:
        """Stream one number, then hang."""
        yield 0
        await self.hang(key)

    async def blob(self, size: int) -> bytes:
        """Return so many bytes."""
        return bytes(size)

    async def blobs(self, value: bytes, until: int) -> AsyncIterator[bytes]:
        """Stream bytes, each with its number in front."""
        for number in range(until):
            yield number.to_bytes(4) + value

    async def size(self, value: bytes) -> int:
        """Return how many bytes came."""
        return len(value)

    async def ask(
        self, name: str, method: str, args: list[Any], timeout: float | None = None
    ) -> Any:
        """Call another service, or itself."""
        proxy = self.runtime.get_service(name)
        assert proxy is not None
        if timeout is not None:
            proxy = with_timeout(proxy, timeout)
        return await getattr(proxy, method)(*args)

    async def nested(self, name: str, key: str) -> str:
        """Hang in another service; return how that ended."""
        proxy = self.runtime.get_service(name)
        assert proxy is not None
        try:
            await proxy.hang(key)
        except Exception as error:
            self.cancelled.append(f"{key} {type(error).__name__}")
            raise
        return "it returned"

    async def shielded(self, name: str, key: str) -> None:
        """Hang in another service, which is not cancelled along."""
        proxy = self.runtime.get_service(name)
        assert proxy is not None
        await asyncio.shield(proxy.hang(key))

    def ask_in_thread(self, name: str, value: Any) -> Any:
        """Call another service from a thread."""
        proxy = self.runtime.get_service(name)
        assert proxy is not None
        return proxy.echo(value).result(20)

    async def socket(self, connection: socket.socket) -> None:
        """Take what cannot travel."""

    async def die(self, code: int) -> None:
        """End the process at once."""
        os._exit(code)

    async def setting(self, key: str) -> Any:
        """Return a setting."""
        return self.runtime.get_setting(key)

    async def environment(self) -> dict[str, str]:
        """Return the environment that the service sees."""
        return dict(os.environ)

    async def time_zone(self) -> str:
        """Return the name of the time zone that local times have."""
        return time.strftime("%Z")

    async def known(self) -> dict[str, list[str]]:
        """Return what `get_all_services` has, by its NAMEs."""
        everything = self.runtime.get_all_services()
        return {key: [repr(proxy) for proxy in proxies] for key, proxies in everything.items()}


plugin = Plugin(name="echo", services=[EchoService])
