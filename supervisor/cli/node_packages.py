"""For `check`: compares the nodes that have contact with this machine."""

import platform
from collections.abc import Iterator
from importlib import metadata

from garrison.ipc.errors import GarrisonError
from garrison.supervisor.config.load import Config
from garrison.supervisor.placing.packages import canonical, differences, needed

from .client import request


def node_problems(config: Config) -> tuple[list[str], list[str]]:
    """Return what differs on nodes, as warnings, and what could not be compared, as notes."""
    if not config.host.engine.has_nodes:
        return [], []
    try:
        rows = request(config.host.home, "nodes")["nodes"]
    except GarrisonError:
        return [], ["the packages of nodes were not compared: the host does not run"]
    here, names = _installed(), _needed(config)
    warnings, notes = list[str](), list[str]()
    for row in rows:
        if not row["up"]:
            notes.append(f"the packages of node {row['name']} were not compared: no contact")
        elif row["packages"]:
            pythons = platform.python_version(), row["python"] or ""
            warnings += differences(row["name"], here, row["packages"], names, pythons)
    return warnings, notes


def _installed() -> dict[str, str]:
    return {canonical(one.name): one.version for one in metadata.distributions() if one.name}


def _needed(config: Config) -> set[str]:
    """Return the packages of the plugins, with all that they require."""
    requires = {one.name: one.requires or [] for one in metadata.distributions() if one.name}
    return needed(_roots(config), requires, set(config.plugins))


def _roots(config: Config) -> Iterator[str]:
    by_module = metadata.packages_distributions()
    entries = {one.name: one for one in metadata.entry_points(group="garrison.plugins")}
    for plugin in config.plugins.values():
        module = plugin.use.partition(":")[0].partition(".")[0]
        if plugin.use in entries and (package := entries[plugin.use].dist) is not None:
            yield package.name
        yield from by_module.get(module, ())
