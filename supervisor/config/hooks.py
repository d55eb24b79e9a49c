"""The service that runs all hooks: a config with `[hooks.NAME]` has it without naming it (pure)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .compose import Parts
from .hook_spec import HookOn
from .values import ConfigValueError

HOOKS = "hooks"  # NAME of the plugin and of the service
USE = "garrison.workers.services.hooks:plugin"
WAYS = ("command", "webhook", "call")
# Keys that belong to one way of delivery.
ONLY_WITH = {"secret": "webhook", "with": "call", "secrets": "command"}
LISTS = frozenset({"on", "services"})


def with_hooks(parts: Parts) -> Parts:
    """Add the plugin and the service that run the hooks, if there are any.

    Raises:
        ConfigValueError: A hook is wrong, or its service's NAME is another's.
    """
    if not parts.hooks:
        return parts
    for name, keys in parts.hooks.items():
        _check(name, keys)
    plugin, section = parts.plugins.get(HOOKS, {}), dict(parts.services.get(HOOKS, {}))
    _check_names(plugin, section)
    parts.plugins[HOOKS] = {"use": USE, **plugin}
    parts.documents.setdefault(("plugins", HOOKS), parts.documents[HOOKS, next(iter(parts.hooks))])
    section["config"] = {**section.get("config", {}), "hooks": _settings(parts.hooks)}
    section["secrets"] = _secrets(section.get("secrets", {}), parts.hooks)
    parts.services[HOOKS] = section
    return parts


def _check(name: str, keys: Mapping[str, Any]) -> None:
    ways = [way for way in WAYS if keys.get(way)]
    if not keys.get("on"):
        known = ", ".join(f'"{word.value}"' for word in HookOn)
        raise ConfigValueError(f"it needs `on`, a list of some of {known}", HOOKS, name)
    if len(ways) != 1:
        has = f"it has {' and '.join(f'`{way}`' for way in ways)}" if ways else "it has none"
        raise ConfigValueError(
            f"a hook has one of `command`, `webhook` and `call`: {has}", HOOKS, name
        )
    for key, way in ONLY_WITH.items():
        if keys.get(key) and way not in ways:
            raise ConfigValueError(f"`{key}` belongs to a hook with `{way}`", HOOKS, name, key)


def _check_names(plugin: Mapping[str, Any], section: Mapping[str, Any]) -> None:
    """Refuse another plugin or service of the NAME."""
    taken = f"`{HOOKS}` is the NAME of the service that runs [hooks.*]: use another"
    if plugin.get("use", HOOKS) not in {HOOKS, USE}:
        raise ConfigValueError(taken, "plugins", HOOKS, "use")
    if section.get("plugin", HOOKS) != HOOKS:
        raise ConfigValueError(taken, "services", HOOKS, "plugin")
    if HOOKS in section.get("config", {}):
        problem = "write hooks as [hooks.NAME], not here"
        raise ConfigValueError(problem, "services", HOOKS, "config", HOOKS)


def _settings(hooks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the hooks as their service's `config` has them; of secrets, the names alone."""
    return {
        name: {
            key: sorted(value) if key == "secrets" else list(value) if key in LISTS else value
            for key, value in keys.items()
        }
        for name, keys in hooks.items()
    }


def _secrets(
    own: Mapping[str, str | Path], hooks: Mapping[str, Mapping[str, Any]]
) -> dict[str, str | Path]:
    """Return all secrets of the service.

    Raises:
        ConfigValueError: Two hooks find one in different places.
    """
    found = dict(own)
    for name, keys in hooks.items():
        of_address = keys.get("webhook", "")[1:] if keys.get("webhook", "")[:1] == "$" else ""
        for secret in filter(None, (keys.get("secret"), of_address)):
            found.setdefault(secret, secret)
        for word, source in keys.get("secrets", {}).items():
            if found.setdefault(word, source) != source:
                problem = f"`{word}` is found elsewhere by another hook: use another name"
                raise ConfigValueError(problem, HOOKS, name, "secrets", word)
    return found
