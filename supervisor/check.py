"""`garrison check`: checks a configuration and its plugins, without a supervisor.

Each plugin is read in a process of its own, which is ended if it takes too long.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from garrison.ipc.errors import ConfigError, StartError
from garrison.ipc.messages import Failing, PluginRead, PluginSource
from garrison.supervisor.config.characters import (
    unused_characters,
    unused_fields,
    unused_secrets,
)
from garrison.supervisor.config.environment import (
    differing_sources,
    worker_environment,
)
from garrison.supervisor.config.load import Config
from garrison.supervisor.config.own_machine import SUPERVISOR
from garrison.supervisor.config.plain import is_without_command
from garrison.supervisor.config.spec import ServiceSpec
from garrison.supervisor.control.accounts import account_problems, members
from garrison.supervisor.lifecycle.dependencies import longest_stop
from garrison.supervisor.lifecycle.limits import format_mib, too_small
from garrison.supervisor.processes.capabilities import format_unsupported, unsupported_limits
from garrison.supervisor.processes.detect import detect_capabilities
from garrison.supervisor.processes.programs import program_problem
from garrison.supervisor.processes.users import (
    access_problem,
    code_folders,
    may_write,
    resolve_user,
)
from garrison.supervisor.state.ownership import UnsafeHome, check_home, exposed_folders

from .credentials import credential_problems, missing_credentials, where_to_get
from .fitting import checked, configured_services
from .reading import read_plugin

OVERRIDDEN_SHOWN = 20  # keys of overlays


@dataclass
class CheckReport:
    """The findings of a check."""

    config: Config
    services: list[ServiceSpec] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    would_not_start: list[str] = field(default_factory=list)  # of the warnings
    tracebacks: list[str] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        """Return True if `garrison up` would run everything that the config names."""
        return not self.errors

    def add_unstartable(self, warning: str) -> None:
        """Add the reason why a service would not start."""
        self.warnings.append(warning)
        self.would_not_start.append(warning)

    def as_data(self) -> dict[str, Any]:
        """Return the report for `--json`."""
        agents = self.config.agents.items()
        return {
            "config": str(self.config.path),
            "files": [str(path) for path in self.config.files],
            "overridden": self.config.overridden(),
            "home": str(self.config.host.home),
            "usable": self.usable,
            "plugins": list(self.config.plugins),
            "services": [spec.name for spec in self.services],
            "agents": {name: agent.character.name for name, agent in agents},
            "errors": self.errors,
            "warnings": self.warnings,
            "notes": self.notes,
            "would_not_start": self.would_not_start,
            "longest_stop": longest_stop(self.services)[0],
        }

    def lines(self) -> list[str]:
        """Return the report as text."""
        names = ", ".join(spec.name for spec in self.services) or "none"
        head = f"{self.config.shown}: " + ("usable" if self.usable else "not usable as it is")
        if self.usable and self.would_not_start:
            head += ", but not every service would start"
        return [
            *(trace for trace in self.tracebacks if trace),
            *(f"error: {error}" for error in self.errors),
            *(f"warning: {warning}" for warning in self.warnings),
            *(f"note: {note}" for note in self.notes),
            f"{head}; services: {names}",
            *self._file_lines(),
            *self._stop_lines(),
        ]

    def _file_lines(self) -> Iterator[str]:
        """Yield which files there are besides the first, and what overlays override."""
        overridden = self.config.overridden()
        if others := self.config.files[1:]:
            yield f"with {', '.join(map(str, others))}"
        yield from overridden[:OVERRIDDEN_SHOWN]
        if (more := len(overridden) - OVERRIDDEN_SHOWN) > 0:
            yield f"and {more} more keys of overlays; --json has all"

    def _stop_lines(self) -> Iterator[str]:
        """Yield how long an ordered stop may take, where it is the work of several services."""
        seconds, chain = longest_stop(self.services)
        bound = self.config.host.stop_timeout
        if bound and bound < seconds:
            yield f"a stop takes {bound:g} s at most: then [host] stop_timeout kills what runs"
        elif len(chain) > 1:
            yield f"a stop takes {seconds:g} s at most: {' → '.join(chain)}, one after the other"


def check_config(config: Config, environ: Mapping[str, str]) -> CheckReport:
    """Read every plugin, and check the config against what the plugins provide."""
    report = CheckReport(config)
    provides: dict[str, list[str]] = {}
    credentials: dict[tuple[str, str], str] = {}  # plugin and type → NAME of the secret
    secrets: dict[tuple[str, str], Mapping[str, str]] = {}  # likewise → NAME → where to get one
    platforms: set[tuple[str, str]] = set()  # plugin and type
    for name in config.plugins:
        read = _read(config, name, environ)
        if isinstance(read, Failing):
            report.errors.append(f"plugin {name} cannot be read: {read.reason}")
            report.tracebacks.append(read.traceback.rstrip())
        else:
            provides[name] = [manifest.service_type for manifest in read.services]
            credentials |= {(name, one.service_type): one.credential for one in read.services}
            secrets |= {(name, one.service_type): one.secrets for one in read.services}
            platforms |= {(name, one.service_type) for one in read.services if one.platform}
            _add_plugin(report, read)
    try:
        _, report.services = configured_services(config, provides)
    except ConfigError as error:
        report.errors.append(str(error))
    else:
        agents = config.agents.values()
        report.notes += unused_characters(agents, report.services)
        report.notes += unused_secrets(agents, report.services)
        report.notes += unused_fields(agents)
    for warning in credential_problems(config.host, report.services, credentials, environ):
        report.add_unstartable(warning)
    report.warnings += missing_credentials(report.services, credentials, secrets, environ)
    report.notes += _lacking(report.services, platforms)
    report.notes += _without_nodes(config, report.services)
    report.warnings += exposed_folders(config.host)
    try:
        check_home(config.host, change=False)
    except UnsafeHome as error:
        report.errors.append(str(error))
    report.errors += operator_problems(config)
    machine = detect_capabilities(config.host.cgroups)
    for spec in report.services:
        unsupported = unsupported_limits(spec, machine)
        report.warnings += [format_unsupported(spec.name, one) for one in unsupported]
        _add_service(report, spec, environ, secrets.get((spec.plugin, spec.service_type), {}))
        errors, warnings = user_problems(config, spec)
        # A user in [defaults] has the same problem for every service: report it once.
        report.errors += [one for one in errors if one not in report.errors]
        report.warnings += [one for one in warnings if one not in report.warnings]
    return report


def _lacking(services: list[ServiceSpec], platforms: set[tuple[str, str]]) -> Iterator[str]:
    """Yield a note for each service that the platforms here need for their promises."""
    types = {spec.service_type for spec in services}
    names = ", ".join(s.name for s in services if (s.plugin, s.service_type) in platforms)
    if names and "agent" not in types:
        yield (
            f"messages on {names} are answered with failure_text alone, because no agent "
            "is configured: add agent = {} under [plugins]"
        )
    elif names and "mailbox" not in types:
        yield (
            f"a message on {names} may be lost with a process that ends, because no mailbox is "
            "configured: add mailbox = {} under [plugins]"
        )


def _without_nodes(config: Config, services: list[ServiceSpec]) -> Iterator[str]:
    """Yield a note if services name nodes or resources, and the host has no nodes."""
    bound = [one.name for one in services if one.placement.pinned != SUPERVISOR]
    if bound and not config.host.engine.has_nodes:
        yield (
            f"`node` and `resources` have no effect on {', '.join(bound)}: [engine] kind is "
            '"local", so all services run on this machine'
        )


def _add_plugin(report: CheckReport, read: PluginRead) -> None:
    """Add the problems that the plugin's own process found."""
    for problem in read.problems:
        report.errors.append(str(report.config.error_at(problem.keys, problem.problem)))
    for manifest in read.services:
        for method, why in manifest.left_out.items():
            report.notes.append(f"{manifest.service_type}.{method} cannot be called: {why}")
        report.notes += [f"{manifest.service_type}: {note}" for note in manifest.notes]


