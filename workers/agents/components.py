"""What a plugin brings besides services: actions, providers, evaluators; the events that there are.

Each runs in its plugin's own worker, whoever asks for it. A function may take fewer arguments than
are named here: `validate(runtime)` will do.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from .content import ActionResult, Content, Memory

if TYPE_CHECKING:
    from garrison.workers.runtime import Runtime

Made: TypeAlias = "Content | str | ActionResult | Mapping[str, Any] | bool | None"
Validate: TypeAlias = "Callable[..., Awaitable[bool] | bool]"
Handle: TypeAlias = "Callable[..., Awaitable[Any] | AsyncIterator[Any] | Any]"


class State(msgspec.Struct):
    """What is known when a message is answered, as the providers told it."""

    values: dict[str, Any] = {}
    data: dict[str, Any] = {}
    text: str = ""


class ProviderResult(msgspec.Struct):
    """What a provider adds to the state."""

    text: str = ""
    values: dict[str, Any] = {}
    data: dict[str, Any] = {}


class Action:
    """Something that an agent can do. Give it functions, or subclass it and write methods.

    Args:
        name: As responses name it: "SEND_TIP". Case and underscores do not count.
        description: What it does, for people and models.
        validate: `validate(runtime, memory) -> bool`: does it apply to this message?
        handler: `handler(runtime, memory, state, responses)`: does it. What it returns is said in
            the room: a text or a `Content`; an asynchronous generator says several. An
            `ActionResult` is handed on and said to nobody, None is nothing, False is a failure.
        similes: Other names.
        examples: Conversations in which it is used, for models.
        priority: Of the actions that apply, the higher one goes first.
    """

    name: str = ""
    description: str = ""
    similes: Iterable[str] = ()
    examples: Iterable[Any] = ()
    priority: int = 0

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
    ) -> None:
        self.name = name or self.name
        self.description = description or self.description
        self.similes = _names(similes or self.similes)
        self.examples = list(examples or self.examples)
        self.priority = self.priority if priority is None else priority
        if validate is not None:
            vars(self)["validate"] = validate
        if handler is not None:
            vars(self)["handler"] = handler

    def validate(self, runtime: "Runtime", memory: Memory) -> Awaitable[bool] | bool:
        """Tell whether it applies to a message. One without this applies where it is named."""
        return False

    def handler(
        self, runtime: "Runtime", memory: Memory, state: State, responses: list[Memory]
    ) -> Any:
        """Do it."""
        raise NotImplementedError(f"action {self.name} has no handler")


class Provider:
    """Something that an agent should know before it answers.

    Args:
        name: As `Content.providers` names it.
        description: What it tells.
        get: `get(runtime, memory, state)`: returns a text, a `ProviderResult` or None.
        position: Its text comes before that of a higher one.
        dynamic: Asked only where it is named.
        private: The same, and not shown to models.
    """

    name: str = ""
    description: str = ""
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
        self.name = name or self.name
        self.description = description or self.description
        self.position = self.position if position is None else position
        self.dynamic = self.dynamic if dynamic is None else dynamic
        self.private = self.private if private is None else private
        if get is not None:
            vars(self)["get"] = get

    def get(self, runtime: "Runtime", memory: Memory, state: State) -> Any:
        """Return what it has to say."""
        raise NotImplementedError(f"provider {self.name} has no get")


class Evaluator:
    """Something that looks at a message and its answer afterwards, to learn or to judge.

    Args:
        name: What it is called.
        description: What it does.
        validate: `validate(runtime, memory, state) -> bool`: is it to run? By default it is.
        handler: `handler(runtime, memory, state, responses)`.
        similes: Other names.
        examples: For models.
        always_run: Also where nothing was answered.
    """

    name: str = ""
    description: str = ""
    similes: Iterable[str] = ()
    examples: Iterable[Any] = ()
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
        self.name = name or self.name
        self.description = description or self.description
        self.similes = _names(similes or self.similes)
        self.examples = list(examples or self.examples)
        self.always_run = self.always_run if always_run is None else always_run
        if validate is not None:
            vars(self)["validate"] = validate
        if handler is not None:
            vars(self)["handler"] = handler

    def validate(self, runtime: "Runtime", memory: Memory, state: State) -> Awaitable[bool] | bool:
        """Tell whether it is to run."""
        return True

    def handler(
        self, runtime: "Runtime", memory: Memory, state: State, responses: list[Memory]
    ) -> Any:
        """Look at what was said."""
        raise NotImplementedError(f"evaluator {self.name} has no handler")


def _names(said: Iterable[str] | str) -> list[str]:
    """Return names; a text alone is one, not one of each of its letters."""
    return [said] if isinstance(said, str) else list(said)


class EventType:
    """The core's events; a plugin may use any other string."""

    MESSAGE_RECEIVED = "MESSAGE_RECEIVED"  # a Memory: the agent answers it
    MESSAGE_SENT = "MESSAGE_SENT"  # a Memory: what the agent has said
    RUN_STARTED = "RUN_STARTED"  # {"message": id, "room": …}
    RUN_ENDED = "RUN_ENDED"  # the same, and "responses", "error"
    ACTION_STARTED = "ACTION_STARTED"  # {"action", "message", "room"}
    ACTION_COMPLETED = "ACTION_COMPLETED"  # the same, and "success", "error"
    EVALUATOR_STARTED = "EVALUATOR_STARTED"  # {"evaluator", "message", "room"}
    EVALUATOR_COMPLETED = "EVALUATOR_COMPLETED"  # the same, and "error"
    WORLD_JOINED = "WORLD_JOINED"
    WORLD_CONNECTED = "WORLD_CONNECTED"
    WORLD_LEFT = "WORLD_LEFT"
    ENTITY_JOINED = "ENTITY_JOINED"
    ENTITY_LEFT = "ENTITY_LEFT"
    REACTION_RECEIVED = "REACTION_RECEIVED"
    VOICE_MESSAGE_RECEIVED = "VOICE_MESSAGE_RECEIVED"
    POST_GENERATED = "POST_GENERATED"
    INTERACTION_RECEIVED = "INTERACTION_RECEIVED"
