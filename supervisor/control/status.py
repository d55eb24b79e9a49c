"""The rows of `garrison status`: the host and each service."""

import contextlib
import os
import re
import time
from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path
from typing import Any

import msgspec

from garrison.ipc.errors import ConfigError, StartError
from garrison.ipc.messages import Held, State
from garrison.ipc.system.installed import installed_version
from garrison.ipc.system.process_tree import pid_namespace
from garrison.supervisor.bus.router import BusRouter
from garrison.supervisor.config.basis import Rejection
from garrison.supervisor.config.host_spec import HostSpec
from garrison.supervisor.config.spec import ServiceSpec
from garrison.supervisor.config.units import WHOLE
from garrison.supervisor.crashes.report import CrashSummary
from garrison.supervisor.disk import DiskState
from garrison.supervisor.lifecycle.limits import Used
from garrison.supervisor.lifecycle.order_note import OrderNote
from garrison.supervisor.lifecycle.pausing import PauseNote
from garrison.supervisor.lifecycle.policy import has_process
from garrison.supervisor.lifecycle.services import (
    HeldService,
    Service,
    ServiceTable,
    UnreadablePlugin,
)
from garrison.supervisor.lifecycle.start_record import StartRecord, differences
from garrison.supervisor.places import Places
from garrison.supervisor.processes.capabilities import (
    Capabilities,
    format_unsupported,
    unsupported_limits,
)
from garrison.supervisor.processes.engine import SELF, Engine, Measured

LAST_LINES = 12  # of a traceback
CRASHES = 5  # shown of one service
URL_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^/\s]+@")  # up to the last @: a password may have one


class HostState(msgspec.Struct, frozen=True):
    """The state of the supervisor itself."""

    config: Path
    config_paths: tuple[Path, ...]  # with its overlays
    stopping: bool
    registered: bool
    settled: bool
    rejected_frames: int
    rejected: tuple[Rejection, ...] = ()  # of the config on disk, as it was when last read
    not_preloaded: Mapping[str, str] = msgspec.field(default_factory=dict)  # module → why
    disk: DiskState = msgspec.field(default_factory=DiskState)


