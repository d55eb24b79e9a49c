"""One command line: its `--home` and `--json`, and how results and errors are printed."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import click
import msgspec

from garrison.ipc.errors import ConfigError, RemoteError
from garrison.ipc.messages import encodable
from garrison.supervisor.config.load import find_home
from garrison.supervisor.state.identity import running_home

from .errors import error_code, error_data, exit_code, sentence
from .streams import Streams

P = ParamSpec("P")
R = TypeVar("R")


def require_utf8(path: Path, what: str) -> Path:
    """Return a path that is text. Raises ConfigError: one of its folders is not UTF-8."""
    text = str(path.absolute())
    if text != encodable(text):
        raise ConfigError(f"{what} {ascii(os.fsencode(text))[2:-1]} is not UTF-8: rename it")
    return path


class Invocation:
    """One command line: which home it addresses, and how it prints. Each verb receives it."""

    def __init__(self, json: bool = False) -> None:
        self.json = json
        self.home_option: Path | None = None
        self.config: Path | None = None  # of a verb that has `--config`
        self.shows_tracebacks = False  # of a method that raised in its service
        self.acts = False  # what it does counts, not its output
        self.streams: Streams | None = None

    @property
    def home(self) -> Path:
        """Return the home that this command line addresses."""
        home = require_utf8(find_home(self.home_option, self.config, os.environ), "the home")
        if self.home_option or os.environ.get("GARRISON_HOME"):
            return home
        return running_home(self.config or Path("config.toml"), home)

    def command(self, rest: str) -> str:
        """Return a command for the user to type next, with the same `--home`."""
        home = f" --home {self.home_option}" if self.home_option is not None else ""
        return f"garrison{home} {rest}"

    def say(self, text: str = "", error: bool = False) -> None:
        """Print a line for people. With `--json`, only errors are printed."""
        if not self.json or error:
            click.echo(text, err=error)

    def answer(self, data: Any) -> None:
        """Print a result's data, with `--json`."""
        if self.json:
            click.echo(envelope(data))

    def fail(self, error: BaseException) -> int:
        """Print an error, and return its exit code."""
        code = error_code(error)
        if self.json:
            shown = {"code": code, "message": encodable(sentence(error))}
            value = {"v": 1, "ok": False, "data": error_data(error), "error": shown}
            click.echo(encode(value).decode())
        elif code != "interrupted":
            click.echo(f"{click.style('error:', fg='red')} {sentence(error)}", err=True)
            if isinstance(error, RemoteError) and self.shows_tracebacks:
                click.echo(error.traceback.rstrip(), err=True)
        return exit_code(code)


def _set_home(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:
    if value is not None:
        ctx.ensure_object(Invocation).home_option = value


def _set_json(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Invocation).json = True


def options(function: Callable[Concatenate[Invocation, P], R]) -> Callable[P, R]:
    """Add `--home` and `--json` to a verb, and pass it the `Invocation`.

    Both options are accepted before and after the verb.
    """
    verb: Callable[P, R] = click.pass_obj(function)
    verb = click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        callback=_set_json,
        is_eager=True,
        help="Print JSON.",
    )(verb)
    return click.option(
        "--home",
        type=click.Path(path_type=Path),
        metavar="DIRECTORY",
        expose_value=False,
        callback=_set_home,
        is_eager=True,
        help="The host's home. Default: $GARRISON_HOME, else the config's `home`.",
    )(verb)


def encode(value: Any) -> bytes:
    """Return a value as JSON; bytes as base64."""
    return msgspec.json.encode(value)


def envelope(data: Any) -> str:
    """Return a result's data as `--json` prints it, on one line."""
    return encode({"v": 1, "ok": True, "data": data, "error": None}).decode()
