"""Errors of a command line: their codes, their exit codes and their sentences."""

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from garrison.ipc.errors import (
    CallError,
    GarrisonError,
    NotAdmitted,
    OrderFailed,
    RemoteError,
    SocketMissing,
    SupervisorGone,
)

DONE, FAILED, USAGE, NOT_RUNNING, NO_SUCH_SERVICE = 0, 1, 2, 3, 4
CONFIG_UNUSABLE, NO_SUPERVISOR, TIMED_OUT, INTERRUPTED = 5, 7, 75, 130

EXIT_CODES = {  # error code → exit code; every other error exits with FAILED
    "usage": USAGE,
    "not_running": NOT_RUNNING,
    "no_such_service": NO_SUCH_SERVICE,
    "no_such_death": NO_SUCH_SERVICE,
    "no_such_message": NO_SUCH_SERVICE,
    "no_such_task": NO_SUCH_SERVICE,
    "ConfigError": CONFIG_UNUSABLE,
    "no_supervisor": NO_SUPERVISOR,
    "socket_missing": NO_SUPERVISOR,
    "timed_out": TIMED_OUT,
    "CallTimeout": TIMED_OUT,
    "interrupted": INTERRUPTED,
}


def exit_code(code: str) -> int:
    """Return the exit code of an error code."""
    return EXIT_CODES.get(code, FAILED)


def error_code(error: BaseException) -> str:
    """Return an error's code: a class of the error tree, or a word of EXIT_CODES, or "failed"."""
    if isinstance(error, OrderFailed):
        return error.code
    if isinstance(error, SocketMissing | NotAdmitted):
        return error.code
    if isinstance(error, SupervisorGone):
        return "no_supervisor"
    if isinstance(error, click.UsageError):
        return "usage"
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return "interrupted"
    if isinstance(error, RemoteError):  # also those of declared classes, as before there were any
        return "RemoteError"
    listed = type(error).__module__ == GarrisonError.__module__ and isinstance(error, GarrisonError)
    return type(error).__name__ if listed else getattr(error, "code", "failed")


def error_data(error: BaseException) -> object:
    """Return what `--json` shows beside an error's code and sentence."""
    if isinstance(error, OrderFailed):
        return error.data
    if not isinstance(error, CallError):
        return None
    fields: dict[str, Any] = {
        "service": error.service,
        "method": error.method,
        "detail": error.detail,
    }
    if isinstance(error, RemoteError):
        fields |= {"type_name": error.type_name, "traceback": error.traceback}
        if error.data:
            fields |= {"data": error.data}
    return fields


def sentence(error: BaseException) -> str:
    """Return what an error says to people."""
    if isinstance(error, click.UsageError):
        return error.format_message() + _help_hint(error.ctx)
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return "interrupted"
    if isinstance(error, GarrisonError | OSError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _help_hint(ctx: click.Context | None) -> str:
    if ctx is None:
        return ""
    if ctx.parent is None:
        return " (garrison --help lists the verbs)"
    return f" (see: {ctx.command_path} --help)"


def no_such_service(name: str, known: list[str]) -> OrderFailed:
    """Return the error for a NAME that no service has."""
    if hint := unquoted_pattern([name]):
        return OrderFailed("no_such_service", hint)
    if any(one.startswith(f"{name}.") for one in known):
        return OrderFailed(
            "no_such_service", f"no service {name}; the services of that agent are '{name}.*'"
        )
    from difflib import get_close_matches  # seldom needed, and large

    close = get_close_matches(name, known, n=1)
    name = name or "''"
    hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known) or 'none'}"
    return OrderFailed("no_such_service", f"no service {name}; {hint}")


def unquoted_pattern(names: Iterable[str]) -> str:
    """Return the sentence for NAMEs of files in this directory: the shell expanded a pattern."""
    for name in names:
        with contextlib.suppress(OSError):  # a NAME can be too long for a file's
            if name and Path(name).exists():
                return (
                    f"no service {name}; {name} is a file in this directory, so the shell has "
                    f"probably expanded a pattern: quote the pattern, for example '*'"
                )
    return ""
