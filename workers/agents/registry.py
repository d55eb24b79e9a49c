"""What one worker has of its plugin's: actions, providers, evaluators, models, send handlers.

It is told in the service's manifest, and run for others by `hidden`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from garrison.ipc.messages import (
    ActionInfo,
    EvaluatorInfo,
    Manifest,
    ModelInfo,
    ProviderInfo,
    encodable,
)
from garrison.workers.plugin import Plugin
from garrison.workers.service import Service

from .components import Action, Evaluator, Provider
from .models import Model, ModelProvider, ModelType
from .validation import check_component, check_names, check_takes

Handler = Callable[..., Any]
T = TypeVar("T")

# Bytes of one service's manifest. Everybody keeps it, and at each change of a service's state the
# supervisor writes all of them down: 50 of 1 MB held up calls for 0.4 s.
MANIFEST_MOST = 256 * 1024


class ComponentRegistry:
    """Everything of that kind that was registered in this worker, by name.

    Args:
        changed: Called after each registration.
    """

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        self._changed = changed
        self.actions: dict[str, Action] = {}
        self.providers: dict[str, Provider] = {}
        self.evaluators: dict[str, Evaluator] = {}
        self.models: dict[tuple[str, str], Model] = {}  # by model type and provider
        self.send_handlers: dict[str, Handler] = {}

    def add(self, part: Action | Provider | Evaluator) -> None:
        """Take a part; a later one of the same name takes its place.

        Raises:
            TypeError: It is none, or its functions cannot be run with what they are given.
            ValueError: It has no name.
        """
        kinds: list[tuple[type, dict[str, Any]]] = [
            (Action, self.actions),
            (Provider, self.providers),
            (Evaluator, self.evaluators),
        ]
        for kind, known in kinds:
            if isinstance(part, kind):
                if not isinstance(part.name, str) or not part.name:
                    raise ValueError(f"an {kind.__name__} has no name: {part!r}; give it one")
                check_component(part)
                known[part.name] = part
                self._changed()
                return
        raise TypeError(f"expected an Action, a Provider or an Evaluator, not {part!r}")

    def add_model(self, model_type: str, provider: str, model: Model) -> None:
        """Take a model."""
        self.models[model_type, provider] = model
        self._changed()

    def add_send_handler(self, source: str, handler: Handler) -> None:
        """Take what sends messages to a source."""
        self.send_handlers[source] = handler
        self._changed()

    def add_plugin(self, plugin: Plugin, provider: str, priority: int | None = None) -> None:
        """Take what a plugin has, its events aside.

        Args:
            plugin: The plugin.
            provider: What its models are known by: its NAME.
            priority: Of its models, instead of the plugin's own.

        Raises:
            TypeError: A function cannot be run with what it is given.
            ValueError: Something has no name, or that of another.
        """
        parts: list[Action | Provider | Evaluator] = [
            *plugin.actions,
            *plugin.providers,
            *plugin.evaluators,
        ]
        for part in parts:
            self.add(part)
        check_names("actions", plugin.actions)
        check_names("providers", plugin.providers)
        check_names("evaluators", plugin.evaluators)
        for model_type, handler in plugin.models.items():
            check_takes(handler, f"the model {model_type}", "runtime", "params")
            rank = plugin.priority if priority is None else priority
            self.add_model(model_type, provider, Model(handler, rank))

    def add_service(self, service: Service, provider: str, priority: int | None = None) -> None:
        """Take the models of a service that is a `ModelProvider`.

        Args:
            service: The service.
            provider: What its models are known by: its plugin's NAME.
            priority: Instead of the class's own.
        """
        if not isinstance(service, ModelProvider):
            return
        rank = service.priority if priority is None else priority
        for model_type, streams in provided(type(service)).items():
            embeds = model_type == ModelType.TEXT_EMBEDDING
            whole = service.embed if embeds else service.generate_text
            stream = as_model_handler(service.stream_text) if streams else None
            self.add_model(model_type, provider, Model(as_model_handler(whole), rank, stream))

    def told_in(self, manifest: Manifest) -> Manifest:
        """Return a manifest with all of this in it.

        Raises:
            ValueError: Something that is to be told cannot travel.
        """
        made = msgspec.structs.replace(
            manifest,
            actions=_infos("action", _action, self.actions),
            providers=_infos("provider", _provider, self.providers),
            evaluators=_infos("evaluator", _evaluator, self.evaluators),
            models=_infos("model", _model, self.models),
            sends_for=_infos("send handler for", _sends_for, self.send_handlers),
        )
        size = len(msgspec.msgpack.encode(made))
        if size > MANIFEST_MOST:
            raise ValueError(
                f"actions, models and the like are described in {size:,} bytes; "
                f"everybody is told of them, so {MANIFEST_MOST:,} are the most: shorten examples"
            )
        return made


def provided(cls: type[ModelProvider]) -> dict[str, bool]:
    """Return the model types that a provider's author has written, and whether each streams."""
    names = ("generate_text", "stream_text", "embed")
    written = {name for name in names if getattr(cls, name) is not getattr(ModelProvider, name)}
    types = dict[str, bool]()
    if {"generate_text", "stream_text"} & written:
        types |= dict.fromkeys(
            (ModelType.TEXT_SMALL, ModelType.TEXT_LARGE), "stream_text" in written
        )
    if "embed" in written:
        types[ModelType.TEXT_EMBEDDING] = False
    return types


