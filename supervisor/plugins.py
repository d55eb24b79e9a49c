"""Which services there are: plugins read in throwaway processes, and held against the config.

A plugin that cannot be read is one failed row, tried again as a failed service is; the others'
services start without it.
"""

import time
from collections.abc import Container
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from garrison.ipc import messages, sockets
from garrison.ipc.errors import ConfigError
from garrison.ipc.messages import Failing, PluginRead, PluginSource, Token, encode
from garrison.ipc.system import process_tree
from garrison.supervisor.config.environment import base_environment
from garrison.supervisor.config.spec import PluginSpec, ServiceSpec
from garrison.supervisor.config.values import is_name
from garrison.supervisor.lifecycle.dependencies import find_cycle
from garrison.supervisor.lifecycle.policy import PROBE_FIRST, PROBE_MOST, Child, Event
from garrison.supervisor.lifecycle.services import Service, UnreadablePlugin

from .processes import engine
from .processes.preload import Preloader
from .tasks import Steps

if TYPE_CHECKING:
    from garrison.supervisor.config.load import Config

    from .loop import Supervisor

READ_S = 60.0  # for a plugin's import
BARRIER_S = 10.0  # so long the first starts wait for a slow plugin's reading


@dataclass(slots=True, eq=False)
class PluginProbe:
    """One reading of a plugin."""

    plugin: PluginSpec
    plugins: Container[str]  # those that its config has
    token: Token
    until: float
    said: PluginRead | Failing | None = None
    done: bool = False

    @property
    def found(self) -> PluginRead | None:
        """Return what was read."""
        return self.said if isinstance(self.said, PluginRead) else None

    @property
    def problem(self) -> Failing:
        """Return why it could not be read."""
        said = self.said
        return said if isinstance(said, Failing) else Failing("read", "it said nothing")


