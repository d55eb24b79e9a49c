"""The verb that writes a first project: a config and a service that run."""

from pathlib import Path

import click

from garrison.ipc.errors import GarrisonError

from .errors import DONE
from .output import Invocation, options

CONFIG = """\
# What garrison runs here. `garrison up` starts it, `garrison check` checks a change.
# `garrison config` prints every key with its default; `garrison docs` lists the manual.

[plugins]
chat = {}                     # bundled: `garrison chat` talks to it
agent = {}                    # bundled: answers messages, and remembers them
eliza = {}                    # bundled: a model that needs no key
mailbox = {}                  # bundled: what must not be lost is on disk first
hello = {}                    # hello.py beside this file

[services.hello]
# secrets = ["HELLO_TOKEN"]   # passed from the supervisor's environment to hello alone

[services.hello.config]
greeting = "Hello"
"""

SERVICE = '''\
"""A first service: it greets, and counts the seconds since its start."""

import asyncio
from collections.abc import AsyncIterator
from typing import Self

import msgspec

from garrison.workers import Plugin, Runtime, Service


class HelloService(Service):
    """Greets its callers."""

    service_type = "hello"
    capability_description = "Greets"

    class Config(msgspec.Struct):
        """The keys of [services.hello.config]."""

        greeting: str = "Hello"

    config: Config
    seconds: int

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
        """Return a greeting: garrison call hello greet Ada"""
        return self._line(name)

    async def age(self) -> int:
        """Return the seconds since this incarnation started."""
        return self.seconds

    async def count(self, until: int = 3) -> AsyncIterator[int]:
        """Stream numbers: garrison call hello count until=5"""
        for number in range(1, until + 1):
            yield number
            await asyncio.sleep(0.2)

    async def stop(self) -> None:
        """Close here what start opened."""


plugin = Plugin(name="hello", services=[HelloService])
'''


@click.command(epilog="Example: garrison init mybot && cd mybot && garrison up")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), metavar="DIRECTORY")
@options
def init(invocation: Invocation, directory: Path) -> int:
    """Write a config and a first service into a directory. Existing files are kept."""
    files = write_template(directory)
    invocation.answer({"files": [str(path) for path in files]})
    for path in files:
        invocation.say(f"wrote {path}")
    invocation.say(f"now: cd {directory} && garrison up")
    invocation.say("every config key: garrison config; the manual: garrison docs")
    return DONE


def write_template(directory: Path) -> list[Path]:
    """Write the files into a directory; return their paths.

    Raises:
        GarrisonError: One of them exists, or cannot be written.
    """
    files = {directory / "config.toml": CONFIG, directory / "hello.py": SERVICE}
    for path in files:
        if path.exists():
            raise GarrisonError(f"{path} is there already; init overwrites nothing")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            path.write_text(text)
    except OSError as error:
        raise GarrisonError(f"{directory} cannot be written: {error.strerror}") from error
    return list(files)
