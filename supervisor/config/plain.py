"""Plain commands: sections with a `command`, which the bundled plugin `command` runs (pure)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .spec import PluginSpec, ServiceSpec
from .values import ConfigValueError

PLUGIN = "command"  # the NAME of the plugin, and its only service_type
USE = "garrison.workers.services.command"
OTHERS = ("ready", "stop_signal", "health_command")  # keys that need a `command`


def complete(
    section: Mapping[str, Any], path: Sequence[str], folder: Path, defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a section with what a `command` in it implies: its plugin, and where it runs.

    Args:
        section: Its keys.
        path: Its path in the file.
        folder: That of the file.
        defaults: The keys of [defaults].

    Raises:
        ConfigValueError: The section has a command and another plugin, or a key that needs one.
    """
    keys = dict(section)
    if "command" not in keys:
        for key in OTHERS:
            if key in keys:
                problem = 'it needs a `command` beside it, such as command = ["node", "bot.js"]'
                raise ConfigValueError(problem, *path, key)
        return keys
    for key in ("plugin", "type"):
        if keys.get(key, PLUGIN) != PLUGIN:
            problem = f"a `command` runs without a plugin: take `{key}` or `command` out"
            raise ConfigValueError(problem, *path, key)
    if keys.get("config"):
        problem = "a command has no settings of its own: give them as its arguments, or in `env`"
        raise ConfigValueError(problem, *path, "config")
    keys |= {"plugin": PLUGIN, "type": PLUGIN}
    if "working_directory" not in defaults:
        keys.setdefault("working_directory", folder)
    return keys


def has_command(section: Mapping[str, Any]) -> bool:
    """Return True if a section is that of a plain command."""
    return "command" in section


def plugin_spec() -> PluginSpec:
    """Return the plugin of plain commands, which needs no section."""
    return PluginSpec(name=PLUGIN, use=USE)


def is_without_command(spec: ServiceSpec, plugin: PluginSpec) -> bool:
    """Return True if a service is of the plugin of plain commands, and has none."""
    return plugin.name == PLUGIN and plugin.use in {PLUGIN, USE} and not spec.plain.command


def command_settings(spec: ServiceSpec) -> dict[str, Any]:
    """Return what the worker of a plain command is given as its config; of others, nothing."""
    plain, supervision = spec.plain, spec.supervision
    if not plain.command:
        return {}
    return {
        "command": list(plain.command),
        "ready": plain.ready,
        "stop_signal": plain.stop_signal,
        "health_command": list(plain.health_command),
        "start_timeout": supervision.start_timeout,
        "watchdog": supervision.watchdog,
    }
