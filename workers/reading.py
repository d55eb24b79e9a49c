"""What a plugin has and whether its config fits, found out in a throwaway process."""

import contextlib
import os
import sys
from collections.abc import Iterator

import zmq

from garrison.ipc import messages
from garrison.ipc.client import Client
from garrison.ipc.errors import ConfigError
from garrison.ipc.messages import Broken, ConfigProblem, PluginRead, Reading, sendable

from .loading import load
from .methods import describe
from .parts import static_manifest
from .plugin import Plugin
from .service import Service
from .settings import Misfit, fit
from .tracebacks import formatted, one_line, where


def inspect_plugin(reading: Reading) -> PluginRead:
    """Import a plugin and say what it has.

    Raises:
        ConfigError: There is no such plugin.
        Exception: Whatever its code raises.
    """
    plugin = load(reading.source)
    classes = plugin.hosted(reading.source.name)
    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, Service)):
            raise TypeError(f"services of plugin {plugin.name}: {cls!r} is no Service class")
        if not isinstance(cls.service_type, str) or not cls.service_type:
            raise TypeError(f"{cls.__name__} has no service_type; give it one: service_type = …")
    manifests = tuple(
        static_manifest(describe(cls)[0], plugin, cls, reading.source.name) for cls in classes
    )
    return PluginRead(
        manifests,
        tuple(plugin.preload),
        tuple(plugin.dependencies),
        tuple(_problems(plugin, reading)),
    )


def _problems(plugin: Plugin, reading: Reading) -> list[ConfigProblem]:
    found: list[ConfigProblem] = []
    classes = plugin.hosted(reading.source.name)
    with _noting(found):
        keys = ("plugins", reading.source.name, "config")
        fit(plugin.config_class, reading.plugin_config, keys)
    for section in reading.sections:
        wanted = section.service_type or section.called or section.name
        alone = len(classes) == 1 and not section.service_type and section.bound
        for cls in classes:
            if cls.service_type == wanted or alone:
                with _noting(found):
                    keys = ("services", section.name, "config")
                    fit(getattr(cls, "Config", None), section.config, keys)
    return found


@contextlib.contextmanager
def _noting(found: list[ConfigProblem]) -> Iterator[None]:
    try:
        yield
    except Misfit as error:
        found.append(error.problem)


def found_out(reading: Reading) -> PluginRead | Broken:
    """Return what a plugin has, or why it cannot be read."""
    try:
        return inspect_plugin(reading)
    except (Exception, SystemExit) as error:  # noqa: BLE001 (whatever a plugin's code raises)
        text = (
            sendable(str(error))
            if isinstance(error, ConfigError)
            else (one_line(error) + where(error))
        )
        return Broken("read", text[:2000], formatted(error))


async def read_plugin(reading: Reading) -> int:
    """Tell the supervisor what a plugin has; return the exit code."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    client = Client(reading.token)
    client.open(context, reading.control, "")
    await client.last_words(found_out(reading))
    return os.EX_OK


def main() -> None:
    """Read the assignment from standard input, and write what was found to standard output."""
    reading = messages.decode_assignment(sys.stdin.buffer.read())
    assert isinstance(reading, Reading)
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)  # what the plugin prints is not part of the answer
        out.write(messages.encode(found_out(reading)))
    os._exit(os.EX_OK)


if __name__ == "__main__":
    main()
