"""`Action`, `Provider`, `Evaluator`: a plugin's components besides services; gates; event types.

Each component runs in its plugin's own worker. The functions may take fewer arguments than listed
here: `validate(runtime)` is enough. `runtime` is the `Runtime` of that worker.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, TypeAlias

import msgspec

from .content import Memory

Validate: TypeAlias = "Callable[..., Awaitable[bool] | bool]"
Handle: TypeAlias = "Callable[..., Awaitable[Any] | AsyncIterator[Any] | Any]"
Gate: TypeAlias = "Callable[..., Awaitable[str | Refusal | None] | str | Refusal | None]"


IDEMPOTENT = "__garrison_idempotent__"  # the mark of a function that may run twice


class State(msgspec.Struct):
    """The context for answering a message, composed from the results of providers."""

    values: dict[str, Any] = {}  # of all providers, merged
    data: dict[str, Any] = {}  # provider's name to its data
    text: str = ""  # the providers' texts, in order of position


class ProviderResult(msgspec.Struct):
    """What a provider contributes to the state."""

    text: str = ""
    values: dict[str, Any] = {}
    data: dict[str, Any] = {}


class Refusal(msgspec.Struct):
    """A gate's refusal of a message. The agent does not answer it."""

    text: str = ""  # sent to the room; empty: nothing is
    reason: str = ""  # for the agent's record and log; it is not sent


class _Component:
    """The constructor of all components: class attributes are defaults, arguments override them.

    A function that is passed as an argument replaces the method of its name.
    """

    name: str = ""
    description: str = ""

    def __init__(self, name: str, description: str, **overrides: Any) -> None:
        self.name = name or self.name
        self.description = description or self.description
        vars(self).update({key: value for key, value in overrides.items() if value is not None})


class _Conditional(_Component):
    """A component that has a condition, other names, and examples."""

    similes: Iterable[str] = ()
    examples: Iterable[Any] = ()

    def __init__(
        self,
        name: str,
        description: str,
        similes: Iterable[str],
        examples: Iterable[Any],
        **overrides: Any,
    ) -> None:
        super().__init__(name, description, **overrides)
        self.similes = _names(similes or self.similes)
        self.examples = list(examples or self.examples)


class Action(_Conditional):
    """Something that an agent can do. Pass functions, or subclass it and write methods.

    Args:
        name: Its name in responses, such as "SEND_TIP". Case and underscores are ignored.
        description: What it does, for people and models.
        validate: `validate(runtime, memory) -> bool`: whether it applies to this message.
        handler: `handler(runtime, memory, state, responses)`: performs the action. Its return
            value is sent to the room: a text, a `Content`, or a list of these. An asynchronous
            generator sends each value that it yields. An `ActionResult` goes to the caller and is
            not sent. None sends nothing. False is a failure. If the agent's process ends during
            it, it runs again only if it is marked `@idempotent`.
        similes: Other names.
        examples: Conversations that use the action, for models; JSON values.
        priority: Among actions that apply, the one with the highest priority runs first.
        parameters: What a model fills in where it chooses the action: a Struct, or the JSON Schema
            of an object. The handler is then `handler(runtime, memory, state, responses,
            options)`: a value of the Struct, or a mapping; None where no model chose.
        for_model: It finds something out for a model: with `decide = "validate"` it does not apply,
            and a model that chose it answers after it, with its result before it.
    """

    priority: int = 0
    parameters: Any = None
    for_model: bool = False

    def __init__(
        self,
        name: str = "",
        description: str = "",
        *,
        validate: "Validate | None" = None,
        handler: "Handle | None" = None,
        similes: Iterable[str] = (),
        examples: Iterable[Any] = (),
        priority: int | None = None,
        parameters: Any = None,
        for_model: bool | None = None,
    ) -> None:
        own = {
            "validate": validate,
            "handler": handler,
            "priority": priority,
            "parameters": parameters,
            "for_model": for_model,
        }
        super().__init__(name, description, similes, examples, **own)

    def validate(self, runtime: Any, memory: Memory) -> Awaitable[bool] | bool:
        """Return whether the action applies to a message. Default: only where a response names it.

        Args:
            runtime: The `Runtime` of the plugin's worker.
            memory: The message.
        """
        return False

    def handler(self, runtime: Any, memory: Memory, state: State, responses: list[Memory]) -> Any:
        """Perform the action; see `Action` for what it may return.

        Args:
            runtime: The `Runtime` of the plugin's worker.
            memory: The message.
            state: The composed context.
            responses: The replies so far, or those that are about to be sent.

        With `parameters`, it is called with `options` too.
        """
        raise NotImplementedError(f"action {self.name} has no handler")


