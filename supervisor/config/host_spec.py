"""Every key of `[host]`, once: its type, unit, bounds, default and documentation."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import msgspec

from .engine_spec import EngineSpec
from .keys import Key, count, duration
from .operators import OperatorTeam

# Each worker would need 15 MiB more if it imported them itself
TRACE_MODULES = ("garrison.workers.process.method_spans", "garrison.workers.process.span_export")
KEPT_FOR_CRASHES = (64 * 1024, 2)  # bytes of a log file, and files


class LogTarget(Enum):
    """Where the lines of services are kept for people."""

    FILES = "files"
    STDOUT = "stdout"


class LogFormat(Enum):
    """How `garrison up` prints events and lines."""

    TEXT = "text"
    JSON = "json"


class HostSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The host itself: its files and what holds for all services together."""

    include: Annotated[
        tuple[str, ...],
        Key(
            "Further files with sections of plugins, services, agents and hooks. A pattern "
            "begins at this file's folder; so do the paths in those files.",
            kind="file_pattern",
            unit="patterns",
            example='["conf.d/*.toml"]',
        ),
    ] = ()
    home: Annotated[
        Path,
        Key(
            "The folder for everything that garrison writes. `--home` and "
            "`$GARRISON_HOME` override it.",
            default='".garrison"',
        ),
    ]
    run: Annotated[
        Path,
        Key(
            "The folder for sockets and locks. Its path has at most 82 bytes, because a Unix "
            "socket's path has at most 107.",
            default='".garrison/run"',
        ),
    ]
    state: Annotated[
        Path, Key("The folder for what outlives a supervisor.", default='".garrison/state"')
    ]
    logs: Annotated[
        Path, Key("The folder for the log files, one for each service.", default='".garrison/logs"')
    ]
    log_bytes: Annotated[
        int,
        count(
            "The largest size of a log file. A full one moves to NAME.log.1, what was there to "
            "NAME.log.2, and so on.",
            "bytes",
            1 << 16,
        ),
    ] = 10 * 1024 * 1024
    log_files: Annotated[
        int, count("The number of log files of one service, with the current one.", "files", 2)
    ] = 5
    log_target: Annotated[
        LogTarget,
        Key(
            'Where the lines of services are kept: "files" is in `logs`, with a copy on the '
            'output of `garrison up`. With "stdout" the output is the copy that counts, and the '
            "files keep what crash reports need: 64 KiB, twice."
        ),
    ] = LogTarget.FILES
    log_format: Annotated[
        LogFormat,
        Key(
            'How `garrison up` prints events and the lines of services: "text", or "json", an '
            "object a line with `time`, `service`, and `line` or `event`."
        ),
    ] = LogFormat.TEXT
    disk_low: Annotated[
        str,
        Key(
            "The free space of the home's disk below which an event `disk.low` is recorded, as a "
            "size or in percent; `0` is none. `garrison status` shows it, and hooks are run on it.",
            kind="amount",
            example='"5%"',
        ),
    ] = "512MiB"
    preload: Annotated[
        tuple[str, ...],
        Key(
            "Modules to import once, before any worker starts, so that workers start faster.",
            kind="module",
            unit="modules",
            example='["discord", "openai"]',
        ),
    ] = ()
    orphan_grace: Annotated[
        float,
        duration(
            "How long services continue after their supervisor was lost. A new supervisor adopts "
            "them within that time; after it they stop."
        ),
    ] = 10.0
    stop_timeout: Annotated[
        float,
        duration(
            "The longest time that an ordered stop of the host takes. After it, what still runs is "
            "killed. `garrison check` shows how long the services may take.",
            zero="no bound",
        ),
    ] = 0.0
    cgroups: Annotated[
        bool,
        Key(
            "Give each worker a cgroup of its own, if possible, so that all its processes are "
            "ended at once. Without one, its process tree is searched for them."
        ),
    ] = True
    starts_at_once: Annotated[
        int,
        count(
            "The number of services that start at the same time: `init` and `start`. A start that "
            "only waits does not count.",
            "services",
            zero="2 for each processor",
        ),
    ] = 0
    max_message: Annotated[
        int, count("The largest message that is accepted from any process.", "bytes", 1 << 20)
    ] = 64 * 1024 * 1024
    chaos: Annotated[
        bool,
        Key(
            "Let `garrison chaos` kill, stop and flood the services here. Workers that were "
            "started before this was set do not support it: restart them."
        ),
    ] = False
    direct: Annotated[
        bool,
        Key(
            "Let services that call each other often do so over sockets of their own, without the "
            "supervisor in between: `garrison graph` shows which."
        ),
    ] = True
    traces: Annotated[
        str,
        Key(
            "The address of an OpenTelemetry collector that receives traces of all calls, by OTLP "
            "over HTTP. `/v1/traces` is added to it. It needs the extra `otel`. Workers that were "
            "started before this was set send none: restart them.",
            kind="collector",
            example='"http://127.0.0.1:4318"',
        ),
    ] = ""
    traces_ratio: Annotated[
        float,
        Key(
            "The share of traces that are recorded. What a trace begins with decides for all of "
            "it.",
            kind="ratio",
            example="0.1",
        ),
    ] = 1.0
    traces_headers: Annotated[
        str,
        Key(
            "The name of a secret with the headers of each request to the collector, as "
            "`NAME=VALUE,NAME=VALUE`. It is read from the supervisor's environment or from "
            "systemd's credentials, and is no variable of any service.",
            kind="secret_name",
            example='"OTEL_EXPORTER_OTLP_HEADERS"',
        ),
    ] = ""
    operators: Annotated[
        dict[str, OperatorTeam],
        Key(
            "Other users of this machine who may give some orders about some services. Each team "
            "has `group` or `users`, `services`, and `may`: a list of status, logs, restart, "
            "start, stop, pause; without it status and logs.",
            kind="operators",
        ),
    ] = {}
    engine: EngineSpec = EngineSpec()  # the table [engine]

    @property
    def preloaded(self) -> tuple[str, ...]:
        """Return the modules to import before any worker starts, those that traces need too."""
        return (*self.preload, *TRACE_MODULES) if self.traces else self.preload

    @property
    def kept_logs(self) -> tuple[int, int]:
        """Return the largest size of a service's log file in bytes, and how many are kept."""
        if self.log_target is LogTarget.STDOUT:
            return KEPT_FOR_CRASHES
        return self.log_bytes, self.log_files
