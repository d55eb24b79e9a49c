"""One command line: its `--home` and `--json`, and how results and errors are printed."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import click
import msgspec

from garrison.ipc.errors import ConfigError, RemoteError
from garrison.ipc.messages import encodable
from garrison.supervisor.config.named_home import home_override

from .errors import error_code, error_data, exit_code, sentence
from .streams import Streams

if TYPE_CHECKING:
    from garrison.supervisor.processes.early_launcher import EarlyLauncher

P = ParamSpec("P")
R = TypeVar("R")


CONFIG_PATH = "the path of the config"


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
        self.quiet = False  # show no progress
        self.home_option: Path | None = None
        self.config_option: tuple[Path, ...] = ()  # the main file, then overlays
        self.shows_tracebacks = False  # of a method that raised in its service
        self.acts = False  # what it does counts, not its output
        self.streams: Streams | None = None
        self.early: EarlyLauncher | None = None  # of the host that is started

    @property
    def named_config(self) -> tuple[Path, ...]:
        """Return the files that `--config` or `$GARRISON_CONFIG` names; none if neither does."""
        if self.config_option:
            return self.config_option
        named = os.environ.get("GARRISON_CONFIG", "").split(os.pathsep)
        return tuple(require_utf8(Path(one), CONFIG_PATH) for one in named if one)

    @property
    def config(self) -> tuple[Path, ...]:
        """Return the files of the config: the main one, then overlays."""
        return self.named_config or (Path("config.toml"),)

    @property
    def home(self) -> Path:
        """Return the home that this command line addresses."""
        if (named := home_override(self.home_option, os.environ)) is not None:
            return require_utf8(named, "the home")
        # What reads configs is slow to import.
        from garrison.supervisor.config.homes import find_home
        from garrison.supervisor.state.holders import running_home

        found = find_home(None, self.named_config or None, os.environ)
        return running_home(self.config, require_utf8(found, "the home"))

    def command(self, rest: str) -> str:
        """Return a command for the user to type next, with the same `--home` and `--config`."""
        words = [f" -c {path}" for path in self.config_option]
        words += [f" --home {self.home_option}"] if self.home_option is not None else []
        return f"garrison{''.join(words)} {rest}"

    @property
    def hides_progress(self) -> bool:
        """Return whether this command line shows no progress."""
        return self.json or self.quiet

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


def _set_config(ctx: click.Context, param: click.Parameter, value: tuple[Path, ...]) -> None:
    if value:
        paths = tuple(require_utf8(path, CONFIG_PATH) for path in value)
        ctx.ensure_object(Invocation).config_option = paths


def _set_json(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Invocation).json = True


def _set_quiet(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Invocation).quiet = True


def options(function: Callable[Concatenate[Invocation, P], R]) -> Callable[P, R]:
    """Add `--config`, `--home`, `--json` and `--quiet` to a verb, and pass it the `Invocation`.

    These options are accepted before and after the verb.
    """
    verb: Callable[P, R] = click.pass_obj(function)
    verb = click.option(
        "--quiet",
        is_flag=True,
        expose_value=False,
        callback=_set_quiet,
        is_eager=True,
        help="Show no progress.",
    )(verb)
    verb = click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        callback=_set_json,
        is_eager=True,
        help="Print JSON.",
    )(verb)
    verb = click.option(
        "-c",
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        multiple=True,
        metavar="FILE",
        expose_value=False,
        callback=_set_config,
        is_eager=True,
        help="The configuration. Of several, each overrides keys of those before it. Default: "
        "$GARRISON_CONFIG, else config.toml.",
    )(verb)
    return click.option(
        "--home",
        # operators of a team may pass through a home, and not list it
        type=click.Path(path_type=Path, readable=False),
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
