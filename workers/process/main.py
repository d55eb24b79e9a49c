"""The entry of a worker's process, which the launcher has forked: prepare it, then run its work.

The process receives its assignment through a descriptor: one service to run, or a plugin to read.
"""

import asyncio
import codecs
import contextlib
import faulthandler
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, NoReturn

import uvloop

from garrison.ipc import messages
from garrison.ipc.messages import Assignment, Reading
from garrison.ipc.system import heap, installed, log_stream, process_tree, stack_signals
from garrison.ipc.tracing import header_values
from garrison.workers import config_class
from garrison.workers.plugin import Plugin
from garrison.workers.service import Service

from . import code_files, logs, methods, redaction, terminal
from .exit import CRASHED, leave
from .loading import installed_plugins
from .preparation import drop_privileges
from .tracebacks import formatted
from .worker_run import WorkerRun

# All other signals get their defaults back: the launcher handles them, and a shell may have ignored
# some. Python ignores SIGPIPE and SIGXFSZ, so that a write fails with an error instead. The others
# here are `faulthandler`'s, which installs its handlers only once in a process.
NOT_RESET = {
    *(signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ),
    *(signal.SIGSEGV, signal.SIGFPE, signal.SIGABRT, signal.SIGBUS, signal.SIGILL),
    *(stack_signals.ALL_THREADS, stack_signals.ONE_THREAD),
}
BUNDLED = "garrison.workers.services."  # where the modules of bundled plugins are
EXITS_MOST = 100  # tasks that wait for one that calls `sys.exit`


def warm_up() -> None:
    """Do once, in the launcher, what every worker would otherwise repeat."""
    installed_plugins()
    installed.loaded_version()
    methods.describe(_Sample)
    methods.prepare()
    codecs.lookup("ascii")  # imports its module


def import_bundled(plugins: Iterable[str]) -> None:
    """Import bundled plugins in the launcher, before they are read and preloaded.

    A module called `loaded` that they preload reads their own data, and is imported as well; others
    import libraries, and wait. Why a plugin cannot be imported is reported by what reads it.

    Args:
        plugins: Their entry points; others are left alone.
    """
    values = {point.name: point.value for point in installed_plugins()}
    for name in plugins:
        module, _, attribute = values.get(name, "").partition(":")
        if not module.startswith(BUNDLED):
            continue
        with contextlib.suppress(Exception):
            plugin = getattr(importlib.import_module(module), attribute)
            for own in plugin.preload:
                if own.startswith(BUNDLED) and own.endswith(".loaded"):
                    importlib.import_module(own)


def warm_plugins() -> None:
    """Read the classes of the plugins that the launcher has imported."""
    for module in list(sys.modules.values()):
        plugin = getattr(module, "__dict__", {}).get("plugin")
        if not isinstance(plugin, Plugin):
            continue
        config_class.prepare(plugin.config_class)
        for cls in plugin.services:
            config_class.prepare(getattr(cls, "Config", None))
            with contextlib.suppress(Exception):  # a worker reports what is wrong with it
                methods.describe(cls)


class _Sample(Service):
    service_type = "sample"

    async def method(self, text: str, number: int = 0) -> dict[str, int]:
        """Exist, so that the machinery behind a typical method is loaded."""
        return {text: number}


def run(descriptor: int, log_path: str) -> NoReturn:
    """Do what the assignment in a descriptor says; never return.

    Args:
        descriptor: Holds the encoded assignment.
        log_path: The file that standard output and error are written to.
    """
    try:
        _write_to(log_path)
        with os.fdopen(descriptor, "rb") as file:
            assignment = messages.decode_assignment(file.read())
        code = _read(assignment) if isinstance(assignment, Reading) else _serve(assignment)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else (0 if end.code is None else CRASHED)
    except BaseException as error:  # noqa: BLE001 (nothing above this function would report it)
        sys.stderr.write(formatted(error))
        code = CRASHED
    leave(code)


