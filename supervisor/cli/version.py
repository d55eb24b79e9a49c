"""The verb that prints the version, and what `--version` prints."""

import click

from garrison.ipc.system.installed import installed_version

from .errors import DONE
from .output import Invocation, options


@click.command(epilog="Example: garrison version")
@options
def version(invocation: Invocation) -> int:
    """Print the version, as `garrison --version` does."""
    print_version(invocation)
    return DONE


def print_version(invocation: Invocation) -> None:
    """Print the installed version."""
    invocation.answer({"version": installed_version()})
    invocation.say(f"garrison {installed_version()}")
