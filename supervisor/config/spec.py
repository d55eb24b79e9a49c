"""Every key of services, plugins and agents, once: type, unit, bounds, default, documentation.

Durations are seconds, sizes are bytes. `schema` derives from here what it accepts, and `reference`
what it documents.
"""

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import msgspec

from garrison.ipc.character import Character, default_character

from .command_spec import PlainCommand
from .engine_spec import Placement
from .keys import Key, KeyGroup, count, duration, inherited, services


class Restart(Enum):
    """When a service that ended is started again, in OTP's words."""

    PERMANENT = "permanent"  # always
    TRANSIENT = "transient"  # after a crash
    TEMPORARY = "temporary"  # never


class TaskErrors(Enum):
    """What an exception of a task of the service's own does if nothing retrieves it."""

    LOG = "log"
    CRASH = "crash"


class WhenPaused(Enum):
    """What happens to a call to a service that is paused."""

    WAIT = "wait"
    REFUSE = "refuse"


class AgentSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One agent and its character. The agent without a NAME has the services of no other agent."""

    name: str = ""  # the NAMEs of its services begin with it
    character: Character = msgspec.field(default_factory=default_character)
    file: Path | None = None  # where the character was read
    open_to_others: str = ""  # why no secret of that file may be used; empty: they may

    def __repr__(self) -> str:  # a character has secrets
        return f"AgentSpec({self.name!r}, {self.character.name!r})"


class Supervision(KeyGroup, frozen=True, kw_only=True):
    """When a service is started, watched, restarted and stopped."""

    depends_on: Annotated[
        tuple[str, ...],
        services("Services that run before this one starts, and stop after it.", '["database"]'),
    ] = ()
    bind_to: Annotated[
        tuple[str, ...],
        services("Services whose restart restarts this one too.", '["browser"]'),
    ] = ()
    restart: Annotated[
        Restart,
        Key(
            'When a service that ended is started again: "permanent" is always, "transient" '
            'after a crash, "temporary" never.'
        ),
    ] = Restart.PERMANENT
    autostart: Annotated[
        bool, Key("Start the service with the host. Otherwise `garrison start NAME` starts it.")
    ] = True
    exclusive: Annotated[
        bool, Key("Start a new process only when the old one and all its child processes are gone.")
    ] = True
    start_timeout: Annotated[
        float,
        duration(
            "The time for the plugin's `init` and the service's `start` together. After it the "
            "start has failed, and is tried again.",
            above=0,
        ),
    ] = 60.0
    grace: Annotated[
        float,
        duration("The time to finish open calls and run `stop`. After it the process is killed."),
    ] = 10.0
    watchdog: Annotated[
        float,
        duration(
            "The longest time that the service's event loop may be blocked. After it the stacks "
            "are written to the log, and the service is restarted.",
            zero="never",
        ),
    ] = 10.0
    task_errors: Annotated[
        TaskErrors,
        Key(
            "What the exception of a task does that the service itself created and nothing has "
            'awaited 5 s after its end: "log" is a line in the log and in `status`, "crash" is a '
            "crash of the service. Tasks that libraries created are logged."
        ),
    ] = TaskErrors.LOG
    intensity: Annotated[
        int,
        count(
            "The number of restarts after a crash within `period`. One more, and the service is "
            "failed; it is then tried every few minutes. Starts that fail do not count.",
            "restarts",
            0,
            zero="without limit",
        ),
    ] = 5
    period: Annotated[float, duration("The time in which crashes are counted.", above=0)] = 60.0
    when_paused: Annotated[
        WhenPaused,
        Key(
            'What calls to the service do while `garrison pause` holds it: "wait" until it is '
            'resumed, or their deadline is over; "refuse" is an error at once.'
        ),
    ] = WhenPaused.WAIT
    health_interval: Annotated[
        float,
        duration(
            "The time between two calls of the service's `health`, if it has one. After two bad "
            "or missing answers in a row, the service is restarted.",
            zero="never",
        ),
    ] = 10.0


class CallSettings(KeyGroup, frozen=True, kw_only=True):
    """The calls that a service makes and serves, and what a crash report shows of them."""

    timeout: Annotated[
        float, duration("The deadline of a call that sets none itself.", above=0)
    ] = 30.0
    window: Annotated[
        int,
        count(
            "The number of calls to one other service that may be without an answer. Further "
            "calls wait.",
            "calls",
        ),
    ] = 256
    window_bytes: Annotated[
        int, count("The size of the arguments of those calls. Further calls wait.", "bytes")
    ] = 16 * 1024 * 1024
    threads: Annotated[
        int,
        count(
            "The number of plain `def` methods of the service that run at once, each in a thread. "
            "Calls of one method take three quarters of them at most. Further calls wait.",
            "threads",
        ),
    ] = 16
    record_values: Annotated[
        bool,
        Key(
            "Show the first 256 bytes of the arguments and results of the last calls in a "
            "crash report. Otherwise it shows their sizes alone."
        ),
    ] = False


class ProcessLimits(KeyGroup, frozen=True, kw_only=True):
    """What a service's process may use, and the user that it runs as."""

    memory_max: Annotated[
        int,
        count(
            "The resident memory of the service and all processes that it started. A service "
            "that exceeds it is drained and restarted.",
            "bytes",
            1 << 20,  # less was meant as MiB, and no worker fits into it
            zero="without limit",
        ),
    ] = 0
    processes: Annotated[
        int,
        count(
            "The number of processes, with all that the service started. A service that exceeds "
            "it is drained and restarted.",
            "processes",
            0,
            zero="without limit",
        ),
    ] = 0
    open_files: Annotated[
        int,
        count(
            "The number of open files of each of its processes.",
            "descriptors",
            64,  # a worker itself has some twenty
            zero="as the supervisor",
        ),
    ] = 0
    cpu_weight: Annotated[
        int,
        Key(
            "The share of the CPU in relation to the other services.",
            least=0,
            most=10_000,
            zero="100, as each other service",
        ),
    ] = 0
    nice: Annotated[
        int | None,
        inherited(
            "The CPU priority: a higher value yields to other processes.", "10", least=-20, most=19
        ),
    ] = None
    oom_score_adj: Annotated[
        int | None,
        inherited(
            "The out-of-memory killer ends processes with a higher value first.",
            "500",
            least=-1000,
            most=1000,
        ),
    ] = None
    umask: Annotated[
        int | None,
        inherited("The permissions that files of the service do not get.", '"077"', kind="umask"),
    ] = None
    working_directory: Annotated[
        Path | None,
        inherited("The folder in which the process runs.", '"data"'),
    ] = None
    user: Annotated[
        str,
        inherited(
            "The user that the service runs as. The supervisor has to be root for that.",
            '"bot"',
            kind="account",
        ),
    ] = ""
    group: Annotated[
        str,
        Key(
            "The group that the service runs as.",
            kind="account",
            unset="the user's own",
            example='"bot"',
        ),
    ] = ""
    no_new_privs: Annotated[
        bool, Key("Programs that the service starts gain no rights, as `sudo` would.")
    ] = False


