"""What an author fills in: a plugin, its services and what they share."""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from garrison.workers.agents.components import Action, Evaluator, Provider

from .service import Service

if TYPE_CHECKING:
    from .runtime import Runtime

Init = Callable[[Any, "Runtime"], Awaitable[None] | None]
Handler = Callable[..., Awaitable[Any] | Any]


class Plugin:
    """Services that belong together.

    Args:
        name: What it calls itself.
        services: The service classes that it brings; each runs in a worker of its own. What
            follows lives in the worker of the first, or in one of its own where there is none.
        actions: What an agent can do with it.
        providers: What an agent should know before it answers.
        evaluators: What looks at answers afterwards.
        models: Model types to `handler(runtime, params)`; an asynchronous generator streams.
        events: Events to handlers, as `Runtime.register_event` takes them.
        description: What it is for.
        init: Runs once in every worker's life, before `start`: `init(config, runtime)`.
        config: A `msgspec.Struct` for `[plugins.NAME.config]`; a subclass can have a class
            `Config` instead.
        preload: Modules that are imported once for all workers; name here what is slow to import.
        dependencies: NAMEs of plugins that must be configured too.
        priority: Of its models; the higher one is asked first.
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
        self._init = init

    async def init(self, config: Any, runtime: "Runtime") -> None:
        """Prepare what the plugin's services share in one worker."""
        if self._init is not None:
            result = self._init(config, runtime)
            if inspect.isawaitable(result):
                await result

    def hosted(self, name: str) -> list[type[Service]]:
        """Return its services; where it has none, but other things that need a worker, one for
        these.

        Args:
            name: The plugin's NAME, which is that service's type.
        """
        rest = (self.actions, self.providers, self.evaluators, self.models, self.events, self._init)
        inits = type(self).init is not Plugin.init
        if self.services or not (any(rest) or inits):
            return self.services
        said = {"service_type": name, "capability_description": self.description}
        return [type("PluginService", (Service,), {"__module__": __name__, **said})]

    def service(self, service_type: str, name: str = "") -> type[Service]:
        """Return the class of that type. Raises LookupError where there is none."""
        classes = self.hosted(name)
        for cls in classes:
            if cls.service_type == service_type:
                return cls
        known = ", ".join(cls.service_type for cls in classes) or "none"
        raise LookupError(
            f"plugin {self.name} has no service of type {service_type}; it has {known}"
        )

    def __repr__(self) -> str:
        return f"<plugin {self.name}: {', '.join(cls.service_type for cls in self.services)}>"