def _add_service(
    report: CheckReport, spec: ServiceSpec, environ: Mapping[str, str], stated: Mapping[str, str]
) -> None:
    """Add what would keep a service from running.

    Args:
        report: What is added to.
        spec: The service.
        environ: The supervisor's environment.
        stated: The secrets that its class states: NAME → where to get one.
    """
    if small := too_small(spec.limits):
        report.warnings.append(
            f"services.{spec.name}.memory_max is {format_mib(spec.limits.memory_max)}: {small}, "
            "so it would be ended again and again"
        )
    folder, secrets = spec.limits.working_directory, spec.environment.secrets
    if folder is not None and not folder.is_dir():
        problem = f"{spec.name} would not start: there is no folder {folder}; make it"
        keys = report.config.key_path(spec.name, "working_directory")
        report.add_unstartable(str(report.config.error_at(keys, problem)))
    try:
        _, found = worker_environment(spec, environ)
        lacking = [name for name in spec.environment.secrets if name not in found]
        report.warnings += [
            f"services.{spec.name}: a hook delivers nothing without its secret {name}, which is "
            "not set"
            for name in lacking
        ]
    except StartError as error:
        no_file, names = error.reason.startswith("env_file"), spec.environment.secrets
        absent = [name for name in names if no_file or f"secret {name} " in error.reason]
        where = where_to_get(stated, absent)
        report.add_unstartable(f"{error.service} would not start: {error.reason}{where}")
    if is_without_command(spec, report.config.plugins[spec.plugin]):
        keys = report.config.section_path(spec.name)
        text = f'{spec.name} would not start: write command = ["PROGRAM", "ARGUMENT"]'
        report.add_unstartable(str(report.config.error_at(keys, text)))
    if spec.plain.command:
        report.warnings += _command_problems(report, spec, environ)
    with contextlib.suppress(StartError):
        for name, places in differing_sources(spec, environ).items():
            first, *others = places
            problem = f"{name} is not the same in {first} and in {' and in '.join(others)}"
            key = report.config.key_path(spec.name, "secrets" if name in secrets else "env_file")
            text = f"{problem}; {spec.name} gets that of {first}"
            report.warnings.append(str(report.config.error_at(key, text)))