class Environment(KeyGroup, frozen=True, kw_only=True):
    """A service's environment variables and secrets. It gets PATH, HOME, LANG and the like too."""

    env: Annotated[
        dict[str, str],
        Key(
            "Environment variables, besides PATH, HOME, LANG and the like, which every service "
            "has. The tables of [defaults] and of the service are merged.",
            kind="env",
            example='{ LOG_LEVEL = "debug" }',
        ),
    ] = {}
    pass_env: Annotated[
        tuple[str, ...],
        Key(
            "Environment variables that are passed on from the supervisor.",
            kind="variable",
            unit="names of environment variables",
            example='["HTTPS_PROXY"]',
        ),
    ] = ()
    env_file: Annotated[
        Path | None,
        Key(
            "A file with lines of KEY=VALUE. They count as secrets, so the file is refused "
            "while other users can read it: run chmod 600.",
            own=True,
            unset="none",
            example='"chat.env"',
        ),
    ] = None
    secrets: Annotated[
        dict[str, str | Path],  # name in the worker → name of a source, or its own file
        Key(
            "Secrets that this service alone gets, and without which it does not start: names, "
            "or a table from a name to where the secret is found.",
            kind="secrets",
            own=True,
            default="[]",
            example='["DISCORD_TOKEN"]',
        ),
    ] = {}


class ServiceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One service: its names, how it is supervised, and what its worker is given."""

    name: str
    plugin: Annotated[
        str,
        Key(
            "The NAME of the plugin that the service is part of. Needed for a second instance.",
            kind="name",
            own=True,
            unset="the plugin with this service_type",
            example='"chat"',
        ),
    ]
    service_type: Annotated[
        str,
        Key(
            "One of that plugin's service_types.",
            name="type",
            kind="name",
            own=True,
            unset="the section's NAME, or the plugin's only one",
            example='"chat"',
        ),
    ]
    was: Annotated[
        str,
        Key(
            "The NAME that the service had before. Its data, mail and orders become this one's.",
            kind="name",
            own=True,
            unset="it was not renamed",
            example='"old-chat"',
        ),
    ] = ""
    agent: AgentSpec = AgentSpec()
    with_parts: bool = False  # its plugin's actions, models and the like are in its worker
    priority: Annotated[
        int | None,
        Key(
            "The rank of the service's models: of those that run, the highest is used.",
            least=-1_000_000_000,
            most=1_000_000_000,
            own=True,
            unset="as the plugin says",
            example="10",
        ),
    ] = None
    supervision: Supervision = Supervision()
    calls: CallSettings = CallSettings()
    limits: ProcessLimits = ProcessLimits()
    environment: Environment = Environment()
    plain: PlainCommand = PlainCommand()
    placement: Placement = Placement()
    config: Annotated[
        dict[str, Any], Key("The service's own settings; its class declares them.", own=True)
    ] = {}


class PluginSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One plugin: where its code is and what its `init` is given."""

    name: str
    use: Annotated[
        str,
        Key(
            "Where the code is: an installed plugin, a module, or an attribute of one.",
            kind="use",
            unset="the plugin's NAME",
            example='"chat"',
        ),
    ]
    python: Annotated[
        Path | None,
        Key(
            "The Python that reads the plugin and runs its services: that of a venv with "
            "libraries of its own. Garrison has to be installed in it.",
            unset="the one that runs the host",
            example='"/srv/x/.venv/bin/python"',
        ),
    ] = None
    config: Annotated[dict[str, Any], Key("The argument of the plugin's `init`.")] = {}

    @property
    def interpreter(self) -> str:
        """Return the path of its own interpreter; empty: it is the host's."""
        return str(self.python or "")


class AgentSection(msgspec.Struct, frozen=True, kw_only=True):
    """The section of one agent: [agent], with `character` alone, or [agents.NAME]."""

    character: Annotated[
        Path | None,
        Key(
            'The character file. "several.json#NAME" names one of several in a file.',
            unset="Eliza",
            example='"eliza.json"',
        ),
    ] = None
    plugins: Annotated[
        tuple[str, ...],
        Key(
            "The plugins that run for this agent.",
            kind="name",
            unit="NAMEs of plugins",
            unset="all of them",
            example='["chat"]',
        ),
    ] = ()
    services: Annotated[
        dict[str, Any],
        Key("The agent's services, with the keys of [services.NAME].", kind="services"),
    ] = {}


GROUPS: dict[str, type[KeyGroup]] = {
    "supervision": Supervision,
    "calls": CallSettings,
    "limits": ProcessLimits,
    "environment": Environment,
    "plain": PlainCommand,
    "placement": Placement,
}


def service_spec(base: ServiceSpec | None = None, /, **values: Any) -> ServiceSpec:
    """Return a spec from flat keys, such as `name`, `watchdog` and `env`.

    Args:
        base: The spec that has the other keys; None: they have their defaults.
        values: Keys of `ServiceSpec` and of its groups.

    Raises:
        TypeError: A key is unknown, or the names are missing.
    """
    for group, kind in GROUPS.items():
        if keys := {key: values.pop(key) for key in kind.__struct_fields__ if key in values}:
            current = kind() if base is None else getattr(base, group)
            values[group] = msgspec.structs.replace(current, **keys)
    return ServiceSpec(**values) if base is None else msgspec.structs.replace(base, **values)


def flat_keys(spec: ServiceSpec) -> dict[str, Any]:
    """Return a spec's values by flat key; the reverse of `service_spec`."""
    values = msgspec.structs.asdict(spec)
    for group in GROUPS:
        values |= msgspec.structs.asdict(values.pop(group))
    return values