class StatusReport:
    """Composes the rows.

    Args:
        host: The settings of the host.
        boot: The id of this run of the supervisor.
        services: The services.
        engine: Has the workers.
        bus: Has counted messages.
        machine: What this machine supports.
        host_state: Returns the state of the supervisor.
        last_crashes: Returns a service's last crashes.
        read_disk: Reads the config; returns a function: what a service would be started with now.
        direct_pairs: Returns the NAMEs of callers and callees that have a direct route.
        places: Where services run.
    """

    def __init__(
        self,
        host: HostSpec,
        boot: str,
        services: ServiceTable,
        engine: Engine,
        bus: BusRouter,
        machine: Capabilities,
        host_state: Callable[[], HostState],
        last_crashes: Callable[[str, int], list[CrashSummary]],
        read_disk: Callable[[], Callable[[str], StartRecord]],
        direct_pairs: Callable[[], list[tuple[str, str]]],
        places: Places,
    ) -> None:
        self._host, self._boot, self._services = host, boot, services
        self._engine, self._bus, self._machine = engine, bus, machine
        self._host_state, self._last_crashes = host_state, last_crashes
        self._read_disk, self._direct_pairs = read_disk, direct_pairs
        self._places = places
        self._on_disk: Callable[[str], StartRecord] | None = None
        self._began = time.monotonic()
        self.version = installed_version()  # of the code that this process has loaded

    def supervisor_row(self) -> dict[str, Any]:
        """Return the row of the supervisor."""
        used, state = self._engine.measure(SELF), self._host_state()
        installed = installed_version()
        return {
            "pid": os.getpid(),
            "pid_namespace": pid_namespace(),
            **self._engine.status(),
            "version": self.version,
            "home": str(self._host.home),
            "config": str(state.config),
            "config_paths": [str(path) for path in state.config_paths],
            "boot": self._boot,
            "uptime_s": time.monotonic() - self._began,
            "stopping": state.stopping,
            "registered": state.registered,
            "settled": state.settled,
            "rss_bytes": used.rss_bytes,
            "cpu_percent": used.cpu_percent,
            "descriptors": _descriptors(),
            "messages": self._bus.carried,
            "refused_frames": state.rejected_frames,
            "config_rejected": [one.as_data() for one in state.rejected],
            "cpu_seconds": used.cpu_seconds,
            "installed": installed,
            "upgrade_pending": installed != self.version,
            "not_preloaded": dict(state.not_preloaded),
            "disk": _disk(state.disk),
            "nodes": [
                {key: row[key] for key in ("name", "up", "drained", "lease_age_s")}
                for row in self._places.nodes()
            ],
        }

    def service_row(self, service: Service, detail: bool) -> dict[str, Any]:
        """Return the row of a service.

        Args:
            service: The service.
            detail: Whether to add what only `status NAME` shows.
        """
        child, current, now = service.child, service.current, time.monotonic()
        live = has_process(child.state) and current.pid != 0
        measure, command = self._engine.measure, bool(service.spec.plain.command)
        measured = measure(current.token, detail, command) if live else Measured()
        row = {
            "name": service.name,
            "service_type": service.spec.service_type,
            "plugin": service.spec.plugin,
            "agent": service.spec.agent.name or None,
            "state": child.state.value,
            "wanted": child.wanted,
            "pid": current.pid or None,
            "uid": current.uid if live and current.uid >= 0 else None,
            "generation": child.generation,
            "uptime_s": now - child.since if child.state is State.RUNNING else 0.0,
            "restarts": child.restarted,
            "last_exit": service.last_exit or None,
            "reason": self._reason(service) or None,
            "traceback": _last_lines(service.traceback),
            "rss_bytes": measured.rss_bytes,
            "cpu_percent": measured.cpu_percent,
            "memory_max": service.spec.limits.memory_max or None,
            "processes_max": service.spec.limits.processes or None,
            "tree": _tree(measured.tree),
            "in_flight": current.in_flight,
            "facts": current.facts,
            "warnings": [*self._contact_warnings(current.handle.node), *current.warnings],
            "threads": current.threads,
            "health": _health(service, now),
            "beat_age_s": now - current.beat_at if live and current.beat_at else None,
            "config_rejected": self._rejected(service.spec),
            "cpu_seconds": measured.cpu_seconds,
            "link": _link(service, now),
            "python": _python(service),
            "reload": _second(self._services.second.get(service.name)),
            "node": self._places.shown_node(service) or None,
            **_pause(service.paused),
        }
        return row | self._detail(service) if detail else row

    def _contact_warnings(self, node: str) -> list[str]:
        """Return that the node of a process has no contact, if so."""
        lost = [one for one in self._places.nodes() if one["name"] == node and not one["up"]]
        return [f"node {node} {one['problem']}: calls to it wait" for one in lost] if node else []

    def _reason(self, service: Service) -> str:
        """Return why a service does not run, in words."""
        if service.state is State.RUNNING:
            return ""
        if extended := _extension(service):
            return extended
        if held := service.held_words():
            return f"waits for {held}"
        if service.state is State.QUEUED:
            return self._services.waiting_reason(service) or service.reason
        return service.reason

    def _rejected(self, spec: ServiceSpec) -> str | None:
        """Return why a service goes on as accepted and not by the config on disk, in words.

        The host's row shows if the file as a whole is not used.
        """
        concern = [
            one for one in self._host_state().rejected if one.unit != WHOLE and one.concerns(spec)
        ]
        return str(concern[0].error) if concern else None

    def _detail(self, service: Service) -> dict[str, Any]:
        command = {"command": list(service.spec.plain.command) or None}
        return _capabilities(service) | self._supervision(service) | self._start(service) | command

    def read_disk(self) -> None:
        """Read the config on disk, for the details of the next rows."""
        self._on_disk = None
        with contextlib.suppress(ConfigError):
            self._on_disk = self._read_disk()

    def _start(self, service: Service) -> dict[str, Any]:
        """Return what a service was started with, and what a restart would change."""
        started, others = service.current.started, list(self._services)
        differs, now = list[str](), None
        try:
            now = self._on_disk(service.name) if self._on_disk is not None else None
        except (ConfigError, StartError) as error:
            differs = [f"{error}"]
        if started is not None and now is not None:
            differs = differences(started, now)
        shown = started or now
        return {
            "started_with": started and _started_with(started),
            "differs": differs if started is not None else [],
            "secrets": shown.secrets if shown is not None else {},
            "dependents": [
                one.name for one in others if service.name in one.spec.supervision.depends_on
            ],
            "bound_by": [
                one.name for one in others if service.name in one.spec.supervision.bind_to
            ],
        }

    def _supervision(self, service: Service) -> dict[str, Any]:
        child, spec, current = service.child, service.spec, service.current
        timed = child.state in {State.BACKOFF, State.FAILED} and child.deadline < inf
        callers = self._bus.pairs.to(current.token) if current.token else {}
        by_token = self._services.by_token
        unsupported = unsupported_limits(spec, self._machine)
        return {
            "again_in_s": max(child.deadline - time.monotonic(), 0.0) if timed else None,
            "log": str(self._host.logs / f"{service.name}.log"),
            "messages_from": {
                by_token[token].name: count for token, count in callers.items() if token in by_token
            },
            "refused_frames": current.refused_frames,
            "held_up_by": [_held(one, caller) for one, caller in current.held_up_by],
            "last_exit_time": service.last_exit_at or None,
            "deaths": self._last_crashes(service.name, CRASHES),
            "order": _order(service.order),
            "direct_to": [to for name, to in self._direct_pairs() if name == service.name],
            "direct_from": [name for name, to in self._direct_pairs() if to == service.name],
            "unheld": [format_unsupported(service.name, limit) for limit in unsupported],
        }


