"""Which services there are: the plugins' own and those of `[services]`, each under one NAME (pure).

A plugin's `service_type` is a service under that NAME by itself, and a section of that NAME tunes
it. A section with a `plugin` is a service of that plugin under the section's NAME.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from garrison.supervisor.keys import Misfit, did_you_mean, listed

Provides = Mapping[str, Sequence[str]]  # plugin → its service_types, of those that could be read
Sections = Mapping[str, Mapping[str, Any]]  # NAME → what its section says


class Bound(NamedTuple):
    """One service: its NAME, and what runs under it."""

    name: str
    plugin: str
    service_type: str


def bind(plugins: Collection[str], sections: Sections, provides: Provides) -> list[Bound]:
    """Return every service in config order: by plugin as the file has them; of each plugin first
    those without a section, then the sections.

    Raises:
        Misfit: a section belongs to no plugin, or a NAME to two. Nothing is said of what a plugin
            that could not be read may provide.
    """
    provides = {plugin: provides[plugin] for plugin in plugins if plugin in provides}
    found = [_of_section(name, plugins, sections, provides) for name in sections]
    claims = [bound for bound in found if bound]
    by_default = [
        Bound(service_type, plugin, service_type)
        for plugin, types in provides.items()
        for service_type in types
    ]
    unclaimed = [bound for bound in by_default if bound not in claims]
    free = [bound for bound in unclaimed if _is_free(bound, sections, claims, provides)]
    ordered = {name: place for place, name in enumerate(plugins)}
    return sorted(free + claims, key=lambda bound: ordered[bound.plugin])


def check_names(key: str, name: str, wanted: Sequence[str], known: Collection[str]) -> None:
    """Raise a `Misfit` where `depends_on` or `bind_to` names a service that there is not."""
    for place, other in enumerate(wanted):
        if other not in known:
            problem = f"there is no service `{other}`{did_you_mean(other, known)}"
            raise Misfit(problem, "services", name, key, place)


def _of_section(
    name: str, plugins: Collection[str], sections: Sections, provides: Provides
) -> Bound | None:
    """Return what a section runs; None where that is for an unread plugin to say."""
    plugin = sections[name].get("plugin") or _plugin_of(name, plugins, sections[name], provides)
    if plugin and plugin not in plugins:
        problem = f"there is no [plugins.{plugin}]{did_you_mean(plugin, plugins)}"
        raise Misfit(problem, "services", name, "plugin")
    if plugin is None or plugin not in provides:
        return None
    return Bound(name, plugin, _type_of(name, plugin, sections[name].get("type"), provides[plugin]))


def _plugin_of(
    name: str, plugins: Collection[str], section: Mapping[str, Any], provides: Provides
) -> str | None:
    """Return the one plugin that provides a NAME."""
    service_type = section.get("type", name)
    owners = [plugin for plugin in plugins if service_type in provides.get(plugin, ())]
    if service_type != name:
        owner = owners[0] if owners else "…"
        raise Misfit(f'a type needs its plugin: add plugin = "{owner}"', "services", name, "type")
    if len(owners) > 1:
        raise _shared(name, owners, "services", name)
    if not owners and all(plugin in provides for plugin in plugins):
        known = [known for types in provides.values() for known in types]
        problem = f"no plugin has a service `{name}`{did_you_mean(name, known)}"
        raise Misfit(f"{problem} (under a NAME of your own it needs a `plugin`)", "services", name)
    return owners[0] if owners else None


def _type_of(name: str, plugin: str, wanted: str | None, types: Sequence[str]) -> str:
    """Return which of a plugin's service_types a section means."""
    if wanted is None and name in types:
        return name
    if wanted is None and len(types) == 1:
        return types[0]
    has = f"plugin `{plugin}` has {listed(types) or 'no services'}"
    if wanted is None:
        raise Misfit(f'{has}: say which one with type = "…"', "services", name)
    if wanted not in types:
        problem = f"there is no `{wanted}` in it: {has}"
        raise Misfit(problem, "services", name, "type")
    return wanted


def _is_free(bound: Bound, sections: Sections, claims: Sequence[Bound], provides: Provides) -> bool:
    """Tell whether a plugin's own service has its NAME; False where it has another one."""
    name = bound.name
    if name in sections:
        if any(claim[1:] == bound[1:] for claim in claims):
            return False
        raise Misfit(
            f"plugin `{bound.plugin}` also has a service `{name}`: give it a NAME of its own, such "
            f'as [services.{name}-2] with plugin = "{bound.plugin}" and type = "{name}"',
            "services",
            name,
        )
    owners = [plugin for plugin, types in provides.items() if name in types]
    if len(owners) > 1:
        raise _shared(name, owners, "plugins", bound.plugin)
    return True


def _shared(name: str, owners: Sequence[str], *keys: str) -> Misfit:
    first, second = owners[:2]
    return Misfit(
        f"plugins {listed(owners)} each have a service `{name}`: write [services.{name}] with "
        f'plugin = "{first}", and [services.{name}-2] with plugin = "{second}" and '
        f'type = "{name}"',
        *keys,
    )
