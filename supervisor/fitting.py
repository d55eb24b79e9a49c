"""Fits a config and its plugins to each other (pure)."""

from collections.abc import Container, Iterable, Mapping, Sequence

from garrison.ipc.messages import ConfigProblem, Failing, PluginRead
from garrison.supervisor.config.load import Config
from garrison.supervisor.config.spec import PluginSpec, ServiceSpec
from garrison.supervisor.config.values import is_name
from garrison.supervisor.lifecycle.dependencies import find_cycle


def without_problems(config: Config, problems: Iterable[ConfigProblem]) -> Config:
    """Return a config with what was accepted in place of what a plugin found to be wrong.

    Without an accepted config the services with a problem are failed, each by itself.
    """
    for problem in problems:
        if config.is_replaceable(problem.keys):
            config = config.without(problem.keys, problem.problem)
    return config


def configured_services(
    config: Config, provides: Mapping[str, Sequence[str]]
) -> tuple[Config, list[ServiceSpec]]:
    """Return a config that fits its plugins, and every service of it.

    Args:
        config: The config; what does not fit is replaced by what was accepted.
        provides: The service_types of its plugins.

    Raises:
        ConfigError: They do not fit each other, or `depends_on` goes in a circle.
    """
    while True:
        config, specs = config.fitted(provides)
        cycle = find_cycle(specs)
        if not cycle:
            return config, specs
        problem = f"depends_on goes in a circle: {' → '.join(cycle)}; take one of them out"
        paths = [("services", name, "depends_on") for name in cycle]
        changed = [keys for keys in paths if config.is_replaceable(keys) and config.is_new(keys)]
        config = config.without((changed or paths)[0], problem)


def checked(
    result: PluginRead | Failing, plugin: PluginSpec, plugins: Container[str]
) -> PluginRead | Failing:
    """Return what was read, or a problem that the plugin itself cannot know.

    Args:
        result: What the probe reported.
        plugin: The plugin.
        plugins: The plugins that the config has.
    """
    if isinstance(result, Failing):
        return result
    types = [manifest.service_type for manifest in result.services]
    for service_type in types:
        if not is_name(service_type):
            return Failing("read", f"its service_type {service_type!r} cannot be a NAME")
        if types.count(service_type) > 1:
            return Failing("read", f"two of its services are of the type {service_type}")
    missing = [name for name in result.dependencies if name not in plugins]
    if missing:
        return Failing("read", f"it needs [plugins.{missing[0]}], which is not configured")
    return result
