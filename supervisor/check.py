"""`garrison check`: is a configuration usable, its plugins included, without a supervisor.

Each plugin is read in a process of its own that is ended if it takes too long.
"""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from garrison.ipc.errors import ConfigError, StartError
from garrison.ipc.messages import Failing, PluginRead, PluginSource, Reading, encode, packed
from garrison.supervisor.config.characters import unused_characters, unused_secrets
from garrison.supervisor.config.environment import base_environment, worker_environment
from garrison.supervisor.config.load import Config
from garrison.supervisor.config.spec import ServiceSpec
from garrison.supervisor.lifecycle.limits import format_mib, too_small
from garrison.supervisor.processes.capabilities import format_unsupported, unsupported_limits
from garrison.supervisor.processes.machine import detect_capabilities
from garrison.supervisor.processes.users import access_problem, code, may_write, resolve_user

from .plugins import READ_S, checked, configured_services

_decode = msgspec.msgpack.Decoder(PluginRead | Failing).decode


@dataclass
class CheckReport:
    """What a check has found."""

    config: Config
    services: list[ServiceSpec] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    tracebacks: list[str] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        """Tell whether `garrison up` would run everything that the config names."""
        return not self.errors

    def as_data(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return {
            "config": str(self.config.path),
            "home": str(self.config.host.home),
            "usable": self.usable,
            "plugins": list(self.config.plugins),
            "services": [spec.name for spec in self.services],
            "agents": {name: who.character.name for name, who in self.config.agents.items()},
            "errors": self.errors,
            "warnings": self.warnings,
            "notes": self.left_out,
        }

    def lines(self) -> list[str]:
        """Return it for people."""
        names = ", ".join(spec.name for spec in self.services) or "none"
        head = f"{self.config.path}: " + ("usable" if self.usable else "not usable as it is")
        return [
            *(trace for trace in self.tracebacks if trace),
            *(f"error: {error}" for error in self.errors),
            *(f"warning: {warning}" for warning in self.warnings),
            *(f"note: {note}" for note in self.left_out),
            f"{head}; services: {names}",
        ]


def check_config(config: Config, environ: Mapping[str, str]) -> CheckReport:
    """Read every plugin, and hold the config against what they provide."""
    found = CheckReport(config)
    provides: dict[str, list[str]] = {}
    for name in config.plugins:
        said = _read(config, name, environ)
        if isinstance(said, Failing):
            found.errors.append(f"plugin {name} cannot be read: {said.reason}")
            found.tracebacks.append(said.traceback.rstrip())
            continue
        provides[name] = [manifest.service_type for manifest in said.services]
        for problem in said.problems:
            found.errors.append(str(config.error_at(problem.keys, problem.problem)))
        for manifest in said.services:
            for method, why in manifest.left_out.items():
                found.left_out.append(f"{manifest.service_type}.{method} cannot be called: {why}")
            found.left_out += [f"{manifest.service_type}: {note}" for note in manifest.notes]
    try:
        found.services = configured_services(config, provides)
    except ConfigError as error:
        found.errors.append(str(error))
    else:
        agents = config.agents.values()
        found.left_out += [
            *unused_characters(agents, found.services),
            *unused_secrets(agents, found.services),
        ]
    machine = detect_capabilities(config.host.cgroups)
    for spec in found.services:
        found.warnings += [
            format_unsupported(spec.name, one) for one in unsupported_limits(spec, machine)
        ]
        if small := too_small(spec.limits):
            found.warnings.append(
                f"services.{spec.name}.memory_max is {format_mib(spec.limits.memory_max)}: "
                f"{small}, so it would be ended again and again"
            )
        folder = spec.limits.working_directory
        if folder is not None and not folder.is_dir():
            why = f"{spec.name} would not start: there is no folder {folder}; make it"
            where = config.key_path(spec.name, "working_directory")
            found.warnings.append(str(config.error_at(where, why)))
        try:
            worker_environment(spec, environ)
        except StartError as error:
            found.warnings.append(f"{error.service} would not start: {error.reason}")
        errors, warnings = user_problems(config, spec)
        found.errors += [one for one in errors if one not in found.errors]  # once of [defaults]
        found.warnings += [one for one in warnings if one not in found.warnings]
    return found


def user_problems(config: Config, spec: ServiceSpec) -> tuple[list[str], list[str]]:
    """Return why a service cannot run as the user that its config names, with file and key; and
    what to beware of."""
    where = config.key_path(spec.name, "user" if spec.limits.user else "group")
    try:
        account = resolve_user(spec, config.host.state / "services" / spec.name)
    except StartError as error:
        return [str(config.error_at(where, error.reason))], []
    if account is None:
        return [], []
    host, beside = config.host, _beside(config, spec)
    # The home's own folders are opened at its start, so what is above them is asked about.
    above = [one for one in (host.run, host.state) if not one.is_relative_to(host.home)]
    ways = [(folder.parent, 1) for folder in (host.home, *above)]
    ways += [(path, 5 if path.is_dir() else 4) for path in beside]
    ways += [(folder, 1)] if (folder := spec.limits.working_directory) is not None else []
    problems = [access_problem(path, account, wanted) for path, wanted in (*ways, *code())]
    errors = [str(config.error_at(where, problem)) for problem in problems if problem]
    open_to_it = next((path for path in beside if account.uid and may_write(path, account)), None)
    if open_to_it is None:
        return errors, []
    beware = (
        f"user {account.name} can write to {open_to_it}, which is imported by the supervisor's "
        "own user as well, when the plugin is read: make that user the owner of code"
    )
    return errors, [str(config.error_at(where, beware))]


def _beside(config: Config, spec: ServiceSpec) -> list[Path]:
    """Return where a service's code is, of what lies beside the config."""
    word = config.plugins[spec.plugin].use.partition(":")[0].partition(".")[0]
    folder = config.path.parent
    return [path for path in (folder / f"{word}.py", folder / word) if path.exists()]


def _read(config: Config, plugin: str, environ: Mapping[str, str]) -> PluginRead | Failing:
    spec = config.plugins[plugin]
    reading = Reading(
        source=PluginSource(plugin, spec.use, str(config.path.parent)),
        token=b"",
        control="",
        env=packed(base_environment(environ)),
        plugin_config=spec.config,
        sections=config.sections(plugin),
    )
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "garrison.workers.process.probe"],
            input=encode(reading),
            stdout=subprocess.PIPE,
            env=base_environment(environ),
            timeout=READ_S,
            start_new_session=True,
            check=False,
        )
        said = _decode(done.stdout)
    except subprocess.TimeoutExpired:
        return Failing("read", f"its import took longer than {READ_S:g} s")
    except msgspec.MsgspecError:
        return Failing("read", f"its process ended with code {done.returncode} while it was read")
    return checked(said, spec, config.plugins)
