"""Verbs about configurations: `check` one, and print the reference of every key with `config`."""

import os

import click

from garrison.ipc.errors import OrderFailed
from garrison.supervisor.config.load import load

from .errors import CONFIG_UNUSABLE, DONE, NOT_RUNNING
from .output import Invocation, options


@click.command(epilog="Examples: garrison check; garrison check -c other.toml --strict")
@click.option("--strict", is_flag=True, help="Refuse a configuration with warnings, too.")
@options
def check(invocation: Invocation, strict: bool) -> int:
    """Check a configuration, and import each of its plugins. Starts no service.

    Exits 5 if the configuration cannot be used, 3 if a service would not start here, for example
    because a secret is missing.
    """
    from garrison.supervisor.check import check_config

    report = check_config(load(invocation.config, invocation.home_option), os.environ)
    if report.config.host.engine.has_nodes:
        from .node_packages import node_problems  # slow: it reads the metadata of all packages

        warnings, notes = node_problems(report.config)
        report.warnings += warnings
        report.notes += notes
    refused = report.errors or (report.warnings if strict and not report.would_not_start else [])
    if invocation.json and refused:
        raise OrderFailed("ConfigError", refused[0], report.as_data())
    invocation.answer(report.as_data())
    for line in report.lines():
        invocation.say(line)
    if refused:
        return CONFIG_UNUSABLE
    return NOT_RUNNING if report.would_not_start else DONE


@click.command(epilog="Example: garrison config > reference.toml")
@options
def config(invocation: Invocation) -> int:
    """Print every config key with its default and a line of text."""
    from garrison.supervisor.config.reference import reference_toml

    text = reference_toml()
    invocation.answer({"toml": text})
    invocation.say(text.rstrip())
    return DONE