def prepare() -> None:
    """Prepare the process that workers are forked from: what it does here, they need not do.

    Signals are blocked until a worker is ready.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    for number in signal.valid_signals() - NOT_RESET:
        signal.signal(number, signal.SIG_DFL)
    faulthandler.enable(all_threads=True)
    # Unhandled, these signals would kill.
    faulthandler.register(stack_signals.ALL_THREADS, all_threads=True)
    faulthandler.register(stack_signals.ONE_THREAD, all_threads=False)
    process_tree.forbid_cores()
    os.environ.clear()  # each worker is sent its own
    log_stream.install(log_stream.standard())
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # line by line, so that a crash loses no line
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    logs.prepare()
    terminal.prepare()


def get_ready() -> None:
    """Prepare a worker's process without an assignment, so that it can be forked in advance."""
    code_files.note_inherited()
    with contextlib.suppress(PermissionError):  # it is a session's leader already
        os.setsid()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    process_tree.become_subreaper()  # orphans of descendants stay with this worker


def _read(reading: Reading) -> int:
    from .probe import run_probe  # not needed by any other worker

    process_tree.set_name(f"reads:{reading.source.name}")
    _set_environment(reading.env, process_tree.incarnation_mark(reading.token))
    terminal.do_without(reading.source.name)
    return _loop(run_probe(reading))


def _serve(assignment: Assignment) -> int:
    process_tree.set_name(f"g:{assignment.name}")
    mark = assignment.mark or process_tree.incarnation_mark(assignment.token)
    _set_environment(assignment.environment.env, mark)
    granted = assignment.environment.secrets
    secrets = {name: os.fsdecode(value) for name, value in granted.items()}
    os.environ.update(secrets)
    if isinstance(assignment.terminal, int):
        terminal.attach(assignment.terminal)
    else:
        terminal.do_without(assignment.name)
    hidden = secrets | header_values(os.fsdecode(assignment.traces.headers))
    if (keys := assignment.paths.curve) is not None:
        hidden["key"] = keys.secret
    redaction.install(hidden)
    prepared = drop_privileges(assignment)
    logs.install(assignment.name, assignment.generation)
    run = WorkerRun(assignment, secrets, prepared)
    return _loop(run.main(), run.exited)


def _set_environment(variables: dict[str, bytes], mark: str) -> None:
    os.environ.clear()
    os.environ.update({name: os.fsdecode(value) for name, value in variables.items()})
    # Child processes inherit it: the descendants of this incarnation are found by it.
    os.environ[process_tree.MARK] = mark
    time.tzset()  # the launcher has the time zone of its own environment, or of what it preloaded


def _write_to(log_path: str) -> None:
    try:
        output, problem = log_stream.log_or_nothing(log_path)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(log_path), mode=0o700, exist_ok=True)  # noqa: PTH103, PTH120
        output, problem = log_stream.log_or_nothing(log_path)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    if problem:
        log_stream.install(log_stream.standard(), log_path, problem)
    log_stream.follow(log_path)


def _new_loop() -> asyncio.AbstractEventLoop:
    loop = uvloop.new_event_loop()
    heap.return_zeros(loop)  # its buffer for what streams receive: 250 KiB, seldom used as a whole
    return loop


def _loop(
    work: Coroutine[Any, Any, int],
    exited: Callable[[SystemExit | KeyboardInterrupt], Coroutine[Any, Any, int]] | None = None,
) -> NoReturn:
    loop, code = _new_loop(), CRASHED
    for _ in range(EXITS_MOST):  # raised by a task, these stop the loop
        try:
            code = loop.run_until_complete(work)
            break
        except (
            SystemExit,
            KeyboardInterrupt,
        ) as end:  # and again for each task that waits for that one
            if exited is None:
                raise
            work = exited(end)
    leave(code)  # without waiting for tasks and threads that others left behind
