"""Orders to services: status, start, stop, restart, reset, wait. `app` finds each command here."""

import contextlib
from pathlib import Path
from typing import Any

import click

from garrison.ipc.errors import GarrisonError
from garrison.ipc.messages import State
from garrison.supervisor.cli.render.text import sanitize

from .client import request
from .completion import complete_names
from .durations import Seconds
from .errors import DONE, NOT_RUNNING
from .output import Invocation, options

WAIT_S = 120.0  # seconds for start, stop and restart, unless --wait says otherwise

_wait_option = click.option(
    "--wait",
    "wait_s",
    type=Seconds(),
    default=WAIT_S,
    show_default=True,
    metavar="S",
    help="Seconds to wait for the result. After that: exit 75; the order is still carried out.",
)
_why_option = click.option(
    "--why",
    default="",
    metavar="TEXT",
    help="Why. The service reads it as runtime.restarted_by.why, and the events show it.",
)
_names = click.argument(
    "names", nargs=-1, required=True, metavar="NAME…", shell_complete=complete_names
)


@click.command(epilog="Examples: garrison status; garrison status hello; garrison status 'ada.*'")
@click.argument("names", nargs=-1, metavar="[NAME…]", shell_complete=complete_names)
@options
def status(invocation: Invocation, names: tuple[str, ...]) -> int:
    """Show all services, or every detail of some.

    Exits 3 if a service that is wanted is not running, or a platform has lost its connection for
    good.
    """
    data = request(invocation.home, "status", names)
    pending = _pending(invocation.home)
    invocation.answer({**data, "pending": pending})
    if not invocation.json:
        from .render import status, table  # rich is slow to import

        details = (status.service_detail(row, invocation.command) for row in data["services"])
        table.show(*(details if names else status.status_table(data)))
        chosen = {row["name"] for row in data["services"]}
        shown = [one for one in pending if not names or one["name"] in chosen]
        if shown:
            words = ", ".join(f"{sanitize(one['name'])} ({one['change']})" for one in shown[:5])
            more = f" and {len(shown) - 5} more" if len(shown) > 5 else ""
            invocation.say(f"! pending: {words}{more}; see {invocation.command('diff')}")
    ok = all(_works(row) for row in data["services"] if row["wanted"])
    return DONE if ok else NOT_RUNNING


def _pending(home: Path) -> list[dict[str, Any]]:
    """Return what differs from the disk, as far as no plugin has to be read for it."""
    with contextlib.suppress(GarrisonError):  # of an older release, or a config that is no TOML
        found: list[dict[str, Any]] = request(home, "diff", quick=True)["services"]
        return found
    return []


@click.command(epilog="Example: garrison start hello")
@_names
@_wait_option
@_why_option
@options
def start(invocation: Invocation, names: tuple[str, ...], wait_s: float, why: str) -> int:
    """Start services. Returns when they run, or with the reason why not."""
    return _print_running(invocation, "start", names, wait_s, why)


@click.command(epilog="Example: garrison stop hello eliza")
@_names
@_wait_option
@_why_option
@options
def stop(invocation: Invocation, names: tuple[str, ...], wait_s: float, why: str) -> int:
    """Stop services, those that depend on them first.

    They stay stopped until `garrison start`, also after a reboot. Run by one of these services
    itself, it returns at once.
    """
    return _print_states(invocation, request(invocation.home, "stop", names, wait_s, why=why))


@click.command(epilog="Example: garrison restart 'ada.*'")
@_names
@_wait_option
@_why_option
@options
def restart(invocation: Invocation, names: tuple[str, ...], wait_s: float, why: str) -> int:
    """Restart services with the config and code on disk.

    If the config or the plugin is unusable, the running service stays as it is. Run by one of these
    services itself, it returns at once; after three times within a minute it is refused as a loop.
    """
    return _print_running(invocation, "restart", names, wait_s, why)


@click.command(epilog="Example: garrison reset hello")
@_names
@options
def reset(invocation: Invocation, names: tuple[str, ...]) -> int:
    """Clear the restart counts of services. One that is failed and wanted starts at once."""
    return _print_states(invocation, request(invocation.home, "reset", names, WAIT_S))


@click.command(epilog="Example: garrison wait hello --for running")
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
def wait(invocation: Invocation, names: tuple[str, ...], state: str, wait_s: float) -> int:
    """Wait until services are in a state."""
    data = request(invocation.home, "wait", names, wait_s, state=state)
    return _print_states(invocation, data)


def _works(row: dict[str, Any]) -> bool:
    """Return whether a service runs, and a platform is not disconnected for good."""
    return row["state"] == "running" and not (row.get("link") or {}).get("disconnected")


def _print_running(
    invocation: Invocation, verb: str, names: tuple[str, ...], wait_s: float, why: str
) -> int:
    data = request(invocation.home, verb, names, wait_s, why=why)
    invocation.answer(data)
    if sender := data.get("from_inside"):
        invocation.say(
            f"{verb}: carried out; not waited for, because it comes from inside {sender}"
        )
        return DONE
    for row in data["services"]:
        invocation.say(f"{row['name']} runs (pid {row['pid']}, generation {row['generation']})")
    return DONE


def _print_states(invocation: Invocation, data: dict[str, Any]) -> int:
    invocation.answer(data)
    if sender := data.get("from_inside"):
        invocation.say(f"carried out; not waited for, because it comes from inside {sender}")
        return DONE
    for name, state in data["services"].items():
        invocation.say(f"{name} is {state}")
    return DONE
