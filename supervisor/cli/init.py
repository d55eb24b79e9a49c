"""The verb that writes a first project: a config and a service, or chosen plugins, or a package."""

import os
import shlex
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

import click

from garrison.ipc.errors import GarrisonError

from .errors import DONE
from .output import Invocation, options
from .plugin_package import name_problem, package_files
from .project import PRIVATE, NewFile, project_files

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


FIRST = {"config.toml": NewFile(CONFIG), "hello.py": NewFile(SERVICE)}


@click.command(
    epilog="Examples: garrison init mybot; garrison init --with discord,openai mybot; "
    "garrison init --plugin weather"
)
@click.argument(
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    required=False,
    metavar="[DIRECTORY]",
)
@click.option(
    "--with",
    "chosen",
    metavar="NAME,…",
    help="Write a config with these plugins, a file for the secrets of each, and what installs "
    "their libraries.",
)
@click.option(
    "--plugin",
    metavar="NAME",
    help="Write a package with a plugin of this name. Default directory: NAME.",
)
@options
def init(
    invocation: Invocation, directory: Path | None, chosen: str | None, plugin: str | None
) -> int:
    """Write a first project into a directory. Existing files are kept.

    Without an option, it is a config and a first service that run.
    """
    if chosen is not None and plugin is not None:
        raise click.UsageError("--with and --plugin write different things: use one of them")
    if directory is None and plugin is None:
        raise click.UsageError("name the directory to write: garrison init mybot")
    place = directory or Path(plugin or "")
    pip = f"{shlex.quote(sys.executable)} -m pip install"
    if chosen is not None:
        files, then = _project(place, chosen), f"{pip} -r requirements.txt && garrison check"
    elif plugin is not None:
        files, then = _package(plugin), f"{pip} -e . && garrison up"
    else:
        files, then = FIRST, "garrison up"
    paths = write_files(place, files)
    invocation.answer({"files": [str(path) for path in paths]})
    for path in paths:
        invocation.say(f"wrote {path}")
    for name, file in files.items():
        if file.mode == PRIVATE:
            invocation.say(f"fill in {place / name}")
    first = "" if place == Path() else f"cd {shlex.quote(str(place))} && "
    invocation.say(f"now: {first}{then}")
    invocation.say("every config key: garrison config; the manual: garrison docs")
    return DONE


def _project(directory: Path, chosen: str) -> dict[str, NewFile]:
    """Return the files of a project with plugins."""
    from garrison.supervisor.cli.catalogue import installed_plugins, plugin_names

    names = [name.strip() for name in chosen.split(",") if name.strip()]
    known = plugin_names()
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else "garrison plugins lists them"
            raise click.UsageError(f"--with: there is no plugin {name}; {hint}")
    if not names:
        raise click.UsageError("--with names no plugin: write --with discord,openai")
    found = {one.name: one for one in installed_plugins(os.environ, names)}
    for one in found.values():
        if one.problem:
            raise GarrisonError(f"plugin {one.name} cannot be read: {one.problem}")
    ordered = [found[name] for name in dict.fromkeys(names)]
    return project_files(directory.resolve().name, ordered)


def _package(name: str) -> dict[str, NewFile]:
    """Return the files of a package with a plugin."""
    from garrison.supervisor.cli.catalogue import plugin_names

    problem = name_problem(name)
    if not problem and name in plugin_names():
        problem = "a plugin of this name is installed"
    if problem:
        raise click.UsageError(f"--plugin: {name!r} cannot be a plugin's name: {problem}")
    return package_files(name)


def write_files(directory: Path, files: Mapping[str, NewFile]) -> list[Path]:
    """Write files into a directory; return their paths.

    Raises:
        GarrisonError: One of them exists, or cannot be written.
    """
    paths = {directory / name: file for name, file in files.items()}
    for path in paths:
        if os.path.lexists(path):
            raise GarrisonError(f"{path} is there already; nothing is overwritten")
    try:
        for path, file in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, file.mode)
            with os.fdopen(made, "w", encoding="utf-8") as opened:
                opened.write(file.text)
    except OSError as error:
        raise GarrisonError(f"{directory} cannot be written: {error.strerror}") from error
    return list(paths)


def write_template(directory: Path) -> list[Path]:
    """Write the first project; return the paths of its files."""
    return write_files(directory, FIRST)
