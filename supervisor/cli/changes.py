"""Verbs about what differs between the disk and what runs: diff, apply."""

from collections.abc import Iterable, Iterator
from typing import Any

import click

from garrison.supervisor.cli.render.text import sanitize

from .client import request
from .completion import complete_names
from .errors import DONE, FAILED, NOT_RUNNING
from .output import Invocation, options
from .progress import OrderProgress
from .services import wait_option

READ_S = 20.0  # for a comparison: the supervisor reads new plugins for 10 s
SIGNS = {"new": "+", "gone": "-", "changed": "~", "renamed": "~"}
COLOURS = {"new": "green", "gone": "red", "changed": "yellow", "renamed": "yellow"}
NAMES = click.argument("names", nargs=-1, metavar="[NAME…]", shell_complete=complete_names)


@click.command(epilog="Example: garrison diff")
@options
def diff(invocation: Invocation) -> int:
    """Show what the disk has other than what runs.

    Exits 0 if nothing is pending, 3 if garrison apply, upgrade or a new start would change
    something, or a part of the configuration cannot be used.
    """
    data = request(invocation.home, "diff", wait=READ_S)
    invocation.answer(data)
    for line in lines(data, ()):
        invocation.say(line)
    if not data["pending"]:
        invocation.say("nothing is pending")
    return NOT_RUNNING if data["pending"] else DONE


@click.command(epilog="Examples: garrison apply --dry-run; garrison apply; garrison apply discord")
@NAMES
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@wait_option()
@click.option("--why", default="", metavar="TEXT", help="Why. The events show it.")
@options
def apply(
    invocation: Invocation, names: tuple[str, ...], dry_run: bool, wait_s: float, why: str
) -> int:
    """Do what garrison diff shows, and nothing else.

    What is new starts, what is gone stops, what changed is restarted. With NAMEs, only that. If it
    fails half-way, it says what was done, and exits 1.
    """
    if dry_run:
        data = request(invocation.home, "diff", wait=READ_S)
        invocation.answer(data)
        for line in lines(data, names):
            invocation.say(line)
        return NOT_RUNNING if data["pending"] else DONE
    with OrderProgress("apply", "applying", quiet=invocation.hides_progress) as shown:
        data = request(invocation.home, "apply", names, wait=wait_s, why=why, watch=shown.watch)
    invocation.answer(data)
    for text in data["done"]:
        invocation.say(sanitize(text))
    if not data["done"]:
        invocation.say("nothing was applied" if data["pending"] else "nothing was pending")
    for line in lines(data, ()):
        invocation.say(f"still pending: {line}" if line[:1] in "+-~" else line)
    return FAILED if data["problems"] else DONE


def lines(data: dict[str, Any], names: Iterable[str]) -> Iterator[str]:
    """Yield what differs, a line each.

    Args:
        data: Of the answer.
        names: Only these services; none is all.
    """
    chosen = set(names)
    for one in data["services"]:
        if not chosen or one["name"] in chosen:
            words = [sanitize(text) for text in one["details"]] or [_word(one["change"])]
            sign = click.style(SIGNS[one["change"]], fg=COLOURS[one["change"]])
            yield f"{sign} {one['name']}: {'; '.join(words)}"
    for one in data["host"]:
        yield f"! [host] {one['key']}: {one['needs']} takes it"
    if version := data["version"]:
        yield f"! version {version['running']} → {version['installed']}: garrison upgrade"
    for problem in data["problems"]:
        yield f"! {sanitize(problem)}"


def _word(change: str) -> str:
    return "new" if change == "new" else "no longer in the config"
