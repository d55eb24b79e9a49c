"""What `garrison init` writes: a config and a first service that run."""

from pathlib import Path

from garrison.ipc.errors import GarrisonError

CONFIG = """\
# What garrison runs here. Start it with `garrison up`, look at a change with
# `garrison check`. Every key, with its default: the config.toml of garrison.

[plugins]
chat = {}                     # bundled: talk to it with `garrison chat`
agent = {}                    # bundled: has messages answered, and remembers them
eliza = {}                    # bundled: a model that needs no key
hello = {}                    # hello.py beside this file

[services.hello]
# secrets = ["HELLO_TOKEN"]   # from the supervisor's environment, to hello alone

[services.hello.config]
greeting = "Hello"
"""

SERVICE = '''\
"""A first service: greets, and counts the seconds that it has lived."""

import asyncio
from collections.abc import AsyncIterator
from typing import Self

import msgspec

from garrison.workers import Plugin, Runtime, Service


class HelloService(Service):
    """Greets whoever calls."""

    service_type = "hello"
    capability_description = "Greets"

    class Config(msgspec.Struct):
        """What [services.hello.config] may say."""

        greeting: str = "Hello"

    config: Config

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        service.seconds = 0
        service.every(1.0, service.tick)  # ends with the service; an exception is a crash
        return service

    def _line(self, name: str) -> str:
        return f"{self.config.greeting}, {name}!"

    async def tick(self) -> None:
        """Count a second."""
        self.seconds += 1

    async def greet(self, name: str = "world") -> str:
        """Return a greeting: garrison call hello greet '["Ada"]'"""
        return self._line(name)

    async def age(self) -> int:
        """Return how many seconds this incarnation has lived."""
        return self.seconds

    async def count(self, until: int = 3) -> AsyncIterator[int]:
        """Stream numbers: garrison call hello count '{"until": 5}'"""
        for number in range(1, until + 1):
            yield number
            await asyncio.sleep(0.2)

    async def stop(self) -> None:
        """Close here what start opened."""


plugin = Plugin(name="hello", services=[HelloService])
'''


def write_template(directory: Path) -> list[Path]:
    """Write the files into a directory; return their paths.

    Raises:
        GarrisonError: One of them is there already, or cannot be written.
    """
    files = {directory / "config.toml": CONFIG, directory / "hello.py": SERVICE}
    for path in files:
        if path.exists():
            raise GarrisonError(f"{path} is there already; init writes over nothing")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            path.write_text(text)
    except OSError as error:
        raise GarrisonError(f"{directory} cannot be written: {error.strerror}") from error
    return list(files)
