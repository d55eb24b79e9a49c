"""Verbs about services: status, start, stop, restart, reset, wait."""

from typing import Any

import click

from garrison.ipc.messages import State

from .client import request
from .output import DONE, NOT_RUNNING, SETTINGS, answer, options, say

WAIT_S = 120.0  # for start, stop and restart, unless --wait says otherwise

_wait_option = click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0, min_open=True),
    default=WAIT_S,
    show_default=True,
    metavar="S",
    help="Seconds until it is given up (exit 75); the order itself goes on.",
)
_names = click.argument("names", nargs=-1, required=True, metavar="NAME…")


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME…]")
@options
def status(names: tuple[str, ...]) -> int:
    """Show every service, or all that is known of some.

    Exits 3 where something that is wanted does not run.
    """
    from .render import status  # rich takes a while to import; the other verbs do without

    data = request(SETTINGS.home, "status", names)
    answer(data)
    if not SETTINGS.json:
        details = [status.service_detail(row) for row in data["services"]]
        status.show(*(details if names else status.status_table(data)))
    ok = all(row["state"] == "running" for row in data["services"] if row["wanted"])
    return DONE if ok else NOT_RUNNING


@click.command()
@_names
@_wait_option
@options
def start(names: tuple[str, ...], wait_s: float) -> int:
    """Start services; return when they run, or say why not."""
    return _running("start", names, wait_s)


@click.command()
@_names
@_wait_option
@options
def restart(names: tuple[str, ...], wait_s: float) -> int:
    """Run what is on disk: config and code are read again. Unusable ones change nothing."""
    return _running("restart", names, wait_s)


def _running(verb: str, names: tuple[str, ...], wait_s: float) -> int:
    data = request(SETTINGS.home, verb, names, wait_s)
    answer(data)
    for row in data["services"]:
        say(f"{row['name']} runs (pid {row['pid']}, generation {row['generation']})")
    return DONE


@click.command()
@_names
@_wait_option
@options
def stop(names: tuple[str, ...], wait_s: float) -> int:
    """Stop services, dependents first. They stay stopped until `start`, also after a reboot."""
    return _states(request(SETTINGS.home, "stop", names, wait_s))


@click.command()
@_names
@options
def reset(names: tuple[str, ...]) -> int:
    """Forget the restarts of services; what is failed and wanted is tried at once."""
    return _states(request(SETTINGS.home, "reset", names, WAIT_S))


@click.command()
@_names
@click.option(
    "--for",
    "state",
    type=click.Choice([state.value for state in State]),
    default=State.RUNNING.value,
    show_default=True,
    help="The state to wait for.",
)
@_wait_option
@options
def wait(names: tuple[str, ...], state: str, wait_s: float) -> int:
    """Wait until services are in a state."""
    return _states(request(SETTINGS.home, "wait", names, wait_s, state=state))


def _states(data: dict[str, Any]) -> int:
    answer(data)
    for name, state in data["services"].items():
        say(f"{name} is {state}")
    return DONE
