"""The secrets without which the service that runs hooks starts all the same (pure)."""

from collections.abc import Mapping
from typing import Any

HOOKS = "hooks"  # NAME of its plugin, and of the key of its settings


def spare_secrets(plugin: str, config: Mapping[str, Any]) -> frozenset[str]:
    """Return the secrets without which a service starts: those of single hooks.

    A hook without its secret delivers nothing, and says so; the others do.

    Args:
        plugin: Of the service.
        config: Its settings.
    """
    if plugin != HOOKS:
        return frozenset()
    hooks = config.get(HOOKS)
    found = set[str]()
    for keys in hooks.values() if isinstance(hooks, dict) else ():
        if isinstance(keys, dict):
            found |= {str(keys.get("secret", "")), *map(str, keys.get("secrets", ()))}
            found.add(str(keys.get("webhook", "")).removeprefix("$"))
    return frozenset(found)