def _command_problems(
    report: CheckReport, spec: ServiceSpec, environ: Mapping[str, str]
) -> Iterator[str]:
    """Yield why the programs of a plain command cannot be run; note that it would not start."""
    folder = spec.limits.working_directory or Path.cwd()
    public, account = {"PATH": environ.get("PATH", "")}, None
    with contextlib.suppress(StartError):  # reported already
        account = resolve_user(spec, report.config.host.state / "services" / spec.name)
        of_user = account.environment if account is not None else None
        public, _ = worker_environment(spec, environ, of_user=of_user)
    keys = report.config.section_path(spec.name)
    if problem := program_problem(spec.plain.command, folder, public, account):
        text = f"{spec.name} would not start: {problem}"
        report.add_unstartable(str(report.config.error_at((*keys, "command"), text)))
    if not spec.plain.health_command:
        return
    if problem := program_problem(spec.plain.health_command, folder, public, account):
        text = f"{spec.name} would be restarted again and again: {problem}"
        yield str(report.config.error_at((*keys, "health_command"), text))


def user_problems(config: Config, spec: ServiceSpec) -> tuple[list[str], list[str]]:
    """Return the errors and the warnings about the user that a service runs as.

    Each text has the file and the key of the user.
    """
    keys = config.key_path(spec.name, "user" if spec.limits.user else "group")
    try:
        account = resolve_user(spec, config.host.state / "services" / spec.name)
    except StartError as error:
        return [str(config.error_at(keys, error.reason))], []
    if account is None:
        return [], []
    host, code_paths = config.host, _code_beside(config, spec)
    # The home's own folders are opened to the user when the host starts; those above are not.
    above = [one for one in (host.run, host.state) if not one.is_relative_to(host.home)]
    needed = [(folder.parent, 1) for folder in (host.home, *above)]
    needed += [(path, 5 if path.is_dir() else 4) for path in code_paths]
    folder = spec.limits.working_directory
    needed += [(folder, 1)] if folder is not None else []
    needed += code_folders(config.plugins[spec.plugin].python)
    problems = [access_problem(path, account, mode) for path, mode in needed]
    errors = [str(config.error_at(keys, problem)) for problem in problems if problem]
    writable = next((one for one in code_paths if account.uid and may_write(one, account)), None)
    if writable is None:
        return errors, []
    warning = (
        f"user {account.name} can write to {writable}, which the supervisor's own user imports as "
        "well, when it reads the plugin: make that user the owner of the code"
    )
    return errors, [str(config.error_at(keys, warning))]


def operator_problems(config: Config) -> list[str]:
    """Return the users and groups of `[host] operators` that are missing here, or shut out."""
    teams, host = config.host.operators, config.host
    found = [
        str(config.error_at(("host", "operators", team, key), problem))
        for team, key, problem in account_problems(teams)
    ]
    # The home and `run` are opened when the host starts; what is above them is not.
    above = dict.fromkeys((host.home.parent, host.run.resolve().parent))
    for team in teams:
        for account in members(teams[team]):
            problems = (access_problem(one, account) for one in above if one != host.home)
            keys = ("host", "operators", team)
            found += [str(config.error_at(keys, problem)) for problem in problems if problem]
    return found


def _code_beside(config: Config, spec: ServiceSpec) -> list[Path]:
    """Return the files and folders of a service's code that are beside the config."""
    module = config.plugins[spec.plugin].use.partition(":")[0].partition(".")[0]
    folder = config.path.parent
    return [path for path in (folder / f"{module}.py", folder / module) if path.exists()]


def _read(config: Config, plugin: str, environ: Mapping[str, str]) -> PluginRead | Failing:
    """Read a plugin of a config in a process of its own."""
    spec = config.plugins[plugin]
    source = PluginSource(plugin, spec.use, str(config.path.parent))
    sections, python = config.sections(plugin), spec.interpreter
    read = read_plugin(source, environ, spec.config, sections, python)
    return checked(read, spec, config.plugins)
