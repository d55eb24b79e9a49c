"""Orders to services: start, stop, restart, reset, wait. `app` finds each command here."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from garrison.ipc.messages import State

from .client import request
from .completion import complete_names
from .durations import Seconds, Span
from .errors import DONE
from .output import Invocation, options
from .progress import OrderProgress

WAIT_S = 120.0  # seconds for orders to services, unless --wait says otherwise
TRIAL_S = 30.0  # that a service has to run for, with --try

Function = TypeVar("Function", bound=Callable[..., Any])


def wait_option(goes_on: str = "the order is still carried out") -> Callable[[Function], Function]:
    """Return the option --wait of a verb; `goes_on` is what happens after it."""
    return click.option(
        "--wait",
        "wait_s",
        type=Seconds(),
        default=WAIT_S,
        show_default=True,
        metavar="S",
        help=f"Seconds to wait for the result. After that: exit 75; {goes_on}.",
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


@click.command(epilog="Example: garrison start hello")
@_names
@wait_option()
@_why_option
@options
def start(invocation: Invocation, names: tuple[str, ...], wait_s: float, why: str) -> int:
    """Start services. Returns when they run, or with the reason why not."""
    return print_running(invocation, "start", names, wait_s, why)


@click.command(epilog="Example: garrison stop hello eliza")
@_names
@wait_option()
@_why_option
@options
def stop(invocation: Invocation, names: tuple[str, ...], wait_s: float, why: str) -> int:
    """Stop services, those that depend on them first.

    They stay stopped until `garrison start`, also after a reboot. Run by one of these services
    itself, it returns at once.
    """
    return _print_states(invocation, _order(invocation, "stop", names, wait_s, why))


@click.command(epilog="Example: garrison restart 'ada.*'")
@_names
@click.option("--rolling", is_flag=True, help="One after another, each as by `reload`.")
@click.option(
    "--try", "tries", is_flag=True, help="Put the former config back if the new one does not run."
)
@click.option(
    "--period",
    type=Span(),
    metavar="S",
    help="With --try: how long it has to run, without a crash and in good health.  [default: 30]",
)
@wait_option()
@_why_option
@options
def restart(
    invocation: Invocation,
    names: tuple[str, ...],
    rolling: bool,
    tries: bool,
    period: float | None,
    wait_s: float,
    why: str,
) -> int:
    """Restart services with the config and code on disk.

    If the config or the plugin is unusable, the running service stays as it is. Run by one of these
    services itself, it returns at once; after three times within a minute it is refused as a loop.
    """
    if rolling and tries:
        raise click.UsageError("--rolling and --try exclude each other")
    if period is not None and not tries:
        raise click.UsageError("--period belongs to --try")
    if tries:
        return _print_trial(invocation, names, TRIAL_S if period is None else period, wait_s, why)
    return print_running(invocation, "reload" if rolling else "restart", names, wait_s, why)


def _print_trial(
    invocation: Invocation, names: tuple[str, ...], period: float, wait_s: float, why: str
) -> int:
    with OrderProgress("trial", "trying", names, quiet=invocation.hides_progress) as shown:
        data = request(
            invocation.home,
            "trial",
            names,
            wait_s + period,
            why=why,
            watch=shown.watch,
            period=period,
        )
    invocation.answer(data)
    for row in data["services"]:
        invocation.say(f"{row['name']} has run for {period:g} s, and stays (pid {row['pid']})")
    return DONE


@click.command(epilog="Example: garrison reset hello")
@_names
@options
def reset(invocation: Invocation, names: tuple[str, ...]) -> int:
    """Clear the restart counts of services. One that is failed and wanted starts at once."""
    data = request(invocation.home, "reset", names, WAIT_S)
    return _print_states(invocation, data, "; its restart count is 0")


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
@wait_option()
@options
def wait(invocation: Invocation, names: tuple[str, ...], state: str, wait_s: float) -> int:
    """Wait until services are in a state."""
    data = request(invocation.home, "wait", names, wait_s, state=state)
    return _print_states(invocation, data)


def _order(
    invocation: Invocation, verb: str, names: tuple[str, ...], wait_s: float, why: str
) -> Any:
    """Send an order, show how far it is, and return the answer's data."""
    what = {
        "start": "starting",
        "stop": "stopping",
        "restart": "restarting",
        "reload": "reloading",
    }[verb]
    with OrderProgress(verb, what, names, quiet=invocation.hides_progress) as shown:
        return request(invocation.home, verb, names, wait_s, why=why, watch=shown.watch)


def print_running(
    invocation: Invocation, verb: str, names: tuple[str, ...], wait_s: float, why: str
) -> int:
    """Send an order after which services run, and print how they do."""
    data = _order(invocation, verb, names, wait_s, why)
    invocation.answer(data)
    if sender := data.get("from_inside"):
        invocation.say(
            f"{verb}: carried out; not waited for, because it comes from inside {sender}"
        )
        return DONE
    for row in data["services"]:
        invocation.say(f"{row['name']} runs (pid {row['pid']}, generation {row['generation']})")
    return DONE


def _print_states(invocation: Invocation, data: dict[str, Any], more: str = "") -> int:
    invocation.answer(data)
    if sender := data.get("from_inside"):
        invocation.say(f"carried out; not waited for, because it comes from inside {sender}")
        return DONE
    for name, state in data["services"].items():
        invocation.say(f"{name} is {state}{more}")
    return DONE
