"""Builds what a new worker is sent: its settings, environment, secrets and limits."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec

from garrison.ipc import messages
from garrison.ipc.errors import ConfigError, StartError
from garrison.ipc.messages import PluginSource, Token, encode
from garrison.ipc.system import process_tree
from garrison.ipc.tombstones import Tombstones
from garrison.ipc.tracing import header_values
from garrison.supervisor.bus.endpoints import Endpoints
from garrison.supervisor.config.characters import character_for
from garrison.supervisor.config.environment import (
    SecretFiles,
    UnusableFile,
    host_secret,
    not_granted,
    own_environment,
    service_environment,
)
from garrison.supervisor.config.host_spec import HostSpec
from garrison.supervisor.config.load import Config
from garrison.supervisor.config.plain import command_settings
from garrison.supervisor.config.spec import PluginSpec, ServiceSpec
from garrison.supervisor.lifecycle.handle import Handle
from garrison.supervisor.lifecycle.services import Service
from garrison.supervisor.lifecycle.start_record import StartRecord, start_record
from garrison.supervisor.processes.inquiry import interpreter_stamp
from garrison.supervisor.processes.post_mortem import flight_path
from garrison.supervisor.processes.users import check_access, code_folders, resolve_user

CUDA = "CUDA_VISIBLE_DEVICES"


class CannotStart(Exception):
    """A service cannot be started; a permanent reason needs a change of the config."""

    def __init__(self, reason: str, permanent: bool) -> None:
        self.reason, self.permanent = reason, permanent
        super().__init__(reason)


class PreparedStart(msgspec.Struct, frozen=True):
    """What a start needs."""

    assignment: bytes
    uid: int  # the user that the worker runs as; -1: the host's own
    secrets: dict[str, str]
    record: StartRecord


class AssignmentBuilder:
    """Builds assignments.

    Args:
        host: The settings of the host.
        environ: The environment that secrets are taken from.
        endpoints: The sockets; opened for the user that a worker runs as.
        source: Returns where a plugin's code is.
        still_running: Returns those of the processes that still run.
        report_error: Called with an error of this program.
        tombstones: Returns who was forgotten.
        placed: Returns the node that a service's current incarnation is started on; empty: this
            machine.
        devices: Returns the numbers of the GPUs that a service uses there; empty: none are chosen.
    """

    def __init__(
        self,
        host: HostSpec,
        environ: Mapping[str, str],
        endpoints: Endpoints,
        source: Callable[[PluginSpec], PluginSource],
        still_running: Callable[[Sequence[Handle]], list[Handle]],
        report_error: Callable[[str, Exception], None],
        tombstones: Callable[[], Tombstones] = Tombstones,
        placed: Callable[[Service], str] = lambda service: "",
        devices: Callable[[Service], tuple[int, ...]] = lambda service: (),
    ) -> None:
        self._host, self._environ, self._endpoints = host, environ, endpoints
        self._source, self._still_running = source, still_running
        self._report_error, self._tombstones = report_error, tombstones
        self._placed, self._devices = placed, devices

    def prepare(self, service: Service) -> PreparedStart:
        """Return what the current incarnation of a service is sent.

        Raises:
            CannotStart: The service cannot be started.
        """
        alive = [str(handle.pid) for handle in self._still_running(service.left)]
        if alive and _is_exclusive(service):
            remedy = "end it"
            if not service.manifest.platform:
                remedy += ", or set exclusive = false"
            pids = ", ".join(alive)
            reason = f"a process of its last incarnation still runs (pid {pids}); {remedy}"
            raise CannotStart(reason, permanent=False)
        try:
            return self._prepare(service)
        except StartError as error:
            raise CannotStart(error.reason, permanent=True) from error
        except OSError as error:
            reason = f"its user cannot be given access: {error}"
            raise CannotStart(reason, permanent=False) from error
        except Exception as error:
            self._report_error(f"the start of {service.name}", error)
            reason = f"its assignment cannot be built: {type(error).__name__}: {error}"
            raise CannotStart(reason, permanent=True) from error

    def _prepare(self, service: Service) -> PreparedStart:
        spec, host, token = service.spec, self._host, service.current.token
        data = host.state / "services" / spec.name
        limits, of_user, uid = _limits(spec), None, -1
        if (account := resolve_user(spec, data)) is not None:
            limits = account.put_on(limits)
            uid = limits.uid
            self._endpoints.admit(token, uid)
            if uid >= 0:
                of_user = account.environment
                code = code_folders(service.plugin.python)
                check_access(spec.name, account, [(host.run, 1), (host.state, 1), *code])
        foreign = service.plugin.python is not None
        files = SecretFiles(self._environ)
        found = service_environment(spec, self._environ, files.read, of_user, foreign)
        env, secrets = {**self._own_variables(service), **found.public}, found.values
        character, withheld = character_for(spec, secrets)
        calls = spec.calls
        traces = _traces(host, self._environ, files.read)
        assignment = messages.Assignment(
            name=spec.name,
            source=self._source(service.plugin),
            service_type=spec.service_type,
            generation=service.child.generation,
            token=token,
            paths=self._paths(service, token, uid, data),
            environment=messages.WorkerEnvironment(messages.packed(env), messages.packed(secrets)),
            config={**spec.config, **command_settings(spec)},
            plugin_config=service.plugin.config,
            timing=_timing(spec, host),
            calls=messages.CallLimits(
                calls.timeout, calls.window, calls.window_bytes, host.max_message
            ),
            identity=messages.AgentIdentity(
                spec.agent.name, msgspec.Raw(encode(character)), withheld
            ),
            record_values=calls.record_values,
            with_parts=spec.with_parts,
            priority=spec.priority,
            limits=limits,
            chaos=host.chaos,
            restarted_by=_restarted_by(service),
            terminal=service.terminal or msgspec.UNSET,
            threads=calls.threads,
            task_errors=spec.supervision.task_errors.value,
            not_granted=not_granted(self._environ, found),
            tombstones=self._tombstones(),
            traces=traces,
            mark=process_tree.incarnation_mark(token),
        )
        secrets = secrets | header_values(os.fsdecode(traces.headers))  # none is in a crash report
        stamp = interpreter_stamp(service.plugin.interpreter)
        plugin, stamps = service.plugin, files.stamps
        record = start_record(spec, plugin, found.names, found.sources, stamp, stamps)
        return PreparedStart(messages.encode_assignment(assignment), uid, secrets, record)

    def _own_variables(self, service: Service) -> dict[str, str]:
        """Return variables of a service, which its config may set otherwise."""
        numbers = self._devices(service)
        return {CUDA: ",".join(map(str, numbers))} if numbers else {}

    def _paths(self, service: Service, token: Token, uid: int, data: Path) -> messages.Paths:
        run, spec, curve = self._host.run, service.spec, None
        if self._placed(service):
            control, bus, curve = self._endpoints.admit_remote(token)
        else:
            control, bus = self._endpoints.paths(uid)
        lock = str(run / f"{spec.name}.service.lock") if _is_exclusive(service) else ""
        return messages.Paths(
            control, bus, lock, str(flight_path(run, spec.name, token)), str(data), curve
        )


def _is_exclusive(service: Service) -> bool:
    """Return True if two incarnations must not run at once: two of a platform would answer twice.
    `[defaults]` cannot override that."""
    return service.spec.supervision.exclusive or service.manifest.platform


def _restarted_by(service: Service) -> messages.RestartedBy | None:
    note = service.restarted_by
    return messages.RestartedBy(note.who, note.why, note.at) if note.verb else None


def _traces(
    host: HostSpec, environ: Mapping[str, str], read: Callable[[Path], bytes]
) -> messages.TraceSettings:
    """Return where traces go. What is wrong with their headers ends no service."""
    if not host.traces:
        return messages.TraceSettings()
    name, headers, problem = host.traces_headers, "", ""
    if name:
        try:
            headers = host_secret(name, environ, read)
            problem = "" if headers else f"{name} is not set: export it where the supervisor starts"
        except UnusableFile as error:
            problem = f"the credential {name} {error}"
    packed = os.fsencode(headers)
    return messages.TraceSettings(host.traces, host.traces_ratio, packed, problem)


def _timing(spec: ServiceSpec, host: HostSpec) -> messages.Timing:
    own = spec.supervision
    return messages.Timing(
        own.watchdog, own.start_timeout, own.grace, host.orphan_grace, own.health_interval
    )


def _limits(spec: ServiceSpec) -> messages.WorkerLimits:
    """Return the limits that a worker applies to itself."""
    return messages.WorkerLimits(
        open_files=spec.limits.open_files,
        nice=spec.limits.nice,
        oom_score_adj=spec.limits.oom_score_adj,
        umask=spec.limits.umask,
        working_directory=str(spec.limits.working_directory or ""),
        no_new_privs=spec.limits.no_new_privs,
    )


RecordOnDisk: TypeAlias = Callable[[str], StartRecord]  # by NAME


def record_on_disk(
    config: Config, specs: Iterable[ServiceSpec], environ: Mapping[str, str]
) -> RecordOnDisk:
    """Return the function that finds what a service would be started with now.

    It raises ConfigError for a service that the config has no longer, and StartError for one that
    could not be started.

    Args:
        config: The config on disk.
        specs: Every service of it.
        environ: The environment that secrets are taken from.
    """
    by_name = {spec.name: spec for spec in specs}

    def record(name: str) -> StartRecord:
        if (spec := by_name.get(name)) is None:
            raise ConfigError("it has no such service any more", path=str(config.path))
        files = SecretFiles(environ)
        found = own_environment(spec, environ, files.read)
        plugin = config.plugins[spec.plugin]
        stamp = interpreter_stamp(plugin.interpreter)
        return start_record(spec, plugin, found.names, found.sources, stamp, files.stamps)

    return record
