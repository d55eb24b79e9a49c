"""Inspects a plugin and checks its config, in a throwaway process without secrets."""

import contextlib
import os
import select
import signal
import sys
from collections.abc import Iterator
from typing import NoReturn

from garrison.ipc import messages
from garrison.ipc.errors import ConfigError
from garrison.ipc.messages import (
    ConfigProblem,
    Failing,
    PluginRead,
    PluginsRead,
    PluginToRead,
    Reading,
    ReadResult,
    encodable,
)
from garrison.ipc.session import Session
from garrison.ipc.system import process_tree
from garrison.workers.agents.validation import check_takes
from garrison.workers.config_class import ConfigMismatch, convert_config
from garrison.workers.platform.form import EXCLUSIVE_PROBLEM, check_form
from garrison.workers.platform.platform import Platform
from garrison.workers.plugin import Plugin
from garrison.workers.service import Service

from . import terminal
from .lifecycle import check_lifecycle
from .loading import load
from .methods import describe
from .registration import static_manifest
from .tracebacks import author_location, error_text, formatted, one_line

TREE_S = 2.0  # for what a plugin started to end


def inspect_plugin(reading: Reading | PluginToRead) -> PluginRead:
    """Import a plugin; return its manifests, and the problems of its config.

    Raises:
        ConfigError: There is no such plugin.
        TypeError: One of its classes or functions has the wrong form.
        Exception: The plugin's code raised it.
    """
    plugin = load(reading.source)
    classes = plugin.worker_services(reading.source.name)
    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, Service)):
            raise TypeError(
                f"services of plugin {plugin.name}: {cls!r} is not a subclass of Service"
            )
        if not isinstance(cls.service_type, str) or not cls.service_type:
            raise TypeError(f'{cls.__name__} has no service_type; add one: service_type = "…"')
        check_lifecycle(cls)
        if issubclass(cls, Platform):
            check_form(cls)
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


def _problems(plugin: Plugin, reading: Reading | PluginToRead) -> list[ConfigProblem]:
    found: list[ConfigProblem] = []
    classes = plugin.worker_services(reading.source.name)
    with _collecting(found):
        keys = ("plugins", reading.source.name, "config")
        convert_config(plugin.config_class, reading.plugin_config, keys)
    for section in reading.sections:
        wanted = section.service_type or section.called or section.name
        is_only_one = len(classes) == 1 and not section.service_type and section.bound
        for cls in classes:
            if cls.service_type == wanted or is_only_one:
                with _collecting(found):
                    keys = ("services", section.name, "config")
                    convert_config(getattr(cls, "Config", None), section.config, keys)
                if issubclass(cls, Platform) and not section.exclusive:
                    keys = ("services", section.name, "exclusive")
                    found.append(ConfigProblem(keys, EXCLUSIVE_PROBLEM))
    return found


@contextlib.contextmanager
def _collecting(found: list[ConfigProblem]) -> Iterator[None]:
    try:
        yield
    except ConfigMismatch as error:
        found.append(error.problem)


def probe(reading: Reading | PluginToRead) -> PluginRead | Failing:
    """Inspect a plugin; return the result, or the failure."""
    try:
        return inspect_plugin(reading)
    except BaseException as error:  # noqa: BLE001 (a plugin's code may raise anything)
        if _explains_itself(error):
            return Failing("read", encodable(error_text(error))[:2000])
        return Failing("read", (one_line(error) + author_location(error))[:2000], formatted(error))


def _explains_itself(error: BaseException) -> bool:
    """Return whether an error is a check's own sentence, which needs no traceback."""
    if isinstance(error, SyntaxError | UnicodeError) or author_location(error):
        return False
    return isinstance(error, ConfigError | TypeError | ValueError)


async def run_probe(reading: Reading) -> int:
    """Send the result to the supervisor; return the exit code."""
    session = Session(reading.token)
    session.open(reading.control, "")
    if reading.further:
        results = tuple(ReadResult.of(probe(one)) for one in reading.plugins)
        await session.send_last(PluginsRead(results))
    else:
        await session.send_last(probe(reading))
    return os.EX_OK


def main() -> None:
    """Read the request from standard input, and write the result to standard output.

    Argument: the reading end of a pipe, whose other end only the process that started this one has.
    """
    lifeline = int(sys.argv[1])
    process_tree.become_subreaper()
    reader = os.fork()
    if reader:
        _guard(reader, lifeline)
    os.close(lifeline)
    os.setsid()  # signals of the plugin to its own group spare the guard
    reading = messages.decode_assignment(sys.stdin.buffer.read())
    assert isinstance(reading, Reading)
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)  # the plugin's own output is not part of the result
        terminal.do_without(reading.source.name)
        out.write(messages.encode(probe(reading)))
    os._exit(os.EX_OK)


def _guard(reader: int, lifeline: int) -> NoReturn:
    """End, with everything that the plugin started, when the reader or the starter has ended.

    The starter may be killed, and the reader may be blocked: neither could do this itself.
    """
    poll = select.poll()
    ended = os.pidfd_open(reader)
    poll.register(ended, select.POLLIN)
    poll.register(lifeline, select.POLLIN)  # hangs up when the starter ends
    poll.poll()
    status = os.waitpid(reader, 0)[1] if process_tree.ended(ended, 0) else signal.SIGKILL
    process_tree.end_everything_below(TREE_S)
    if os.WIFSIGNALED(status):
        process_tree.forbid_cores()
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))  # for the starter, this process is the reader
    os._exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else os.EX_SOFTWARE)


if __name__ == "__main__":
    main()
