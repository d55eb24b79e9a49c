"""What a plugin has and whether its config fits, found out in a throwaway process."""

import contextlib
import inspect
import os
import sys
from collections.abc import Iterator

import zmq

from garrison.ipc import messages
from garrison.ipc.errors import ConfigError
from garrison.ipc.messages import ConfigProblem, Failing, PluginRead, Reading, encodable
from garrison.ipc.session import Session
from garrison.workers.agents.registry import static_manifest
from garrison.workers.agents.validation import check_takes
from garrison.workers.config_class import ConfigMismatch, convert_config
from garrison.workers.plugin import Plugin
from garrison.workers.service import Service

from .loading import load
from .methods import describe
from .redaction import redacted
from .tracebacks import author_location, formatted, one_line


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
        if not inspect.ismethod(cls.start):
            raise TypeError(f"{cls.__name__}.start is no class method; write @classmethod above it")
    for event, handlers in plugin.events.items():
        for handler in handlers:
            check_takes(handler, f"a handler of event {event}", "payload")
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
        convert_config(plugin.config_class, reading.plugin_config, keys)
    for section in reading.sections:
        wanted = section.service_type or section.called or section.name
        alone = len(classes) == 1 and not section.service_type and section.bound
        for cls in classes:
            if cls.service_type == wanted or alone:
                with _noting(found):
                    keys = ("services", section.name, "config")
                    convert_config(getattr(cls, "Config", None), section.config, keys)
    return found


@contextlib.contextmanager
def _noting(found: list[ConfigProblem]) -> Iterator[None]:
    try:
        yield
    except ConfigMismatch as error:
        found.append(error.problem)


def probe(reading: Reading) -> PluginRead | Failing:
    """Return what a plugin has, or why it cannot be read."""
    try:
        return inspect_plugin(reading)
    except (Exception, SystemExit) as error:  # noqa: BLE001 (whatever a plugin's code raises)
        if _is_told(error):
            return Failing("read", encodable(redacted(str(error)))[:2000])
        return Failing("read", (one_line(error) + author_location(error))[:2000], formatted(error))


def _is_told(error: BaseException) -> bool:
    """Tell whether an error is a sentence of ours, which no line of ours explains further."""
    if isinstance(error, SyntaxError | UnicodeError) or author_location(error):
        return False
    return isinstance(error, ConfigError | TypeError | ValueError)


async def run_probe(reading: Reading) -> int:
    """Tell the supervisor what a plugin has; return the exit code."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    session = Session(reading.token)
    session.open(context, reading.control, "")
    await session.send_last(probe(reading))
    return os.EX_OK


def main() -> None:
    """Read the assignment from standard input, and write what was found to standard output."""
    reading = messages.decode_assignment(sys.stdin.buffer.read())
    assert isinstance(reading, Reading)
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)  # what the plugin prints is not part of the answer
        out.write(messages.encode(probe(reading)))
    os._exit(os.EX_OK)


if __name__ == "__main__":
    main()
