"""The verb that lists the plugins which are installed: `plugins`."""

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click
import msgspec

from garrison.ipc.errors import OrderFailed
from garrison.supervisor.cli.catalogue import (
    InstalledPlugin,
    Library,
    installed_plugins,
    pip_command,
    plugin_names,
)
from garrison.supervisor.cli.render.text import sanitize

from .completion import completes
from .errors import DONE
from .output import Invocation, options

if TYPE_CHECKING:
    from rich.console import RenderableType

READY, MISSING, BROKEN = "ready", "missing", "broken"


@click.command(epilog="Examples: garrison plugins; garrison plugins discord")
@click.argument(
    "name",
    required=False,
    metavar="[NAME]",
    shell_complete=completes(lambda home, ctx: plugin_names()),
)
@options
def plugins(invocation: Invocation, name: str | None) -> int:
    """List installed plugins, or show what one offers and needs.

    `missing`: a library that it needs is not installed. `broken`: its code cannot be imported.
    """
    if name is not None and name not in plugin_names():
        raise OrderFailed("usage", f"there is no plugin {name}: garrison plugins lists them")
    found = installed_plugins(os.environ, (name,) if name else ())
    invocation.answer({"plugins": [_data(one) for one in found]})
    if invocation.json:
        return DONE
    from .render import table  # rich is slow to import

    if name is not None:
        table.show(table.pairs(_details(found[0])))
        return DONE
    table.show(_list(found))
    if any(one.missing for one in found):
        invocation.say("\nwhat installs a missing library: garrison plugins NAME")
    return DONE


def state_of(plugin: InstalledPlugin) -> str:
    """Return whether a plugin can be used."""
    if plugin.problem:
        return BROKEN
    return MISSING if plugin.missing else READY


def _list(plugins: Iterable[InstalledPlugin]) -> "RenderableType":
    """Return a table of plugins: name, state, and in lines what each is and needs."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("PLUGIN", "STATE", "WHAT IT IS, AND WHAT IT NEEDS"):
        made.add_column(head, overflow="fold", no_wrap=head != "WHAT IT IS, AND WHAT IT NEEDS")
    for one in plugins:
        needs = [_library(library) for library in one.libraries]
        lines = [one.problem or one.description]
        lines += [f"needs {', '.join(needs)}"] if needs else []
        lines += [f"of {one.package} {one.version}"] if not one.bundled else []
        made.add_row(one.name, state_of(one), Text(sanitize("\n".join(lines), lines=True)))
    return made


def _library(library: Library) -> str:
    return library.requirement + (f" ({library.licence})" if library.licence else "")


def _details(plugin: InstalledPlugin) -> Iterator[tuple[str, str]]:
    """Yield what one plugin offers and needs, as names and values."""
    yield "plugin", f"{plugin.name}, of {plugin.package} {plugin.version}"
    yield "state", f"{state_of(plugin)}{f': {plugin.problem}' if plugin.problem else ''}"
    for one in plugin.services:
        yield "service", f"{one.service_type}: {one.description}"
        yield "actions", ", ".join(action.name for action in one.actions)
        yield "providers", ", ".join(provider.name for provider in one.providers)
        yield "models", ", ".join(dict.fromkeys(model.model_type for model in one.models))
        yield "tasks", ", ".join(one.task_workers)
    for secret, where in plugin.secrets.items():
        yield "secret", f"{secret}: get it at {where}"
    for library in plugin.libraries:
        there = f"{library.installed} is installed" if library.installed else "is not installed"
        yield "library", f"{_library(library)}: {there}"
    if plugin.missing:
        yield "to install", pip_command(plugin.missing)
    if plugin.bundled:
        yield "manual", f"garrison docs {_page(plugin.name)}"


def _page(name: str) -> str:
    from .docs import pages

    page = f"services/{name}"
    return page if page in pages() else "guide/bundled-services"


def _data(plugin: InstalledPlugin) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "state": state_of(plugin),
        "package": plugin.package,
        "version": plugin.version,
        "bundled": plugin.bundled,
        "description": plugin.description,
        "problem": plugin.problem,
        "libraries": [msgspec.to_builtins(one) for one in plugin.libraries],
        "secrets": plugin.secrets,
        "services": [
            {
                "service_type": one.service_type,
                "description": one.description,
                "actions": [action.name for action in one.actions],
                "providers": [provider.name for provider in one.providers],
                "models": list(dict.fromkeys(model.model_type for model in one.models)),
            }
            for one in plugin.services
        ],
    }
