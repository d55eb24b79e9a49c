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


NO_FILES: Mapping[str, tuple[int, int, int]] = {}


class StartRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one incarnation was started with."""

    settings: dict[str, Any] = {}  # the keys of its section and of [defaults]
    config: dict[str, Any] = {}
    plugin_config: dict[str, Any] = {}
    environment: tuple[str, ...] = ()  # names, without those that every service has
    env_digest: str = ""  # of the table `env`
    secrets: dict[str, str] = {}  # name → where it was found, in words
    code: dict[str, tuple[int, int, int]] = {}  # imported file → inode, mtime in ns, size
    interpreter: str = ""  # the stamp of its own interpreter; empty: it is the host's
    # File that secrets were read from → inode, mtime in ns, size. No digest of a value, which would
    # let any reader try out passwords
    secret_files: dict[str, tuple[int, int, int]] = {}


def start_record(
    spec: ServiceSpec,
    plugin: PluginSpec,
    environment: Iterable[str],
    secrets: Mapping[str, str],
    interpreter: str = "",
    secret_files: Mapping[str, tuple[int, int, int]] = NO_FILES,
) -> StartRecord:
    """Return the record of a start.

    Args:
        spec: The service.
        plugin: Its plugin.
        environment: The names of its variables.
        secrets: Where each of its secrets was found.
        interpreter: What changes with its own interpreter, or why there is none.
        secret_files: Each file that its secrets were read from: inode, mtime in ns, size.
    """
    settings = {"plugin": spec.plugin, "type": spec.service_type, "priority": spec.priority}
    settings |= {"python": plugin.interpreter} if plugin.python else {}
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
        interpreter=interpreter,
        secret_files=dict(secret_files),
    )


def differences(started: StartRecord, now: StartRecord) -> list[str]:
    """Return what another start would change, in words; a setting with both values."""
    found = [
        f"{key} {_word(started.settings.get(key))} → {_word(now.settings.get(key))}"
        for key in _changed(started.settings, now.settings)
    ]
    found += [f"config.{key}" for key in _changed(started.config, now.config)]
    path = now.settings.get("python")
    was, stamp = started.interpreter, now.interpreter
    if path == started.settings.get("python") and was and stamp and was != stamp:
        found.append(stamp if " " in stamp else f"python {path}: its venv or garrison changed")
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
    files = now.secret_files
    found += [
        f"secrets in {file}"
        for file, read in started.secret_files.items()
        if files.get(file, read) != read
    ]
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
