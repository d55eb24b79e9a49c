"""Registers the components that a plugin and its services bring, at run time or for `check`."""

from typing import Any

import msgspec

from garrison.ipc.messages import Manifest
from garrison.workers.agents.components import Action, Evaluator, Provider
from garrison.workers.agents.models import (
    OBJECT_TYPES,
    TEXT_TYPES,
    EmbedParams,
    GenerateTextParams,
    Model,
    ModelType,
)
from garrison.workers.agents.registry import ComponentRegistry, Handler
from garrison.workers.agents.validation import check_names, check_takes
from garrison.workers.model_provider import ModelProvider, provided_types, takes_tools
from garrison.workers.plugin import Plugin
from garrison.workers.service import Service


def add_plugin(
    registry: ComponentRegistry, plugin: Plugin, provider: str, priority: int | None = None
) -> None:
    """Register a plugin's components; its events are registered elsewhere.

    Args:
        registry: Where to.
        plugin: The plugin.
        provider: The name of its models' provider: the plugin's NAME.
        priority: Priority of its models, in place of the plugin's own.

    Raises:
        TypeError: A function requires other arguments.
        ValueError: A component has no name, or two have the same.
    """
    components: list[Action | Provider | Evaluator] = [
        *plugin.actions,
        *plugin.providers,
        *plugin.evaluators,
    ]
    for component in components:
        registry.add(component)
    check_names("actions", plugin.actions)
    check_names("providers", plugin.providers)
    check_names("evaluators", plugin.evaluators)
    for worker in plugin.task_workers:
        registry.add_task_worker(worker)
    check_names("task workers", plugin.task_workers)
    if plugin.gate is not None:
        registry.set_gate(plugin.gate)
    rank = plugin.priority if priority is None else priority
    for model_type, handler in plugin.models.items():
        check_takes(handler, f"the model {model_type}", "runtime", "params")
        registry.add_model(model_type, provider, Model(handler, rank))


def add_service(
    registry: ComponentRegistry, service: Service, provider: str, priority: int | None = None
) -> None:
    """Register the models of a service that is a `ModelProvider`; arguments as of `add_plugin`."""
    if not isinstance(service, ModelProvider):
        return
    rank = service.priority if priority is None else priority
    for model_type, streams in provided_types(type(service)).items():
        stream = _of_type(model_type, service.stream_text) if streams else None
        whole = _of_type(model_type, _method(service, model_type))
        model = Model(whole, rank, stream)
        if model_type in TEXT_TYPES and takes_tools(type(service)):
            model = model._replace(
                tools=_of_type(model_type, service.generate_with_tools),
                tools_stream=_of_type(model_type, service.stream_with_tools),
            )
        if model_type == ModelType.TEXT_EMBEDDING:
            model = model._replace(batch=_batch(service))
        registry.add_model(model_type, provider, model)


def _method(service: ModelProvider, model_type: str) -> Handler:
    """Return the method behind one of the types that a `ModelProvider` provides."""
    if model_type == ModelType.TEXT_EMBEDDING:
        return service.embed
    return service.generate_object if model_type in OBJECT_TYPES else service.generate_text


def _batch(service: ModelProvider) -> Handler:
    """Return the handler of a request to embed many texts."""

    def embed_many(runtime: Any, params: EmbedParams) -> Any:
        model = () if params.model is None else (params.model,)
        return service.embed_many(params.texts, *model)

    return embed_many


def _of_type(model_type: str, method: Handler) -> Handler:
    """Wrap a method as the handler of a model type; params that are the core's name the type."""
    return lambda runtime, params: method(_naming(model_type, params))  # no annotations, as theirs


def _naming(model_type: str, params: Any) -> Any:
    if isinstance(params, GenerateTextParams):
        return msgspec.structs.replace(params, model_type=model_type)
    return params


def static_manifest(manifest: Manifest, plugin: Plugin, cls: type[Service], name: str) -> Manifest:
    """Return the manifest that a service will have, as far as its plugin's code defines it.

    Args:
        manifest: The manifest of its methods.
        plugin: The plugin.
        cls: One of its services; the plugin's components belong to the first.
        name: NAME of the plugin.
    """
    registry = ComponentRegistry()
    if not plugin.services or cls is plugin.services[0]:
        add_plugin(registry, plugin, name)
    if issubclass(cls, ModelProvider):
        for model_type, streams in provided_types(cls).items():
            tools = _unused if model_type in TEXT_TYPES and takes_tools(cls) else None
            model = Model(_unused, cls.priority, _unused if streams else None, tools)
            registry.add_model(model_type, name, model)
    return registry.add_to_manifest(manifest)


def _unused(runtime: Any, params: Any) -> Any:
    raise AssertionError("the models of a static manifest are never run")
