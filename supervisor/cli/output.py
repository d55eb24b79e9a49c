"""What every verb shares: `--home` and `--json` before or after it, answers, errors, exit codes."""

import os
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from garrison.ipc.errors import (
    CallError,
    GarrisonError,
    OrderFailed,
    RemoteError,
    SupervisorGone,
)
from garrison.supervisor.config.load import find_home

F = TypeVar("F", bound=Callable[..., Any])

DONE, FAILED, USAGE, NOT_RUNNING, NO_SUCH_SERVICE = 0, 1, 2, 3, 4
CONFIG_UNUSABLE, NO_SUPERVISOR, TIMED_OUT, INTERRUPTED = 5, 7, 75, 130

EXIT_CODES = {
    "usage": USAGE,
    "no_such_service": NO_SUCH_SERVICE,
    "no_such_death": NO_SUCH_SERVICE,
    "no_such_message": NO_SUCH_SERVICE,
    "ConfigError": CONFIG_UNUSABLE,
    "no_supervisor": NO_SUPERVISOR,
    "timed_out": TIMED_OUT,
    "CallTimeout": TIMED_OUT,
    "interrupted": INTERRUPTED,
}


class Settings:
    """What was said of the command line as a whole."""

    def __init__(self) -> None:
        self.said_home: Path | None = None
        self.json = False
        self.config: Path | None = None
        self.remote_tracebacks = False  # whether what a method raised is shown whole

    @property
    def home(self) -> Path:
        """Return the home that the verb speaks to."""
        return find_home(self.said_home, self.config, os.environ)

    def garrison(self, rest: str) -> str:
        """Return a command to type next, with the `--home` that this one had."""
        where = f" --home {self.said_home}" if self.said_home is not None else ""
        return f"garrison{where} {rest}"


SETTINGS = Settings()  # one command line a process


def _said_home(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:
    if value is not None:
        SETTINGS.said_home = value


def _said_json(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        SETTINGS.json = True


def options(function: F) -> F:
    """Give a verb `--home` and `--json`."""
    function = click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        callback=_said_json,
        is_eager=True,
        help="Answer with JSON.",
    )(function)
    return click.option(
        "--home",
        type=click.Path(path_type=Path),
        expose_value=False,
        callback=_said_home,
        is_eager=True,
        help="Where the host writes; else $GARRISON_HOME, else as the config says.",
    )(function)


def encode(value: Any) -> bytes:
    """Return a value as JSON; bytes as base64."""
    return msgspec.json.encode(value)


def say(text: str = "", error: bool = False) -> None:
    """Print a line for people; not with `--json`."""
    if not SETTINGS.json or error:
        click.echo(text, err=error)


def envelope(data: Any) -> str:
    """Return an answer's data as it is printed with `--json`, on one line."""
    return encode({"v": 1, "ok": True, "data": data, "error": None}).decode()


def answer(data: Any) -> None:
    """Print an answer's data, with `--json`."""
    if SETTINGS.json:
        click.echo(envelope(data))


def code_of(error: BaseException) -> str:
    """Return the error's code: a class of the error tree, or a listed word."""
    if isinstance(error, OrderFailed):
        return error.code
    if isinstance(error, SupervisorGone):
        return "no_supervisor"
    if isinstance(error, click.UsageError):
        return "usage"
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return "interrupted"
    listed = type(error).__module__ == GarrisonError.__module__ and isinstance(error, GarrisonError)
    return type(error).__name__ if listed else getattr(error, "code", "failed")


def fail(error: BaseException) -> int:
    """Print an error, and return the exit code that goes with it."""
    code = code_of(error)
    message = _sentence(error)
    if SETTINGS.json:
        data = error.data if isinstance(error, OrderFailed) else _fields(error)
        told = {"code": code, "message": message}
        click.echo(encode({"v": 1, "ok": False, "data": data, "error": told}).decode())
    elif code != "interrupted":
        click.echo(f"{click.style('error:', fg='red')} {message}", err=True)
        if isinstance(error, RemoteError) and SETTINGS.remote_tracebacks:
            click.echo(error.traceback.rstrip(), err=True)
    return EXIT_CODES.get(code, FAILED)


def _fields(error: BaseException) -> dict[str, str] | None:
    """Return what a program wants to know of a call that failed."""
    if not isinstance(error, CallError):
        return None
    told = {"service": error.service, "method": error.method, "detail": error.detail}
    if isinstance(error, RemoteError):
        told |= {"type_name": error.type_name, "traceback": error.traceback}
    return told


def _sentence(error: BaseException) -> str:
    if isinstance(error, click.UsageError):
        hint = ""
        if error.ctx is not None:
            hint = f" (garrison {error.ctx.info_name} --help says more)"
            if error.ctx.parent is None:
                hint = " (garrison --help lists the verbs)"
        return f"{error.format_message()}{hint}"
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return "interrupted"
    if isinstance(error, GarrisonError | OSError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def no_such_service(name: str, known: list[str]) -> OrderFailed:
    """Return the error for a NAME that is none."""
    if any(one.startswith(f"{name}.") for one in known):
        return OrderFailed("no_such_service", f"no service {name}; that agent's are '{name}.*'")
    close = get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known) or 'none'}"
    return OrderFailed("no_such_service", f"no service {name}; {hint}")
