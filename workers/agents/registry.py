"""The components of one worker: actions, providers, evaluators, models, send handlers, a gate.

They are listed in the service's manifest, and run for other workers by `InternalMethods`.
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

from .components import IDEMPOTENT, Action, Evaluator, Provider
from .models import Model
from .objects import parameters_schema
from .task_workers import TaskWorker
from .validation import check_component, check_gate, check_task_worker

Handler = Callable[..., Any]
T = TypeVar("T")

# Bytes of one service's manifest. Each service keeps the manifests of all others, and the
# supervisor writes all of them to disk at each change of a service's state: with 50 manifests of
# 1 MB that delayed calls by 0.4 s.
MANIFEST_LIMIT = 256 * 1024


class ComponentRegistry:
    """The components that are registered in this worker, by name.

    Args:
        changed: Called after each registration.
    """

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        self._changed = changed
        self.actions: dict[str, Action] = {}
        self.providers: dict[str, Provider] = {}
        self.evaluators: dict[str, Evaluator] = {}
        self.models: dict[tuple[str, str], Model] = {}  # by model type and provider
        self.send_handlers: dict[str, Handler] = {}  # by source
        self.gate: Handler | None = None
        self.task_workers: dict[str, TaskWorker] = {}  # by the name of their tasks

    def add(self, component: Action | Provider | Evaluator) -> None:
        """Register a component. It replaces a component of the same kind and name.

        Raises:
            TypeError: It is not a component, or its functions require other arguments.
            ValueError: It has no name.
        """
        kinds: list[tuple[type, dict[str, Any]]] = [
            (Action, self.actions),
            (Provider, self.providers),
            (Evaluator, self.evaluators),
        ]
        for kind, known in kinds:
            if isinstance(component, kind):
                if not isinstance(component.name, str) or not component.name:
                    raise ValueError(f"{component!r}, of class {kind.__name__}, needs a name")
                check_component(component)
                known[component.name] = component
                self._changed()
                return
        raise TypeError(f"expected an Action, a Provider or an Evaluator, not {component!r}")

    def remove_action(self, name: str) -> bool:
        """Remove an action; return False if there is none of this name."""
        return self._remove(self.actions, name)

    def remove_provider(self, name: str) -> bool:
        """Remove a provider of context likewise."""
        return self._remove(self.providers, name)

    def _remove(self, known: dict[str, Any], name: str) -> bool:
        if known.pop(name, None) is None:
            return False
        self._changed()
        return True

    def add_model(self, model_type: str, provider: str, model: Model) -> None:
        """Register a model. It replaces a model of the same type and provider."""
        self.models[model_type, provider] = model
        self._changed()

    def add_send_handler(self, source: str, handler: Handler) -> None:
        """Register the function that sends messages for a source."""
        self.send_handlers[source] = handler
        self._changed()

    def add_task_worker(self, worker: TaskWorker) -> None:
        """Register what runs the tasks of a name. It replaces a worker of the same name.

        Raises:
            TypeError: It is no `TaskWorker`, or its functions require other arguments.
            ValueError: It has no name.
        """
        check_task_worker(worker)
        self.task_workers[worker.name] = worker
        self._changed()

    def set_gate(self, gate: Handler) -> None:
        """Register the plugin's gate. Raises TypeError if it requires other arguments."""
        check_gate(gate)
        self.gate = gate
        self._changed()

    def add_to_manifest(self, manifest: Manifest) -> Manifest:
        """Return a copy of a manifest that lists the components.

        Raises:
            ValueError: A component cannot be encoded, or the manifest exceeds `MANIFEST_LIMIT`.
        """
        made = msgspec.structs.replace(
            manifest,
            actions=_infos("action", _action, self.actions),
            providers=_infos("provider", _provider, self.providers),
            evaluators=_infos("evaluator", _evaluator, self.evaluators),
            models=_infos("model", _model, self.models),
            sends_for=_infos("send handler for", _sends_for, self.send_handlers),
            gate=self.gate is not None,
            task_workers=_infos("task worker", _task_worker, self.task_workers),
        )
        size = len(msgspec.msgpack.encode(made))
        if size > MANIFEST_LIMIT:
            raise ValueError(
                f"the descriptions of its actions, models and other components have {size:,} "
                f"bytes; the limit is {MANIFEST_LIMIT:,}: shorten the examples"
            )
        return made


def as_model_handler(method: Handler) -> Handler:
    """Wrap a function of params as a model's handler, which takes a runtime and params."""
    return lambda runtime, params: method(params)


def _infos(
    what: str, info: Callable[[Any, Any], T], components: Mapping[Any, Any]
) -> tuple[T, ...]:
    """Return the manifest's entries for components, as their readers will decode them.

    Raises:
        ValueError: One cannot be encoded, or not be decoded as its type.
    """
    infos = []
    for key, component in components.items():
        try:
            made = info(key, component)
            infos.append(msgspec.msgpack.decode(msgspec.msgpack.encode(made), type=type(made)))
        except (TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
            name = encodable(key if isinstance(key, str) else repr(key))
            raise ValueError(f"the {what} {name} cannot be sent to others: {error}") from error
    return tuple(infos)


def _examples(examples: Iterable[Any]) -> tuple[Any, ...]:
    """Convert examples to JSON values: the supervisor's state file is JSON."""
    return tuple(msgspec.json.decode(msgspec.json.encode(example)) for example in examples)


def _action(name: str, action: Action) -> ActionInfo:
    return ActionInfo(
        name,
        encodable(action.description),
        tuple(action.similes),
        _examples(action.examples),
        action.priority,
        bool(getattr(action.handler, IDEMPOTENT, False)),
        parameters_schema(action.parameters),
        bool(getattr(action, "for_model", False)),
        getattr(action.validate, "__func__", None) is not Action.validate,
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
    streams, takes_tools = model.stream is not None, model.tools is not None
    return ModelInfo(*key, model.priority, streams, counts=True, tools=takes_tools)


def _sends_for(source: str, handler: Handler) -> str:
    return source


def _task_worker(name: str, worker: TaskWorker) -> str:
    return name
