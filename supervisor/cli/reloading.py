"""The verb reload: a service is replaced without a gap."""

import click

from .completion import complete_names
from .output import Invocation, options
from .services import print_running, wait_option


@click.command(epilog="Example: garrison reload api")
@click.argument("names", nargs=-1, required=True, metavar="NAME…", shell_complete=complete_names)
@wait_option("the reload goes on")
@click.option("--why", default="", metavar="TEXT", help="Why; the events show it.")
@options
def reload(invocation: Invocation, names: tuple[str, ...], wait_s: float, why: str) -> int:
    """Replace services without losing a call.

    The next process, by the config and code on disk, runs before the former one drains: calls under
    way finish there, new ones go to the next. If it does not come up, the former one stays. For
    services with `exclusive = false`.
    """
    return print_running(invocation, "reload", names, wait_s, why)
