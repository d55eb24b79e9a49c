"""The processes that read plugins: one for each, and one for all bundled ones. Monotonic seconds.

A bundled plugin is garrison's own code, which its launcher has imported by then, so a process of
its own would take longer to fork than it reads. What could not be read in company is read alone.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from math import inf
from pathlib import Path

from garrison.ipc import messages, socket_paths
from garrison.ipc.messages import (
    Failing,
    PluginRead,
    PluginSource,
    PluginsRead,
    PluginToRead,
    Token,
)
from garrison.ipc.system import process_tree
from garrison.supervisor.config.environment import base_environment
from garrison.supervisor.config.load import Config
from garrison.supervisor.config.spec import PluginSpec
from garrison.supervisor.processes import engine
from garrison.supervisor.processes.engine import Engine
from garrison.supervisor.processes.launcher_process import PLAIN

from .fitting import checked
from .probes import READ_S, PluginProbe, take_until
from .tasks import Steps

BUNDLED = Path(socket_paths.__file__).parents[1] / "workers" / "services"


class ProbeProcesses:
    """The processes that read plugins.

    Args:
        environ: The environment of the supervisor.
        engine: Forks them.
        acknowledge: Answers one that has reported.
        wake: Has the loop take its next turn at once.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        engine: Engine,
        acknowledge: Callable[[Token], object],
        wake: Callable[[], None],
    ) -> None:
        self._environ, self._engine = environ, engine
        self._acknowledge, self._wake = acknowledge, wake
        self._probes: dict[Token, list[PluginProbe]] = {}  # by the process that reads them

    def begin(self, config: Config, plugins: Iterable[str]) -> list[PluginProbe]:
        """Begin to read plugins, all in one process; return their probes, in this order."""
        token, until = socket_paths.new_token(), time.monotonic() + READ_S
        specs = [config.plugins[name] for name in plugins]
        probes = [
            PluginProbe(spec, config.plugins, token, until, config.sections(spec.name))
            for spec in specs
        ]
        first, *further = [
            PluginToRead(source_of(one.plugin, config), one.plugin.config, one.sections)
            for one in probes
        ]
        self._probes[token] = probes
        spec = specs[0]
        reading = messages.Reading(
            source=first.source,
            token=token,
            control=socket_paths.control_path(config.host.run),
            env=messages.packed(base_environment(self._environ, foreign=bool(spec.python))),
            plugin_config=first.plugin_config,
            sections=first.sections,
            further=tuple(further),
        )
        assignment = messages.encode_assignment(reading)
        name, python = f"{spec.name} (reading)", spec.interpreter
        self._engine.fork(token, name, assignment, log=spec.name, python=python, brief=True)
        return probes

    def begin_all(self, config: Config, plugins: Iterable[str]) -> list[PluginProbe]:
        """Begin to read plugins: the bundled ones together, each other one alone."""
        folder, bundled, others = config.path.parent, list[str](), list[str]()
        for name in plugins:
            own = is_bundled(config.plugins[name], folder)
            (bundled if own else others).append(name)
        groups = [bundled, *([name] for name in others)]
        return [probe for group in groups if group for probe in self.begin(config, group)]

    def until_all_read(self, config: Config, probes: list[PluginProbe], until: float) -> Steps:
        """Wait until every probe has ended, or a time; those in `probes` that failed in company
        are replaced by others, which read the plugin alone."""
        yield from take_until(until, self.until_done(*probes))
        read_by = Counter(probe.token for probe in probes)
        for number, probe in enumerate(probes):
            if read_by[probe.token] > 1 and probe.done and probe.found is None:
                probes[number] = self.begin(config, [probe.plugin.name])[0]
        yield from take_until(until, self.until_done(*probes))

    def until_done(self, *probes: PluginProbe) -> Steps:
        """Wait until every probe has ended; one that takes too long is ended."""
        while not all(probe.done for probe in probes):
            now = time.monotonic()
            for probe in probes:
                if not probe.done and now >= probe.until:
                    text = f"its import took longer than {probe.patience:g} s"
                    probe.result = Failing("read", text)
                    probe.until = inf
                    self._engine.signal(probe.token, 9)
            yield False

    def has(self, token: Token) -> bool:
        """Return True if a token is that of a process that reads plugins."""
        return token in self._probes

    def on_message(self, token: Token, message: messages.Upward) -> bool:
        """Take a message of a process; return False if its sender is none."""
        probes = self._probes.get(token)
        if probes is None:
            return False
        results: tuple[PluginRead | Failing, ...] = ()
        match message:
            case PluginRead() | Failing():
                results = (message,)
            case PluginsRead():
                results = tuple(one.found for one in message.results)
            case _:
                return True
        for probe, result in zip(probes, results, strict=False):
            if probe.result is None:
                probe.result = checked(result, probe.plugin, probe.plugins)
                probe.done = True
        self._acknowledge(token)
        self._wake()
        return True

    def on_engine_event(self, event: engine.Happened) -> None:
        """Take what the engine reports of these processes."""
        match event:
            case engine.Ended(key, status):
                words = f"its process {process_tree.describe(status)} while it was read"
                for probe in self._probes.get(key, ()):
                    probe.result = probe.result or Failing("read", words)
            case engine.Gone(key):
                for probe in self._probes.pop(key, ()):
                    probe.done = True
            case engine.NotForked(key, why, unusable):
                text = why if unusable else f"no process could be forked to read it: {why}"
                for probe in self._probes.pop(key, ()):
                    probe.result = Failing("read", text)
                    probe.done = True


def source_of(plugin: PluginSpec, config: Config) -> PluginSource:
    """Return where a plugin's code is."""
    return PluginSource(plugin.name, plugin.use, str(config.path.parent))


def is_bundled(plugin: PluginSpec, folder: Path) -> bool:
    """Return whether a plugin is one of garrison's own, and no file in a folder may be meant."""
    word = plugin.use
    if plugin.python is not None or PLAIN.fullmatch(word) is None:
        return False
    own = BUNDLED / word
    beside = folder / word
    found = own.is_dir() or own.with_suffix(".py").is_file()
    return found and not (beside.exists() or beside.with_suffix(".py").exists())
