"""Every key of `[host]`, once: its type, unit, bounds, default and documentation."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import msgspec

from .keys import Key, count, duration

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
            zero="processors, 2 at least",
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

    @property
    def kept_logs(self) -> tuple[int, int]:
        """Return the largest size of a service's log file in bytes, and how many are kept."""
        if self.log_target is LogTarget.STDOUT:
            return KEPT_FOR_CRASHES
        return self.log_bytes, self.log_files
