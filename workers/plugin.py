"""`Plugin`: services and components that belong together, and their shared configuration."""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, ClassVar

import msgspec

from garrison.workers.agents.components import Action, Evaluator, Gate, Provider
from garrison.workers.agents.task_workers import TaskWorker

from .runtime import Runtime
from .service import Service

Init = Callable[[Any, Runtime], Awaitable[None] | None]
Handler = Callable[..., Awaitable[Any] | Any]


class Plugin:
    """Services and components that belong together.

    Args:
        name: Its name.
        services: Its service classes. Each runs in its own worker. Everything else runs in the
            worker of the first one; without services, in a worker of its own.
        actions: What an agent can do with it.
        providers: Context for the agent's answers.
        evaluators: Functions that run after an answer.
        models: Model type to `handler(runtime, params)`; an asynchronous generator streams.
        events: Event to one handler or several, `handler(payload)`.
        description: One sentence on what it does.
        init: `init(config, runtime)`, run once in each of its workers, before `start`.
        config: A `msgspec.Struct` for `[plugins.NAME.config]`. A subclass of `Plugin` may define a
            class `Config` instead.
        preload: Modules that are slow to import; the launcher imports them once for all workers.
        dependencies: NAMEs of plugins that must be configured as well.
        priority: Priority of its models; the highest is preferred.
        gate: `gate(runtime, memory)`, called with each message before the agent decides about it.
            None lets it pass. A text refuses it and is sent to the room; a `Refusal` may also
            refuse in silence, and give a reason for the agent's record.
        task_workers: What runs the tasks of a name.
    """

    Config: ClassVar[type[msgspec.Struct] | None] = None

    def __init__(
        self,
        name: str,
        *,
        services: Iterable[type[Service]] = (),
        actions: Iterable[Action] = (),
        providers: Iterable[Provider] = (),
        evaluators: Iterable[Evaluator] = (),
        models: Mapping[str, Handler] | None = None,
        events: Mapping[str, Iterable[Handler] | Handler] | None = None,
        description: str = "",
        init: Init | None = None,
        config: type[msgspec.Struct] | None = None,
        preload: Iterable[str] = (),
        dependencies: Iterable[str] = (),
        priority: int = 0,
        gate: "Gate | None" = None,
        task_workers: Iterable[TaskWorker] = (),
    ) -> None:
        self.name = name
        self.services = list(services)
        self.actions = list(actions)
        self.providers = list(providers)
        self.evaluators = list(evaluators)
        self.models = dict(models or {})
        self.events = {
            event: [handlers] if callable(handlers) else list(handlers)
            for event, handlers in (events or {}).items()
        }
        self.description = description
        self.config_class = config or self.Config
        self.preload = list(preload)
        self.dependencies = list(dependencies)
        self.priority = priority
        self.gate = gate
        self.task_workers = list(task_workers)
        self._init = init

    async def init(self, config: Any, runtime: Runtime) -> None:
        """Prepare a worker of this plugin, before the `start` of its service.

        Args:
            config: An instance of the config class, else the table `[plugins.NAME.config]`.
            runtime: The runtime of that worker's service.
        """
        if self._init is not None:
            result = self._init(config, runtime)
            if inspect.isawaitable(result):
                await result

    def worker_services(self, name: str) -> list[type[Service]]:
        """Return the services that run in workers: its own, or one for its components alone.

        Args:
            name: NAME of the plugin, which becomes the type of that one service.
        """
        parts = (self.actions, self.providers, self.evaluators, self.models, self.events)
        rest = (*parts, self._init, self.gate, self.task_workers)
        overrides_init = type(self).init is not Plugin.init
        if self.services or not (any(rest) or overrides_init):
            return self.services
        attributes = {"service_type": name, "capability_description": self.description}
        return [type("PluginService", (Service,), {"__module__": __name__, **attributes})]

    def service(self, service_type: str, name: str = "") -> type[Service]:
        """Return the service class of a type. Raises LookupError if there is none."""
        classes = self.worker_services(name)
        for cls in classes:
            if cls.service_type == service_type:
                return cls
        known = ", ".join(cls.service_type for cls in classes) or "none"
        raise LookupError(
            f"plugin {self.name} has no service of type {service_type}; it has {known}"
        )

    def __repr__(self) -> str:
        return f"<plugin {self.name}: {', '.join(cls.service_type for cls in self.services)}>"
