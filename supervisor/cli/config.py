"""Verbs about configurations: `check` one, and print the reference of every key with `config`."""

import os
from pathlib import Path

import click

from garrison.ipc.errors import OrderFailed
from garrison.supervisor.config.load import load

from .errors import CONFIG_UNUSABLE, DONE
from .output import Invocation, options, require_utf8


def _require_utf8(ctx: click.Context, param: click.Parameter, path: Path) -> Path:
    return require_utf8(path, "the path of the config")


config_option = click.option(
    "-c",
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("config.toml"),
    show_default=True,
    metavar="FILE",
    callback=_require_utf8,
    help="The configuration.",
)


@click.command(epilog="Examples: garrison check; garrison check -c other.toml")
@config_option
@options
def check(invocation: Invocation, path: Path) -> int:
    """Check a configuration, and import each of its plugins. Starts no service.

    Exits 5 if the configuration cannot be used.
    """
    from garrison.supervisor.check import check_config

    report = check_config(load(path, invocation.home_option), os.environ)
    if invocation.json and not report.usable:
        raise OrderFailed("ConfigError", report.errors[0], report.as_data())
    invocation.answer(report.as_data())
    for line in report.lines():
        invocation.say(line)
    return DONE if report.usable else CONFIG_UNUSABLE


@click.command(epilog="Example: garrison config > reference.toml")
@options
def config(invocation: Invocation) -> int:
    """Print every config key with its default and a line of text."""
    from garrison.supervisor.config.reference import reference_toml

    text = reference_toml()
    invocation.answer({"toml": text})
    invocation.say(text.rstrip())
    return DONE