class Provider(_Component):
    """A source of context for the agent's answers.

    Args:
        name: Its name in `Content.providers`.
        description: What it provides.
        get: `get(runtime, memory, state)`: returns a text, a `ProviderResult`, a mapping of its
            fields, or None.
        position: Texts are ordered by ascending position.
        dynamic: Included only where it is named.
        private: Included only where it is named, and not listed to models.
    """

    position: int = 0
    dynamic: bool = False
    private: bool = False

    def __init__(
        self,
        name: str = "",
        description: str = "",
        *,
        get: "Handle | None" = None,
        position: int | None = None,
        dynamic: bool | None = None,
        private: bool | None = None,
    ) -> None:
        own = {"get": get, "position": position, "dynamic": dynamic, "private": private}
        super().__init__(name, description, **own)

    def get(self, runtime: Any, memory: Memory, state: State) -> Any:
        """Return the context for a message.

        Args:
            runtime: The `Runtime` of the plugin's worker.
            memory: The message.
            state: The state so far; empty while it is being composed.
        """
        raise NotImplementedError(f"provider {self.name} has no get")


class Evaluator(_Conditional):
    """Runs after an answer, to learn from the exchange or to rate it.

    Args:
        name: Its name.
        description: What it does.
        validate: `validate(runtime, memory, state) -> bool`: whether to run. Default: always.
        handler: `handler(runtime, memory, state, responses)`. Its return value is ignored.
        similes: Other names.
        examples: For models; JSON values.
        always_run: Run also where the agent did not answer.
    """

    always_run: bool = False

    def __init__(
        self,
        name: str = "",
        description: str = "",
        *,
        validate: "Validate | None" = None,
        handler: "Handle | None" = None,
        similes: Iterable[str] = (),
        examples: Iterable[Any] = (),
        always_run: bool | None = None,
    ) -> None:
        own = {"validate": validate, "handler": handler, "always_run": always_run}
        super().__init__(name, description, similes, examples, **own)

    def validate(self, runtime: Any, memory: Memory, state: State) -> Awaitable[bool] | bool:
        """Return whether to run the handler for a message.

        Args:
            runtime: The `Runtime` of the plugin's worker.
            memory: The message.
            state: The composed context.
        """
        return True

    def handler(self, runtime: Any, memory: Memory, state: State, responses: list[Memory]) -> Any:
        """Process the exchange.

        Args:
            runtime: The `Runtime` of the plugin's worker.
            memory: The message.
            state: The composed context.
            responses: The replies that were sent.
        """
        raise NotImplementedError(f"evaluator {self.name} has no handler")


def _names(names: Iterable[str] | str) -> list[str]:
    """Return names as a list. A text is one name, not one for each of its characters."""
    return [names] if isinstance(names, str) else list(names)


class EventType:
    """The core's event types; a plugin may use any other string."""

    MESSAGE_RECEIVED = "MESSAGE_RECEIVED"  # a Memory; the agent answers it
    MESSAGE_SENT = "MESSAGE_SENT"  # a Memory; a reply of the agent
    MESSAGE_DROPPED = "MESSAGE_DROPPED"  # {"message", "room", "source", "person", "cause"}
    MESSAGE_EXPIRED = "MESSAGE_EXPIRED"  # the same, with "age_s" in place of "cause"
    MESSAGE_EDITED = "MESSAGE_EDITED"  # a Memory; received before with another text, not answered
    RUN_STARTED = "RUN_STARTED"  # {"message": id, "room": …}
    RUN_ENDED = "RUN_ENDED"  # the same, with "responses", "error"
    ACTION_STARTED = "ACTION_STARTED"  # {"action", "message", "room"}
    ACTION_COMPLETED = "ACTION_COMPLETED"  # the same, with "success", "error"
    EVALUATOR_STARTED = "EVALUATOR_STARTED"  # {"evaluator", "message", "room"}
    EVALUATOR_COMPLETED = "EVALUATOR_COMPLETED"  # the same, with "error"
    MODEL_FAILED = "model.failed"  # {"model", "provider", "kind", "error", "passed_over_s"}
    WORLD_JOINED = "WORLD_JOINED"
    WORLD_CONNECTED = "WORLD_CONNECTED"
    WORLD_LEFT = "WORLD_LEFT"
    ENTITY_JOINED = "ENTITY_JOINED"
    ENTITY_LEFT = "ENTITY_LEFT"
    REACTION_RECEIVED = "REACTION_RECEIVED"
    VOICE_MESSAGE_RECEIVED = "VOICE_MESSAGE_RECEIVED"
    POST_GENERATED = "POST_GENERATED"
    INTERACTION_RECEIVED = "INTERACTION_RECEIVED"
