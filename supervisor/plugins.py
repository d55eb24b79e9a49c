"""Which services there are: plugins are read in processes of their own and matched to the config.

A plugin that cannot be read is shown as one failed service, and read again later; the services of
the other plugins start without it. Times are monotonic seconds.
"""

import time
from collections.abc import Callable, Generator, Iterable, Mapping
from math import inf

import msgspec

from garrison.ipc import messages
from garrison.ipc.errors import ConfigError
from garrison.ipc.messages import (
    Failing,
    Manifest,
    PluginRead,
    PluginSource,
    Token,
)
from garrison.supervisor.config.accepted import accept_services, accept_whole
from garrison.supervisor.config.basis import Rejection
from garrison.supervisor.config.load import Config, load
from garrison.supervisor.config.spec import PluginSpec, ServiceSpec
from garrison.supervisor.config.values import is_name
from garrison.supervisor.lifecycle.policy import PROBE_FIRST, PROBE_MOST, Child
from garrison.supervisor.lifecycle.services import (
    HeldService,
    Service,
    ServiceTable,
    UnreadablePlugin,
)
from garrison.supervisor.logs.events import EventLog
from garrison.supervisor.processes.engine import Engine
from garrison.supervisor.processes.preload import Preloader
from garrison.supervisor.state.accepted_store import AcceptedStore

from .assignment import RecordOnDisk, record_on_disk
from .fitting import configured_services, without_problems
from .probe_processes import ProbeProcesses, source_of
from .probes import PluginProbe
from .processes import engine
from .tasks import Steps

BARRIER_S = 10.0  # the first starts wait no longer for a plugin that is slow to read


class RegistryHooks(msgspec.Struct, frozen=True):
    """What the registry has done by others."""

    add_services: Callable[[list[ServiceSpec]], None]  # those that are new
    take_specs: Callable[[list[ServiceSpec]], None]
    replace_specs: Callable[[list[ServiceSpec], Mapping[str, PluginSpec]], None]  # not started yet
    acknowledge: Callable[[Token], object]
    add_task: Callable[[Steps], None]
    wake: Callable[[], None]
    is_stopping: Callable[[], bool]