class PluginRegistry:
    """The plugins of one host, and what became of reading each."""

    def __init__(self, supervisor: "Supervisor") -> None:
        self._host = supervisor
        self.finished = False  # what can be read has been read, once
        self.read: dict[str, PluginRead] = {}
        self._readers: dict[Token, PluginProbe] = {}
        self._resumed = False  # services were adopted, with what was read of their plugins
        self._preloader = Preloader(supervisor.engine, supervisor.journal.record)

    # --- reading ----------------------------------------------------------------------------

    def source(self, plugin: PluginSpec) -> PluginSource:
        """Return where a plugin's code is."""
        return PluginSource(plugin.name, plugin.use, str(self._host.config.path.parent))

    def begin(self, plugin: str, config: "Config | None" = None) -> PluginProbe:
        """Have a plugin read in a process of its own."""
        config = config or self._host.config
        spec, host = config.plugins[plugin], config.host
        token = sockets.new_token()
        reader = PluginProbe(spec, config.plugins, token, time.monotonic() + READ_S)
        self._readers[token] = reader
        reading = messages.Reading(
            source=self.source(spec),
            token=token,
            control=sockets.control_path(host.run),
            env=messages.packed(base_environment(self._host.environ)),
            plugin_config=spec.config,
            sections=config.sections(plugin),
        )
        self._host.engine.fork(token, f"{plugin} (reading)", encode(reading), log=plugin)
        return reader

    def until_done(self, *readers: PluginProbe) -> Steps:
        """Wait until every reading has ended, or been ended."""
        while not all(reader.done for reader in readers):
            now = time.monotonic()
            for reader in readers:
                if not reader.done and now >= reader.until:
                    text = f"its import took longer than {READ_S:g} s"
                    reader.said = Failing("read", text)
                    reader.until = inf
                    self._host.engine.signal(reader.token, 9)
            yield False

    def reads(self, token: Token) -> bool:
        """Tell whether a token is a reading process's."""
        return token in self._readers

    def hear(self, token: Token, message: messages.Upward) -> bool:
        """Take a message of a reading process; False where it is none."""
        reader = self._readers.get(token)
        if reader is None:
            return False
        if isinstance(message, PluginRead | Failing) and reader.said is None:
            reader.said = checked(message, reader.plugin, reader.plugins)
            reader.done = True
            self._host.members.send(token, messages.Acknowledged())
            self._host.stir()
        return True

    def take(self, happened: engine.Happened) -> None:
        """Take what the engine reports of reading processes and of its launcher."""
        match happened:
            case engine.Ended(key, status) if (reader := self._readers.get(key)) is not None:
                words = f"its process {process_tree.describe(status)} while it was read"
                reader.said = reader.said or Failing("read", words)
            case engine.Gone(key, _) if (reader := self._readers.pop(key, None)) is not None:
                reader.done = True
            case engine.NotForked(key, why) if (reader := self._readers.pop(key, None)) is not None:
                reader.said = Failing("read", f"no process could be forked to read it: {why}")
                reader.done = True
            case _:
                self._preloader.take(happened)

    # --- the first time ---------------------------------------------------------------------

    def resume(self, read: dict[str, PluginRead], modules: tuple[str, ...]) -> None:
        """Go on with what a former supervisor had read, and had its launcher preload."""
        self.read, self._resumed = dict(read), True
        self._preloader.resume(modules)

    def all(self) -> Steps:
        """Read every plugin that is not known yet, then have what they provide started."""
        host = self._host
        unknown = [name for name in host.config.plugins if not self._is_known(name)]
        for position, name in enumerate(host.config.plugins):
            if name in unknown:
                host.roster.unread[name] = UnreadablePlugin(name, position)
        readers = [self.begin(name) for name in unknown]
        barrier = time.monotonic() + BARRIER_S
        waiting = self.until_done(*readers)
        while time.monotonic() < barrier:
            try:
                next(waiting)
            except StopIteration:
                break
            yield False
        for reader in readers:
            if reader.done:
                self._note(reader)
            else:
                host.later(self._slow(reader))
        try:
            specs = self.specs()
        except ConfigError as error:
            if not host.roster.posts:
                host.failure = error
                host.done = True
                return
            # What was adopted runs; the rest waits for a config that is right.
            host.journal.record("config.unusable", problem=str(error))
            self.finished = True
            host.stir()
            return
        yield from host.succession.until_ended()
        if self._resumed:
            yield from self.refresh()
        yield from self.preload(host.config.host.preload)
        self.admit(specs)
        self.finished = True
        host.journal.record("supervisor.registered", services=len(host.roster.posts))
        host.stir()

    def _is_known(self, plugin: str) -> bool:
        """Tell whether what was read of a plugin is of use still: a misfit may be mended by now."""
        return plugin in self.read and not self.read[plugin].problems

    def _slow(self, reader: PluginProbe) -> Steps:
        yield from self.until_done(reader)
        self._note(reader)
        yield from self._admit_read(reader.plugin.name, self._host.config)

    def again(self, plugin: str, config: "Config | None" = None) -> Steps:
        """Read a plugin once more that could not be read, as a config has it now."""
        config = config or self._host.config
        unread = self._host.roster.unread.get(plugin)
        if unread is None or unread.reading:
            return
        if plugin not in config.plugins:  # it was taken out of the config
            del self._host.roster.unread[plugin]
            return
        unread.reading, unread.again_at = True, inf
        reader = self.begin(plugin, config)
        yield from self.until_done(reader)
        self._note(reader)
        yield from self._admit_read(plugin, config)

    def _probe(self, plugin: str, at: float) -> Steps:
        """Read it again by itself, as a failed service is tried again."""
        while time.monotonic() < at:
            yield False
        unread = self._host.roster.unread.get(plugin)
        if unread is not None and unread.again_at == at and not self._host.stopping:
            yield from self.again(plugin)

    def _note(self, reader: PluginProbe) -> None:
        """Keep what was found, or why nothing was."""
        host, name = self._host, reader.plugin.name
        if (found := reader.found) is not None:
            self.read[name] = found
            host.roster.unread.pop(name, None)
            host.journal.record("plugin.read", name, services=len(found.services))
            for manifest in found.services:
                for note in manifest.notes:
                    service_type = manifest.service_type
                    host.journal.record("plugin.note", name, service_type=service_type, note=note)
            return
        unread = host.roster.unread.setdefault(
            name, UnreadablePlugin(name, len(host.roster.unread))
        )
        problem = reader.problem
        unread.reading = False
        unread.reason, unread.traceback = problem.reason, problem.traceback
        wait = min(PROBE_FIRST * 2.0 ** min(unread.tries, 32), PROBE_MOST)
        unread.tries += 1
        unread.again_at = time.monotonic() + wait
        host.journal.record("plugin.unreadable", name, reason=problem.reason, wait_s=wait)
        host.later(self._probe(name, unread.again_at))

    def _admit_read(self, plugin: str, config: "Config") -> Steps:
        """Take up the services of a plugin that was read late."""
        if plugin not in self.read:
            return
        yield from self.preload(self.read[plugin].preload)
        try:
            specs = self.specs(config)
            self._host.take_config(config, specs)
            self.admit(specs)
        except ConfigError as error:
            del self.read[plugin]
            spec = PluginSpec(name=plugin, use=plugin)
            self._note(PluginProbe(spec, (), b"", 0.0, Failing("read", str(error))))

    # --- services ---------------------------------------------------------------------------

    def specs(
        self, config: "Config | None" = None, newly: dict[str, PluginRead] | None = None
    ) -> list[ServiceSpec]:
        """Return every service of the plugins that were read, or were read anew just now.

        Raises:
            ConfigError: The config does not fit what the plugins provide.
        """
        config = config or self._host.config
        provides = {
            name: [manifest.service_type for manifest in read.services]
            for name, read in (self.read | (newly or {})).items()
        }
        return bound_services(config, provides)

    def admit(self, specs: list[ServiceSpec]) -> None:
        """Take up services that are new, and start those that are to run."""
        host = self._host
        new: list[Service] = []
        for position, spec in enumerate(specs):
            if spec.name in host.roster.posts:
                continue
            plugin = host.config.plugins[spec.plugin]
            post = Service(Child(spec), plugin, self._manifest(spec), position)
            host.roster.posts[spec.name] = post
            new.append(post)
        host.roster.reorder(specs)
        for post in new:
            host.members.listed(post.name)
            asked = post.name in host.saved.started
            if (post.spec.supervision.autostart and post.name not in host.saved.stopped) or asked:
                host.advance(post, Event.START)
            elif post.name in host.saved.stopped:
                host.advance(post, Event.STOP)
                post.reason = "stopped by order"
                host.journal.record("service.stays_stopped", post.name)
            self._refuse_misfit(post)

    def _manifest(self, spec: ServiceSpec) -> messages.Manifest:
        manifests = self.read[spec.plugin].services
        return next(m for m in manifests if m.service_type == spec.service_type)

    def _refuse_misfit(self, post: Service) -> None:
        """Fail a service whose config does not fit, before any process is started for it."""
        for problem in self.read[post.spec.plugin].problems:
            service = problem.keys[:2] == ("services", post.name)
            if service or problem.keys[:2] == ("plugins", post.spec.plugin):
                post.reason = str(self._host.config.error_at(problem.keys, problem.problem))
                self._host.advance(post, Event.REFUSED)

    def preload(self, modules: tuple[str, ...]) -> Steps:
        """Have the launcher import what is not imported yet; return when it has."""
        plugins = [module for read in self.read.values() for module in read.preload]
        wanted = tuple(dict.fromkeys([*self._host.config.host.preload, *plugins, *modules]))
        yield from self._preloader.preload(wanted)

    def refresh(self) -> Steps:
        """Put a fresh launcher in the old one's place where a preloaded file changed."""
        outdated, self._host.succession.outdated = self._host.succession.outdated, False
        yield from self._preloader.refresh(outdated)


def bound_services(config: "Config", provides: dict[str, list[str]]) -> list[ServiceSpec]:
    """Return every service of a config, given what its plugins provide.

    Raises:
        ConfigError: They do not fit each other, or `depends_on` goes in a circle.
    """
    specs = config.services(provides)
    cycle = find_cycle(specs)
    if cycle:
        raise config.error_at(
            ("services", cycle[0], "depends_on"),
            f"depends_on goes in a circle: {' → '.join(cycle)}; take one of them out",
        )
    return specs


def checked(
    said: PluginRead | Failing, plugin: PluginSpec, plugins: Container[str]
) -> PluginRead | Failing:
    """Return what was read, or what is wrong with it that the plugin cannot know."""
    if isinstance(said, Failing):
        return said
    types = [manifest.service_type for manifest in said.services]
    for service_type in types:
        if not is_name(service_type):
            return Failing("read", f"its service_type {service_type!r} cannot be a NAME")
        if types.count(service_type) > 1:
            return Failing("read", f"two of its services are of the type {service_type}")
    missing = [name for name in said.dependencies if name not in plugins]
    if missing:
        return Failing("read", f"it needs [plugins.{missing[0]}], which is not configured")
    return said
