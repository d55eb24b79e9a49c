"""Verbs about deaths: `deaths` lists them, `death` shows one. Both read files alone."""

from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path

import click

from garrison.ipc import OrderFailed, SupervisorGone
from garrison.supervisor.crashes.store import CrashStore
from garrison.supervisor.logs.tail import service_logs

from .client import request
from .output import DONE, SETTINGS, answer, no_such_service, options, say


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME…]")
@click.option(
    "-n",
    "number",
    type=click.IntRange(min=0),
    default=50,
    show_default=True,
    help="The last so many.",
)
@options
def deaths(names: tuple[str, ...], number: int) -> int:
    """List the ends that nobody asked for, the last one at the bottom.

    Works without a supervisor, too.
    """
    home = SETTINGS.home
    running = _up_to_date(home)
    store = CrashStore(home / "state" / "deaths")
    dead = {death_id.rpartition("-")[0] for death_id in store.ids()}
    known = list(dict.fromkeys([*running, *sorted(dead), *service_logs(home / "logs")]))
    for name in names:
        if not any(fnmatchcase(one, name) for one in known):
            raise no_such_service(name, known)
    chosen = {one for one in dead if not names or any(fnmatchcase(one, name) for name in names)}
    ids = store.ids(chosen)[-number:] if chosen and number else []
    lines = store.lines(ids)
    answer({"deaths": lines, "unreadable": sorted({*ids} - {line.id for line in lines})})
    if SETTINGS.json:
        return DONE
    if lines:
        from .render import crash, status

        status.show(*crash.table(lines))
        say(f"more of one: {SETTINGS.garrison(f'death {lines[-1].id}')}")
    else:
        say("no deaths")
    for death_id in ids:
        if death_id not in {line.id for line in lines}:
            say(f"{store.folder / death_id}.json cannot be read", error=True)
    return DONE


@click.command()
@click.argument("death_id", metavar="ID")
@options
def death(death_id: str) -> int:
    """Show all that is known of one death; a service's NAME means its last one.

    Works without a supervisor, too.
    """
    home = SETTINGS.home
    _up_to_date(home)
    store = CrashStore(home / "state" / "deaths")
    ids = store.ids()
    if death_id not in ids:
        own = store.ids({death_id})
        if not own:
            raise _no_such_death(death_id, ids)
        death_id = own[-1]
    found = store.read(death_id)
    if found is None:
        file = store.folder / f"{death_id}.json"
        text = f"{file} is damaged, or of a newer version, and cannot be read"
        raise OrderFailed("failed", text)
    answer(found)
    if not SETTINGS.json:
        from .render import crash, status

        status.show(*crash.whole(found))
    return DONE


def _up_to_date(home: Path) -> list[str]:
    """Have the supervisor, if there is one, write down what it has just seen; return its NAMEs.

    Raises:
        SupervisorGone: There is none, and never was one here.
    """
    try:
        names: list[str] = request(home, "deaths")["services"]
        return names
    except SupervisorGone:
        if not (home / "state").is_dir():  # another home was meant: "no deaths" would be a lie
            raise
    except OrderFailed:
        pass  # it is busy or stopping: what is written down already is shown
    return []


def _no_such_death(death_id: str, ids: list[str]) -> OrderFailed:
    close = get_close_matches(death_id, ids[::-1], n=1)
    hint = f"did you mean {close[0]}?" if close else "garrison deaths lists them"
    if not ids:
        hint = "there are none"
    return OrderFailed("no_such_death", f"no death {death_id}; {hint}")