def static_manifest(manifest: Manifest, plugin: Plugin, cls: type[Service], name: str) -> Manifest:
    """Return what a plugin's code alone says that a service will have.

    Args:
        manifest: Its methods.
        plugin: The plugin.
        cls: One of its services; the plugin's own parts live in the first.
        name: The plugin's NAME.
    """
    parts = ComponentRegistry()
    if not plugin.services or cls is plugin.services[0]:
        parts.add_plugin(plugin, name)
    if issubclass(cls, ModelProvider):
        for model_type, streams in provided(cls).items():
            model = Model(_never, cls.priority, _never if streams else None)
            parts.add_model(model_type, name, model)
    return parts.told_in(manifest)


def _never(runtime: Any, params: Any) -> Any:
    raise AssertionError("a manifest's model is not run")


def as_model_handler(method: Handler) -> Handler:
    """Return a provider's method as a model's handler."""
    return lambda runtime, params: method(params)


def _infos(what: str, info: Callable[[Any, Any], T], parts: Mapping[Any, Any]) -> tuple[T, ...]:
    """Return how parts are told, as others will read it.

    Raises:
        ValueError: One cannot be told, or not be read; the text says which and why.
    """
    told = []
    for key, part in parts.items():
        try:
            made = info(key, part)
            told.append(msgspec.msgpack.decode(msgspec.msgpack.encode(made), type=type(made)))
        except (TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
            name = encodable(key if isinstance(key, str) else repr(key))
            raise ValueError(f"the {what} {name} cannot be told to others: {error}") from error
    return tuple(told)


def _examples(examples: Iterable[Any]) -> tuple[Any, ...]:
    """Return examples as JSON has them, in which the supervisor writes down who lives."""
    return tuple(msgspec.json.decode(msgspec.json.encode(example)) for example in examples)


def _action(name: str, action: Action) -> ActionInfo:
    return ActionInfo(
        name,
        encodable(action.description),
        tuple(action.similes),
        _examples(action.examples),
        action.priority,
    )


def _provider(name: str, provider: Provider) -> ProviderInfo:
    return ProviderInfo(
        name,
        encodable(provider.description),
        provider.position,
        provider.dynamic,
        provider.private,
    )


def _evaluator(name: str, evaluator: Evaluator) -> EvaluatorInfo:
    return EvaluatorInfo(
        name,
        encodable(evaluator.description),
        tuple(evaluator.similes),
        _examples(evaluator.examples),
        evaluator.always_run,
    )


def _model(key: tuple[str, str], model: Model) -> ModelInfo:
    return ModelInfo(*key, model.priority, model.stream is not None)


def _sends_for(source: str, handler: Handler) -> str:
    return source