class PluginRegistry:
    """The plugins of one host, and what was read of each.

    Args:
        config: The config that the host was started with.
        environ: The environment of the supervisor.
        engine: Starts the processes that read plugins.
        preloader: Has what plugins want preloaded.
        services: All services; plugins that cannot be read are noted there.
        log: Where events are recorded.
        hooks: What is done by others.
        accepted: What was accepted, and is to be.

    Attributes:
        config: The config that is in use.
        rejected: The parts of the config on disk that are not used, as it was when last read.
        finished: Whether what can be read has been read once.
        read: What was read, by plugin.
        sections: The sections that each was read with.
        preloader: See there.
    """

    def __init__(
        self,
        config: Config,
        environ: Mapping[str, str],
        engine: Engine,
        preloader: Preloader,
        services: ServiceTable,
        log: EventLog,
        hooks: RegistryHooks,
        accepted: AcceptedStore,
    ) -> None:
        self.config, self._environ = config, environ
        self.rejected: tuple[Rejection, ...] = ()
        self._accepted = accepted
        self.preloader, self._services, self._log = preloader, services, log
        self._hooks = hooks
        self.finished = False
        self.read: dict[str, PluginRead] = {}
        self._processes = ProbeProcesses(environ, engine, hooks.acknowledge, hooks.wake)
        self.sections: dict[str, tuple[messages.Section, ...]] = {}
        self._resumed = False
        self._unchecked: list[str] = []  # plugins whose config may be another since they were read
        self._outdated = False  # the launcher runs the code of another version

    # --- probes -----------------------------------------------------------------------------

    def source(self, plugin: PluginSpec) -> PluginSource:
        """Return where a plugin's code is."""
        return source_of(plugin, self.config)

    def probe(self, plugin: str, config: Config | None = None) -> PluginProbe:
        """Start to read a plugin in a process of its own."""
        return self._processes.begin(config or self.config, [plugin])[0]

    def until_done(self, *probes: PluginProbe) -> Steps:
        """Wait until every probe has ended; one that takes too long is ended."""
        return self._processes.until_done(*probes)

    def has_probe(self, token: Token) -> bool:
        """Return True if a token is that of a process that reads plugins."""
        return self._processes.has(token)

    def on_message(self, token: Token, message: messages.Upward) -> bool:
        """Take a message of a probe; return False if its sender is none."""
        return self._processes.on_message(token, message)

    def on_engine_event(self, event: engine.Happened) -> None:
        """Take what the engine reports of probes and of the launcher."""
        self.preloader.take(event)
        self._processes.on_engine_event(event)

    # --- reading plugins --------------------------------------------------------------------

    def resume(self, read: dict[str, PluginRead], digest: str) -> None:
        """Take over what a former supervisor had read.

        Args:
            read: By plugin.
            digest: That of the config that it was read with.
        """
        self.read = {name: one for name, one in read.items() if name in self.config.plugins}
        self._resumed = True
        self._unchecked = [] if digest == self.config.digest else list(self.read)

    def resume_preload(self, modules: tuple[str, ...], outdated: bool) -> None:
        """Take over what an adopted launcher has imported.

        Args:
            modules: The modules.
            outdated: Whether it runs the code of another version.
        """
        self.preloader.resume(modules)
        self._outdated = outdated

    def read_all(self, until_adopted: Steps) -> Steps:
        """Read every plugin that is not known yet, then add the services.

        Args:
            until_adopted: Ends when no worker of a former supervisor is in the way of a start.

        Raises:
            ConfigError: The config does not fit the plugins, and there is nothing else to run.
        """
        self.note_rejected(self.config)
        try:
            config, specs = yield from self._read_unknown(time.monotonic() + BARRIER_S)
        except ConfigError as error:
            if not self._services.services:
                raise
            # What was adopted keeps running; the rest waits for a correct config.
            self._log.record("config.unusable", problem=str(error))
            self.finished = True
            self._hooks.wake()
            return
        yield from until_adopted
        if self._resumed:
            yield from self._refresh()
        yield from self.preload()
        self._hooks.replace_specs(specs, config.plugins)
        self._use(config)
        self.add_services(specs)
        self.finished = True
        self._log.record("supervisor.registered", services=len(self._services.services))
        self._hooks.wake()
        yield from self._check_resumed()
        try:
            self._accept_whole(self.fit(self.config)[1])
        except ConfigError as error:  # it is checked again when a service is restarted
            self._log.record("config.unusable", problem=str(error))

    def _read_unknown(
        self, until: float
    ) -> Generator[bool, None, tuple[Config, list[ServiceSpec]]]:
        """Read the plugins that are not known; return the config that fits, and its services.

        What was accepted may have plugins that the file has no longer: they are read as well.
        """
        config, specs = self.config, list[ServiceSpec]()
        requested = set[str]()
        while left := [
            name for name in config.plugins if not self._is_known(name) and name not in requested
        ]:
            requested.update(left)
            for name in left:
                position = list(config.plugins).index(name)
                self._services.unreadable[name] = UnreadablePlugin(name, position)
            probes = self._processes.begin_all(config, left)
            yield from self._processes.until_all_read(config, probes, until)
            for probe in probes:
                if probe.done:
                    self._note(probe)
                else:
                    self._hooks.add_task(self._take_late(probe))
            if config.strict:
                self._refuse_problems()
            config, specs = self.fit(config)
        return (config, specs) if requested else self.fit(config)

    def _refuse_problems(self) -> None:
        """Raise ConfigError for a problem that a plugin has found in its config."""
        for read in self.read.values():
            for problem in read.problems:
                raise self.config.error_at(problem.keys, problem.problem)

    def _check_resumed(self) -> Steps:
        """Have the config of the plugins checked that were read with another one.

        Their services run on meanwhile; what does not fit must not be taken at their next start.
        """
        probes = [self.probe(name) for name in self._unchecked if self._is_known(name)]
        if not probes:
            return
        yield from self.until_done(*probes)
        for probe in probes:
            if (found := probe.found) is not None:
                name = probe.plugin.name
                self.read[name] = msgspec.structs.replace(self.read[name], problems=found.problems)
                self.sections[name] = probe.sections
        config, specs = self.fit(self.config)
        self._hooks.replace_specs(specs, config.plugins)
        self._use(config)

    def with_problems(self) -> set[str]:
        """Return the plugins that have found a problem in their config."""
        return {name for name, read in self.read.items() if read.problems}

    def _is_known(self, plugin: str) -> bool:
        """Return True if a plugin was read, and found no problem, which may be corrected by now."""
        return plugin in self.read and not self.read[plugin].problems

    def _take_late(self, probe: PluginProbe) -> Steps:
        yield from self.until_done(probe)
        self._note(probe)
        yield from self._add_read(probe.plugin.name, self.config)

    def probe_again(self, plugin: str, config: Config | None = None) -> Steps:
        """Read a plugin once more that could not be read, as a config has it now."""
        config = config or self.config
        unreadable = self._services.unreadable.get(plugin)
        if unreadable is None or unreadable.reading:
            return
        if plugin not in config.plugins:  # it was taken out of the config
            del self._services.unreadable[plugin]
            return
        unreadable.reading, unreadable.again_at = True, inf
        probe = self.probe(plugin, config)
        yield from self.until_done(probe)
        self._note(probe)
        yield from self._add_read(plugin, config)

    def _retry_at(self, plugin: str, at: float) -> Steps:
        """Read a plugin again by itself, as a failed service is tried again."""
        while time.monotonic() < at:
            yield False
        unreadable = self._services.unreadable.get(plugin)
        due = unreadable is not None and unreadable.again_at == at
        if due and not self._hooks.is_stopping():
            yield from self.probe_again(plugin)

    def _note(self, probe: PluginProbe) -> None:
        """Record what was read, or why nothing was."""
        name = probe.plugin.name
        if (found := probe.found) is None:
            self._note_unreadable(name, probe.problem)
            return
        self.read[name], self.sections[name] = found, probe.sections
        self._services.unreadable.pop(name, None)
        self._log.record("plugin.read", name, services=len(found.services))
        for manifest in found.services:
            for note in manifest.notes:
                service_type = manifest.service_type
                self._log.record("plugin.note", name, service_type=service_type, note=note)

    def _note_unreadable(self, name: str, problem: Failing) -> None:
        table = self._services.unreadable
        unreadable = table.setdefault(name, UnreadablePlugin(name, len(table)))
        unreadable.reading = False
        unreadable.reason, unreadable.traceback = problem.reason, problem.traceback
        wait = min(PROBE_FIRST * 2.0 ** min(unreadable.tries, 32), PROBE_MOST)
        unreadable.tries += 1
        unreadable.again_at = time.monotonic() + wait
        self._log.record("plugin.unreadable", name, reason=problem.reason, wait_s=wait)
        self._hooks.add_task(self._retry_at(name, unreadable.again_at))

    def _add_read(self, plugin: str, config: Config) -> Steps:
        """Add the services of a plugin that was read late."""
        if plugin not in self.read:
            return
        yield from self.preload()
        try:
            config, specs = self.fit(config)
            self.take_config(config, specs)
            known = self._services.services
            self.add_services([s for s in specs if s.plugin == plugin or s.name in known])
            self.accept(spec for spec in specs if spec.plugin == plugin)
        except ConfigError as error:
            del self.read[plugin]
            self._note_unreadable(plugin, Failing("read", str(error)))

    # --- services ---------------------------------------------------------------------------

    def fit(
        self, config: Config, newly: Mapping[str, PluginProbe] | None = None
    ) -> tuple[Config, list[ServiceSpec]]:
        """Return a config that fits the plugins that were read, and every service of it.

        Args:
            config: The config; what does not fit is replaced by what was accepted.
            newly: Plugins that were read just now.

        Raises:
            ConfigError: The config does not fit, and there is no accepted one.
        """
        read, sections = dict(self.read), dict(self.sections)
        for name, probe in (newly or {}).items():
            if probe.found is not None:
                read[name], sections[name] = probe.found, probe.sections
        for name, found in read.items():
            if name in config.plugins and sections.get(name) == config.sections(name):
                config = without_problems(config, found.problems)
        provides = {
            name: [manifest.service_type for manifest in found.services]
            for name, found in read.items()
        }
        return configured_services(config, provides)

    def take_config(self, config: Config, specs: list[ServiceSpec]) -> None:
        """Use another config from now on; services take their own part of it when they start."""
        self._use(config)
        self._hooks.take_specs(specs)

    def _use(self, config: Config) -> None:
        self.config = config
        self.note_rejected(config)
        table = self._services
        known = {*table.services, *table.unreadable}
        table.held = {
            name: HeldService(name, str(error))
            for name, error in config.held.items()
            if name not in known and is_name(name)
        }

    def note_rejected(self, config: Config) -> None:
        """Record what of a config on disk is not used."""
        known = {str(one.error) for one in self.rejected}
        self.rejected = config.rejected
        for one in config.rejected:
            if str(one.error) not in known:
                data = one.as_data()
                where = {key: data[key] for key in ("path", "line", "key", "problem")}
                self._log.record("config.rejected", one.service, **where)

    def load_config(self) -> Config:
        """Read the config on disk, with what was accepted in place of what does not fit.

        Raises:
            ConfigError: It cannot be used, and there is no accepted one.
        """
        host = self.config.host
        return load(self.config.paths, host.home, self._environ, self._accepted.accepted)

    def read_disk(self) -> RecordOnDisk:
        """Read the config on disk; return a function: what a service would be started with now.

        That raises ConfigError for a service that the config has no longer, and StartError for one
        that could not be started.

        Raises:
            ConfigError: It cannot be used, and there is no accepted one.
        """
        config, specs = self.fit(self.load_config())
        return record_on_disk(config, specs, self._environ)

    def _accept_whole(self, specs: list[ServiceSpec]) -> None:
        """Accept the config in use."""
        former, names = self._accepted.stored, {spec.name for spec in specs}
        if former is not None and all(plugin in self.read for plugin in self.config.plugins):
            services = {name: one for name, one in former.services.items() if name in names}
            former = msgspec.structs.replace(former, services=services)
        sound = [spec.name for spec in specs if not self.config_problem(spec)]
        self._accepted.take(accept_whole(self.config.origins, sound, former))

    def accept(self, specs: Iterable[ServiceSpec]) -> None:
        """Accept the sections of some services, as the config in use has them."""
        former = self._accepted.stored
        services = {spec.name: (spec.plugin, spec.agent.name) for spec in specs}
        if former is not None:
            self._accepted.take(accept_services(self.config.origins, services, former))

    def take_plugins(self, newly: Mapping[str, PluginProbe]) -> Steps:
        """Use what was read of plugins just now, with fresh code where it has changed."""
        yield from self._refresh()
        for name, probe in newly.items():
            if probe.found is not None:
                self.read[name], self.sections[name] = probe.found, probe.sections
        yield from self.preload()

    def add_services(self, specs: list[ServiceSpec]) -> None:
        """Add the services that are new."""
        self._hooks.add_services(specs)

    def new_services(self, specs: list[ServiceSpec]) -> list[Service]:
        """Return a service for each spec that has none yet."""
        return [
            Service(Child(spec), self.config.plugins[spec.plugin], self._manifest(spec), position)
            for position, spec in enumerate(specs)
            if spec.name not in self._services.services
        ]

    def _manifest(self, spec: ServiceSpec) -> Manifest:
        manifests = self.read[spec.plugin].services
        return next(m for m in manifests if m.service_type == spec.service_type)

    def config_problem(self, spec: ServiceSpec) -> str:
        """Return why a service cannot run with its config, as its plugin sees it; or nothing."""
        for problem in self.read[spec.plugin].problems:
            service = problem.keys[:2] == ("services", spec.name)
            concerns = service or problem.keys[:2] == ("plugins", spec.plugin)
            if concerns and not self.config.is_replaced(problem.keys):
                return str(self.config.error_at(problem.keys, problem.problem))
        return ""

    def _refresh(self) -> Steps:
        """Have a new launcher if the code that it has imported has changed."""
        outdated, self._outdated = self._outdated, False
        yield from self.preloader.refresh(outdated)

    def preload(self) -> Steps:
        """Have the launcher of the host's own interpreter import what is to be preloaded."""
        own = [name for name, one in self.config.plugins.items() if one.python is None]
        plugins = [m for name in own if name in self.read for m in self.read[name].preload]
        wanted = dict.fromkeys([*self.config.host.preloaded, *plugins])
        yield from self.preloader.preload(tuple(wanted))
