"""`AgentRuntime`: the runtime's part for the agent: components, models, messages, the database."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any

from garrison.workers.agents.api import ANSWER_S, PROVIDER_S, AgentApi
from garrison.workers.agents.components import Action, Evaluator, Provider, State
from garrison.workers.agents.content import Content, Memory, Processed, TargetInfo
from garrison.workers.agents.database.adapter import DatabaseAdapter
from garrison.workers.agents.models import Model
from garrison.workers.agents.registry import ComponentRegistry
from garrison.workers.agents.remote import (
    RemoteAction,
    RemoteEvaluator,
    RemoteGate,
    RemoteProvider,
)
from garrison.workers.agents.task_workers import RemoteTaskWorker, TaskWorker
from garrison.workers.agents.tools import Generated

Handler = Callable[..., Awaitable[Any] | Any]


class AgentRuntime:
    """What a service offers to its agent, and uses of it. See `Runtime`."""

    def __init__(self, name: str, api: AgentApi, components: ComponentRegistry) -> None:
        self.name = name
        self._api, self._components = api, components

    # --- components -------------------------------------------------------------------------

    def register_action(self, action: Action) -> None:
        """Offer an action from this worker, in addition to its plugin's.

        Raises:
            TypeError: It is not an action, or its functions require other arguments.
            ValueError: It has no name.
        """
        self._components.add(action)

    def register_provider(self, provider: Provider) -> None:
        """Offer a provider of context from this worker. Raises as `register_action` does."""
        self._components.add(provider)

    def unregister_action(self, name: str) -> bool:
        """Offer an action of this worker no longer; return False if there is none of this name.

        A run that began goes on. Answers that have chosen it since are refused it.
        """
        return self._components.remove_action(name)

    def unregister_provider(self, name: str) -> bool:
        """Offer a provider of context of this worker no longer; return False likewise."""
        return self._components.remove_provider(name)

    def register_evaluator(self, evaluator: Evaluator) -> None:
        """Offer an evaluator from this worker. Raises as `register_action` does."""
        self._components.add(evaluator)

    def register_model(
        self,
        model_type: str,
        handler: Handler,
        provider: str = "",
        priority: int = 0,
        tools: Handler | None = None,
    ) -> None:
        """Offer a model from this worker.

        Args:
            model_type: One of `ModelType`, or any other text.
            handler: `handler(runtime, params)`; an asynchronous generator streams its text.
            provider: The provider's name; the service's NAME by default.
            priority: The provider with the highest priority is preferred.
            tools: `tools(runtime, params)` returns `Generated`, where `params.tools` are given;
                without it, such requests go to other providers.
        """
        model = Model(handler, priority, tools=tools)
        self._components.add_model(model_type, provider or self.name, model)

    def register_send_handler(self, source: str, handler: Handler) -> None:
        """Send all messages for a source with `handler(runtime, target, content)`."""
        self._components.add_send_handler(source, handler)

    def register_task_worker(self, worker: TaskWorker) -> None:
        """Run the tasks of a name in this worker, each when the task service claims it.

        Raises:
            TypeError: It is no `TaskWorker`, or its functions require other arguments.
            ValueError: It has no name.
        """
        self._components.add_task_worker(worker)

    def get_task_worker(self, name: str) -> RemoteTaskWorker | None:
        """Return what runs the tasks of a name, in whichever service; None if nothing does."""
        return next((worker for worker in self._api.task_workers if worker.name == name), None)

    @property
    def actions(self) -> list[RemoteAction]:
        """Return the actions of all plugins whose workers run or will run, in config order."""
        return self._api.actions

    @property
    def providers(self) -> list[RemoteProvider]:
        """Return the providers of context of all plugins, likewise."""
        return self._api.providers

    @property
    def evaluators(self) -> list[RemoteEvaluator]:
        """Return the evaluators of all plugins, likewise."""
        return self._api.evaluators

    @property
    def gates(self) -> list[RemoteGate]:
        """Return the gates of all plugins, also of those that do not run, in config order."""
        return self._api.gates

    # --- the agent --------------------------------------------------------------------------

    async def compose_state(
        self,
        memory: Memory,
        include: Iterable[str] = (),
        only_include: bool = False,
        timeout: float = PROVIDER_S,
    ) -> State:
        """Compose the context for a message from all providers.

        Args:
            memory: The message.
            include: Names of dynamic or private providers to use as well.
            only_include: Use only these.
            timeout: Seconds for each provider. One that fails or is late is left out and logged;
                so is what exceeds a quarter of `max_message` in total. One whose service does
                not run is left out at once, and one that was late twice for 30 s.
        """
        return await self._api.compose_state(memory, include, only_include, timeout)

    async def use_model(
        self,
        model_type: str,
        params: Any = None,
        provider: str | None = None,
        timeout: float | None = None,
        fallback: bool = True,
    ) -> Any:
        """Run a model with the running provider of the highest priority. Where that gives no
        answer, the next one is called; the kind of a `ModelError` decides.

        Args:
            model_type: One of `ModelType`, or a plugin's own.
            params: `GenerateTextParams`, `EmbedParams`, a mapping of their fields, or a text; to
                embed many texts, a list of them. With `tools`, only providers that take tools are
                called, and `Generated` is returned.
            provider: Use only this one: a NAME, a service_type or a plugin's NAME.
            timeout: Seconds for each provider; None is the service's `timeout`.
            fallback: False: only the one of the highest priority is called.

        Raises:
            ModelUnavailable: None gave an answer, or there is none; `errors` has that of each.
        """
        return await self._api.use_model(model_type, params, provider, timeout, fallback)

    def takes_tools(self, model_type: str, fallback: bool = True) -> bool:
        """Return whether the provider that `use_model` would call now takes tools."""
        return self._api.takes_tools(model_type, fallback)

    def provider_of(self, model_type: str, fallback: bool = True) -> str:
        """Return the NAME of the provider that `use_model` would call now; "" if there is none."""
        return self._api.provider_of(model_type, fallback)

    def model_offers(self) -> list[dict[str, Any]]:
        """Return the providers of each model type as this service sees them, for operators.

        Returns:
            `model_type`, `service`, `priority`, `stream`, `tools`, `running`; and of its failures
            in a row `failures`, `error` and `passed_over_s`, the seconds that are left, or None.
        """
        return self._api.model_offers()

    def use_model_stream(
        self,
        model_type: str,
        params: Any = None,
        provider: str | None = None,
        timeout: float | None = None,
        fallback: bool = True,
    ) -> AsyncIterator[str]:
        """Run a model as `use_model` does, and yield its text in pieces. The timeout is for each
        next piece. After its first piece no other provider is called: a `CallError` is raised."""
        return self._api.use_model_stream(model_type, params, provider, timeout, fallback)

    def stream_with_tools(
        self,
        model_type: str,
        params: Any,
        provider: str | None = None,
        timeout: float | None = None,
        fallback: bool = True,
    ) -> AsyncIterator[str | Generated]:
        """Run a model with `params.tools` as `use_model` does; yield its text in pieces as
        `use_model_stream` does, and last the whole: its text and its calls."""
        return self._api.stream_with_tools(model_type, params, provider, timeout, fallback)

    async def process_actions(
        self,
        memory: Memory | Content | Mapping[str, Any] | str,
        responses: Iterable[Memory | Content | Mapping[str, Any] | str] = (),
        state: State | None = None,
        timeout: float = ANSWER_S,
    ) -> Processed:
        """Have the agent process a message, and send the replies through the message's source.

        Args:
            memory: The message. Messages with the same `id` are processed once. `room_id` is where
                replies go, `content.source` the service that sends them (default: this one).
            responses: Replies to send, and actions to run. Without any, the agent decides.
            state: The context, if the caller has composed it already.
            timeout: Seconds.

        Raises:
            ServiceUnavailable: No agent is configured.
            CallError: The message was not processed.
        """
        return await self._api.process_actions(memory, responses, state, timeout)

    async def send_message_to_target(
        self,
        target: TargetInfo | Mapping[str, Any],
        content: Content | str | Mapping[str, Any],
        timeout: float | None = None,
        id: str = "",
        expect: bool = False,
    ) -> Any:
        """Send a message: with the send handler for `target.source`, else with the method
        `send_message(channel, text)` of the service of that NAME or type; return its result.

        A `Platform` sends messages with the same `id` once; `expect` queries the platform first.

        Raises:
            ServiceUnavailable: No service sends for that source.
            CallError: The message was not sent; after `ServiceLost` or `CallTimeout` it may be.
        """
        return await self._api.send_message_to_target(target, content, timeout, id, expect)

    @property
    def database_adapter(self) -> DatabaseAdapter:
        """Return the database of memories, tasks and cache: the service of type `database`, else
        the agent, whose memories end with its process.

        Raises:
            ServiceUnavailable: Neither is configured.
        """
        return self._api.database_adapter

    @property
    def has_database(self) -> bool:
        """Return whether a service of type `database` is configured, for the agent or shared."""
        return self._api.has_database
