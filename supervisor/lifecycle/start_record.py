"""What an incarnation was started with, and how that differs from what the next would be (pure).

No value of the environment or of a secret is in it.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from garrison.supervisor.config.spec import GROUPS, PluginSpec, ServiceSpec

# Keys that hold for all services at once, from the moment that a config is taken, or for none of
# those that run; and the names and values that have fields of their own
NOT_SETTINGS = frozenset(
    {"depends_on", "bind_to", "autostart", "env", "pass_env", "env_file", "secrets"}
)


class StartRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one incarnation was started with."""

    settings: dict[str, Any] = {}  # the keys of its section and of [defaults]
    config: dict[str, Any] = {}
    plugin_config: dict[str, Any] = {}
    environment: tuple[str, ...] = ()  # names, without those that every service has
    env_digest: str = ""  # of the table `env`
    secrets: dict[str, str] = {}  # name → where it was found, in words
    code: dict[str, tuple[int, int, int]] = {}  # imported file → inode, mtime in ns, size


def start_record(
    spec: ServiceSpec,
    plugin: PluginSpec,
    environment: Iterable[str],
    secrets: Mapping[str, str],
) -> StartRecord:
    """Return the record of a start.

    Args:
        spec: The service.
        plugin: Its plugin.
        environment: The names of its variables.
        secrets: Where each of its secrets was found.
    """
    settings = {"plugin": spec.plugin, "type": spec.service_type, "priority": spec.priority}
    for group in GROUPS:
        settings |= msgspec.structs.asdict(getattr(spec, group))
    kept = {key: value for key, value in settings.items() if key not in NOT_SETTINGS}
    env = msgspec.json.encode(spec.environment.env, order="sorted")
    return StartRecord(
        settings=_plain(kept),
        config=_plain(spec.config),
        plugin_config=_plain(plugin.config),
        environment=tuple(sorted(environment)),
        env_digest=hashlib.sha256(env).hexdigest()[:16] if spec.environment.env else "",
        secrets=dict(secrets),
    )


def differences(started: StartRecord, now: StartRecord) -> list[str]:
    """Return what another start would change, in words; a setting with both values."""
    found = [
        f"{key} {_word(started.settings.get(key))} → {_word(now.settings.get(key))}"
        for key in _changed(started.settings, now.settings)
    ]
    found += [f"config.{key}" for key in _changed(started.config, now.config)]
    plugin = started.settings.get("plugin")
    changed = _changed(started.plugin_config, now.plugin_config)
    found += [f"plugins.{plugin}.config.{key}" for key in changed]
    before, after = set(started.environment), set(now.environment)
    found += [f"without {name}" for name in sorted(before - after)]
    found += [f"with {name}" for name in sorted(after - before)]
    if started.env_digest != now.env_digest and before == after:
        found.append("env")
    for name in _changed(started.secrets, now.secrets):
        source = now.secrets.get(name)
        found.append(f"secret {name} from {source}" if source else f"without secret {name}")
    return found


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    keys = dict.fromkeys([*before, *after])
    return [key for key in keys if before.get(key) != after.get(key)]


def _word(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value in (None, "") else msgspec.json.encode(value).decode().strip('"')


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as they come back from the snapshot, so that they can be compared."""
    encoded = msgspec.json.encode(values, enc_hook=str)
    plain: dict[str, Any] = msgspec.json.decode(encoded)
    return plain
