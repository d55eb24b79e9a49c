"""How one service is run: what `config.toml` says of it, with every default.

Durations are seconds, sizes are bytes.
"""

from enum import Enum
from pathlib import Path
from typing import Any

import msgspec

from garrison.ipc.character import Character, default_character


class Restart(Enum):
    """When a service that ended is started again, in OTP's words."""

    PERMANENT = "permanent"  # always
    TRANSIENT = "transient"  # after a crash
    TEMPORARY = "temporary"  # never


class AgentSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One agent: who it is. The one without a NAME is who everybody's services speak for."""

    name: str = ""  # its NAME, which its services' NAMEs begin with
    character: Character = msgspec.field(default_factory=default_character)
    file: Path | None = None  # where the character was read
    open_to_others: str = ""  # why that file must hold no secret that is used; empty: it may

    def __repr__(self) -> str:  # a character has secrets
        return f"AgentSpec({self.name!r}, {self.character.name!r})"


class Supervision(msgspec.Struct, frozen=True, kw_only=True):
    """When a service is started, watched, restarted and stopped."""

    restart: Restart = Restart.PERMANENT
    depends_on: tuple[str, ...] = ()  # NAMEs that run before it starts and stop after it
    bind_to: tuple[str, ...] = ()  # NAMEs whose restart restarts it
    autostart: bool = True
    exclusive: bool = True  # False: a new incarnation need not wait for a leftover of the old
    start_timeout: float = 60.0  # for Plugin.init and Service.start together
    grace: float = 10.0  # for drain and Service.stop
    watchdog: float = 10.0  # longest silence of the service's loop; 0 is never
    intensity: int = 5  # so many restarts …
    period: float = 60.0  # … within so many seconds, and it is failed; intensity 0 is unlimited
    health_interval: float = 10.0  # between calls of the service's own `health`; 0 is never


class CallSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The calls that a service makes, and what is recorded of them."""

    timeout: float = 30.0  # a call's deadline, where its caller names none
    window: int = 256  # calls in flight from this service to one other
    window_bytes: int = 16 * 1024 * 1024  # and their arguments' bytes
    record_values: bool = False  # crash reports show arguments and results


class ProcessLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a service's process may use, and the user it runs as."""

    memory_max: int = 0  # resident bytes of it and all that it started; 0 is without limit
    processes: int = 0  # it and all that it started; 0 is without limit
    open_files: int = 0  # descriptors of each of its processes; 0: as the supervisor's
    cpu_weight: int = 0  # its share beside the others', of which each has 100; 0: that
    nice: int | None = None  # None, here and below: as the supervisor's
    oom_score_adj: int | None = None
    umask: int | None = None
    working_directory: Path | None = None
    user: str = ""  # name or number of its process's user; empty: the supervisor's user
    group: str = ""  # likewise; empty: that user's own
    no_new_privs: bool = False  # nothing that it starts gains what it has not


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """A service's environment variables and secrets."""

    env: dict[str, str] = {}
    pass_env: tuple[str, ...] = ()  # names copied from the supervisor's environment
    env_file: Path | None = None
    secrets: dict[str, str | Path] = {}  # name in the worker → name of a source, or its own file


class ServiceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One service: its names, how it is supervised, and what its worker is given."""

    name: str
    plugin: str
    service_type: str
    agent: AgentSpec = AgentSpec()
    with_parts: bool = False  # its plugin's actions, models and the like are in its worker
    priority: int | None = None  # of its models; None: what the plugin says
    supervision: Supervision = Supervision()
    calls: CallSettings = CallSettings()
    limits: ProcessLimits = ProcessLimits()
    environment: Environment = Environment()
    config: dict[str, Any] = {}


GROUPS: dict[str, type[msgspec.Struct]] = {
    "supervision": Supervision,
    "calls": CallSettings,
    "limits": ProcessLimits,
    "environment": Environment,
}


def service_spec(base: ServiceSpec | None = None, /, **values: Any) -> ServiceSpec:
    """Return a spec from flat keys, such as `name`, `watchdog` and `env`.

    Args:
        base: Where the keys that are not given come from; None: the defaults.
        values: Keys of `ServiceSpec` and of its groups.

    Raises:
        TypeError: A key is unknown, or the names are missing.
    """
    for group, kind in GROUPS.items():
        keys = {key: values.pop(key) for key in kind.__struct_fields__ if key in values}
        if keys:
            current = kind() if base is None else getattr(base, group)
            values[group] = msgspec.structs.replace(current, **keys)
    return ServiceSpec(**values) if base is None else msgspec.structs.replace(base, **values)


def flat_keys(spec: ServiceSpec) -> dict[str, Any]:
    """Return a spec's values by flat key; the reverse of `service_spec`."""
    values = msgspec.structs.asdict(spec)
    for group in GROUPS:
        values |= msgspec.structs.asdict(values.pop(group))
    return values


class CgroupLimits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a worker's cgroup is to hold it to; 0 is nothing."""

    memory: int = 0  # bytes
    tasks: int = 0  # threads, of all its processes
    cpu_weight: int = 0


class PluginSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One plugin: where its code is and what its `init` is given."""

    name: str
    use: str
    config: dict[str, Any] = {}


class HostSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The host itself: where it writes and how it treats the whole."""

    home: Path
    run: Path  # sockets and locks
    state: Path
    logs: Path
    preload: tuple[str, ...] = ()  # modules that the launcher imports once
    orphan_grace: float = 10.0  # so long services outlive a supervisor that is gone
    cgroups: bool = True  # one for each worker, where this process may make some
    starts_at_once: int = 4  # workers that import and initialize at the same time
    max_message: int = 64 * 1024 * 1024  # the largest frame that is taken from anyone
    log_bytes: int = 10 * 1024 * 1024  # the largest log file …
    log_files: int = 5  # … and how many of them one service has at most
    chaos: bool = False  # whether `garrison chaos` may injure what runs here