def _order(note: OrderNote) -> dict[str, Any] | None:
    """Return the last order that a service was given; None if it was given none."""
    if not note.number:
        return None
    return {"verb": note.verb, "who": note.who, "why": note.why or None, "at": note.at}


def without_passwords(value: Any) -> Any:
    """Return a value of a config with `***` in place of each password in a URL."""
    if isinstance(value, str):
        return URL_PASSWORD.sub(r"\1***@", value)
    if isinstance(value, Mapping):
        return {key: without_passwords(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_passwords(one) for one in value]
    return value


def _started_with(started: StartRecord) -> dict[str, Any]:
    return {
        "grace": started.settings.get("grace"),
        "config": without_passwords(started.config),
        "plugin_config": without_passwords(started.plugin_config),
        "environment": list(started.environment),
        "secrets": started.secrets,
        "settings": started.settings,
    }


def _capabilities(service: Service) -> dict[str, Any]:
    spec, manifest = service.spec, service.manifest
    return {
        "capability_description": manifest.description,
        "character": spec.agent.character.name,
        "methods": list(manifest.methods),
        "left_out": manifest.left_out,
        "actions": list(manifest.actions),
        "providers": list(manifest.providers),
        "evaluators": list(manifest.evaluators),
        "gate": manifest.gate,
        "models": list(manifest.models),
        "sends_for": list(manifest.sends_for),
        "events": list(service.current.events),
        "depends_on": list(spec.supervision.depends_on),
        "bind_to": list(spec.supervision.bind_to),
        "notes": list(manifest.notes),
        "restart": spec.supervision.restart.value,
        "autostart": spec.supervision.autostart,
    }


def unreadable_row(plugin: UnreadablePlugin, detail: bool) -> dict[str, Any]:
    """Return the row of a plugin that could not be read: one failed service of its NAME."""
    row = _absent_row(plugin.name) | {
        "plugin": plugin.name,
        "state": (State.REGISTERED if plugin.reading else State.FAILED).value,
        "restarts": max(plugin.tries - 1, 0),
        "reason": plugin.reason if plugin.reading else f"its plugin: {plugin.reason}",
        "traceback": _last_lines(plugin.traceback),
    }
    if detail:
        again = plugin.again_at - time.monotonic()
        row["again_in_s"] = None if again == inf else max(again, 0.0)
    return row


def held_row(service: HeldService) -> dict[str, Any]:
    """Return the row of a service that is held back, because its config was rejected."""
    reason = f"its config was rejected: {service.reason}"
    return _absent_row(service.name) | {"reason": reason, "config_rejected": service.reason}


def _absent_row(name: str) -> dict[str, Any]:
    """Return the row of what is in the config and has no process."""
    return {
        "name": name,
        "service_type": None,
        "plugin": None,
        "agent": None,
        "state": State.REGISTERED.value,
        "wanted": True,
        "pid": None,
        "uid": None,
        "generation": 0,
        "uptime_s": 0.0,
        "restarts": 0,
        "last_exit": None,
        "reason": None,
        "traceback": [],
        "rss_bytes": 0,
        "cpu_percent": 0.0,
        "memory_max": None,
        "processes_max": None,
        "tree": None,
        "in_flight": 0,
        "facts": {},
        "warnings": [],
        "threads": None,
        "health": None,
        "beat_age_s": None,
        "config_rejected": None,
        "cpu_seconds": 0.0,
        "link": None,
        "python": None,
        "reload": None,
        "node": None,
        **_pause(None),
    }


def _pause(note: PauseNote | None) -> dict[str, Any]:
    """Return who paused a service, and when; null where that is not known, or it is not paused."""
    known = note or PauseNote()
    return {
        "paused": note is not None,
        "paused_since": known.at or None,
        "paused_by": known.by or None,
        "paused_why": known.why or None,
    }


def _second(second: Service | None) -> dict[str, Any] | None:
    """Return the other incarnation of a service during a reload; None: there is none."""
    if second is None:
        return None
    return {
        "pid": second.current.pid or None,
        "generation": second.child.generation,
        "state": second.state.value,
    }


def _python(service: Service) -> dict[str, Any] | None:
    """Return the interpreter that a service runs under; None: the host's own."""
    started, hello = service.current.started, service.current.hello
    path = service.plugin.interpreter if started is None else started.settings.get("python")
    if not path:
        return None
    return {
        "path": path,
        "version": (hello and hello.python) or None,
        "garrison": (hello and hello.garrison) or None,
        "wire": hello and hello.wire,
    }


def _extension(service: Service) -> str:
    """Return what a start or stop that was extended does, and for how long; empty without one."""
    if not service.current.extended or not has_process(service.state):
        return ""
    left = service.child.deadline - time.monotonic()
    return f"{service.current.extended} ({max(left, 0.0):.0f} s left)"


def _held(held: Held, caller: str) -> dict[str, Any]:
    """Return one thing that the end of a service waits for."""
    return {
        "kind": held.kind,
        "name": held.name,
        "caller": caller or None,
        "age_s": held.age_s,
        "cancelled": held.cancelled,
    }


def _health(service: Service, now: float) -> dict[str, Any] | None:
    """Return the last result of a service's own `health`; None if there is none."""
    current = service.current
    if current.health is None or not has_process(service.state):
        return None
    return {
        "well": not current.health.problem,
        "problem": current.health.problem or None,
        "age_s": now - current.health_at,
        "took_s": current.health.took_s,
    }


def _link(service: Service, now: float) -> dict[str, Any] | None:
    """Return what a platform has reported of its connection; None if it is none, or does not run.

    The ages are those of its last heartbeat, and the time since.
    """
    link, since = service.current.link, now - service.current.beat_at
    if link is None or service.state is not State.RUNNING:
        return None

    def age(seconds: float | None) -> float | None:
        return None if seconds is None else seconds + since

    return {
        "disconnected": link.problem or None,
        "last_in_s": age(link.in_s),
        "last_out_s": age(link.out_s),
        "last_alive_s": age(link.alive_s),
        "last_probe_s": age(link.probe_s),
        "deaf": link.probe_problem or None,
    }


def _disk(disk: DiskState) -> dict[str, Any]:
    """Return the space on the home's disk, as it was when it was checked last."""
    return {
        "low": disk.low,
        "free_bytes": disk.free or None,
        "limit_bytes": disk.limit or None,
        "folder": disk.folder or None,
    }


def _tree(used: Used | None) -> dict[str, Any] | None:
    """Return what a service's process tree uses."""
    if used is None:
        return None
    return {"memory_bytes": used.memory, "processes": used.processes, "more": used.least}


def _last_lines(traceback: str) -> list[str]:
    return traceback.rstrip().splitlines()[-LAST_LINES:]


def _descriptors() -> int:
    """Return how many descriptors this process has open; 0 if none is left to count them."""
    with contextlib.suppress(OSError):
        return len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208 (its own is closed by now)
    return 0
