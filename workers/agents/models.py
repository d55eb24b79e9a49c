"""Model types and parameters, and the choice of a provider among those that are offered. Pure."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple, NotRequired, Self, TypedDict

import msgspec

from garrison.ipc.declared_errors import DeclaredError
from garrison.ipc.directory import accepts_calls
from garrison.ipc.errors import CallError, GarrisonError, RemoteError
from garrison.ipc.messages import Entry, ModelInfo, State

from .media import Media
from .tools import Tool, ToolCall, as_lines


class ModelType:
    """The core's model types; a plugin may use any other string."""

    TEXT_SMALL = "TEXT_SMALL"
    TEXT_LARGE = "TEXT_LARGE"
    SMALL = TEXT_SMALL
    LARGE = TEXT_LARGE
    TEXT_COMPLETION = "TEXT_COMPLETION"
    TEXT_REASONING_SMALL = "REASONING_SMALL"
    TEXT_REASONING_LARGE = "REASONING_LARGE"
    TEXT_EMBEDDING = "TEXT_EMBEDDING"
    TEXT_TOKENIZER_ENCODE = "TEXT_TOKENIZER_ENCODE"
    TEXT_TOKENIZER_DECODE = "TEXT_TOKENIZER_DECODE"
    IMAGE = "IMAGE"
    IMAGE_DESCRIPTION = "IMAGE_DESCRIPTION"
    TRANSCRIPTION = "TRANSCRIPTION"
    TEXT_TO_SPEECH = "TEXT_TO_SPEECH"
    AUDIO = "AUDIO"
    VIDEO = "VIDEO"
    OBJECT_SMALL = "OBJECT_SMALL"
    OBJECT_LARGE = "OBJECT_LARGE"
    RESEARCH = "RESEARCH"


class ChatMessage(TypedDict):
    """One message of a conversation, in the form that most providers' libraries take."""

    role: str  # "system", "user", "assistant", or "tool" for the result of a call
    content: str
    attachments: NotRequired[list[Media]]  # images; a provider that cannot see ignores them
    tool_calls: NotRequired[list[ToolCall]]  # of an assistant
    tool_call_id: NotRequired[str]  # of a tool: the call whose result it is


class GenerateTextParams(msgspec.Struct, omit_defaults=True):
    """Parameters of text generation: a prompt, or the messages of a conversation."""

    prompt: str = ""
    messages: list[ChatMessage] = []  # oldest first; a prompt follows them
    system: str | None = None
    model: str | None = None  # the provider's name of a model; None is the provider's default
    temperature: float | None = None  # 0 to 2; None is the provider's default
    max_tokens: int | None = None
    stop: list[str] = []  # generation ends before the first of these
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    model_type: str = ""  # the requested ModelType; filled in for the provider's method
    tools: list[Tool] = []  # with tools the model returns `Generated`, not a text
    tool_choice: str = "auto"  # or "none", "required", or the name of the tool to call

    def as_messages(self) -> list[ChatMessage]:
        """Return system text, messages and prompt as one conversation, in this order."""
        system: list[ChatMessage] = (
            [{"role": "system", "content": self.system}] if self.system else []
        )
        prompt: list[ChatMessage] = (
            [{"role": "user", "content": self.prompt}] if self.prompt else []
        )
        return [*system, *self.messages, *prompt]

    def without_tools(self) -> Self:
        """Return the same for a model that takes no tools: calls and results become text."""
        messages = as_lines(self.messages)
        return msgspec.structs.replace(self, messages=messages, tools=[], tool_choice="auto")


class GenerateObjectParams(GenerateTextParams, omit_defaults=True):
    """Parameters of the generation of an object: those of text, and what it must look like."""

    schema: Any = {}  # JSON Schema; where the request is made, also a Struct or another type


class EmbedParams(msgspec.Struct, omit_defaults=True):
    """Parameters of an embedding, or of many: with `texts` the model returns a list of vectors."""

    text: str = ""
    model: str | None = None
    texts: list[str] = []


OBJECT_TYPES = frozenset({ModelType.OBJECT_SMALL, ModelType.OBJECT_LARGE})
TEXT_TYPES = frozenset(
    {
        ModelType.TEXT_SMALL,
        ModelType.TEXT_LARGE,
        ModelType.TEXT_COMPLETION,
        ModelType.TEXT_REASONING_SMALL,
        ModelType.TEXT_REASONING_LARGE,
    }
)
FIELDS: dict[str, frozenset[str]] = {  # model type to the names of its parameters
    ModelType.TEXT_SMALL: frozenset(GenerateTextParams.__struct_fields__),
    ModelType.TEXT_LARGE: frozenset(GenerateTextParams.__struct_fields__),
    ModelType.TEXT_EMBEDDING: frozenset(EmbedParams.__struct_fields__),
}


class ModelUnavailable(GarrisonError):
    """No provider of a model gave an answer, or there is none; the text lists those that exist.

    `errors` maps the NAME of each provider that was called, or passed over, to its error. Where it
    is empty, configure a provider or start one.
    """

    def __init__(
        self, model_type: str, reason: str, errors: Mapping[str, CallError] | None = None
    ) -> None:
        self.model_type, self.reason = model_type, reason
        self.errors: dict[str, CallError] = dict(errors or {})
        super().__init__(f"no model {model_type}: {reason}")


class Model(NamedTuple):
    """One model that a worker offers."""

    handler: Callable[..., Any]  # takes a runtime and params
    priority: int
    stream: Callable[..., Any] | None = None  # the same, as an asynchronous generator of texts
    tools: Callable[..., Any] | None = None  # the same where params offer tools
    tools_stream: Callable[..., Any] | None = None  # the same, as an asynchronous generator
    batch: Callable[..., Any] | None = None  # of embeddings: the same where params have `texts`


class Offer(msgspec.Struct, frozen=True):
    """One provider of one model type, as listed in the directory."""

    service: str  # NAME
    provider: str  # the plugin's name of the provider
    service_type: str
    priority: int
    stream: bool  # it can stream its text
    running: bool
    coming: bool  # it is not running, but calls to it wait until it is
    incarnation: bytes = b""  # of the running service
    counts: bool = False  # it returns tokens too, where that is wanted
    tools: bool = False  # it takes tools

    @property
    def counted(self) -> tuple[bool, ...]:
        """Return the argument that wants tokens, if the service knows it."""
        return (True,) if self.counts else ()

    def matches(self, provider: str | None) -> bool:
        """Return whether a NAME, service_type or plugin's NAME means this offer; None is any."""
        return provider is None or provider in {self.service, self.service_type, self.provider}


def offer_of(entry: Entry, info: ModelInfo) -> Offer:
    """Return the offer for one model of a service's manifest."""
    return Offer(
        entry.name,
        info.provider,
        entry.manifest.service_type,
        info.priority,
        info.stream,
        running=entry.state is State.RUNNING and bool(entry.token),
        coming=accepts_calls(entry.state, entry.wanted),
        incarnation=entry.token,
        counts=info.counts,
        tools=info.tools,
    )


def choose_offer(
    offers: Iterable[Offer], provider: str | None, excluded: Collection[str]
) -> Offer | None:
    """Return the offer with the highest priority among running services, else among coming ones.

    Args:
        offers: Offers of one model type, in config order, which decides between equal priorities.
        provider: A NAME, a service_type or a provider's own name; None is any.
        excluded: NAMEs of services that must not be chosen.
    """
    left = [one for one in offers if one.matches(provider) and one.service not in excluded]
    ordered = sorted(left, key=lambda offer: -offer.priority)  # stable
    running = [offer for offer in ordered if offer.running]
    coming = [offer for offer in ordered if offer.coming]
    return next(iter([*running, *coming]), None)


def as_params(model_type: str, params: Any) -> Any:
    """Convert params to the form that is sent: a text becomes a prompt, or a text to embed; a list
    becomes texts to embed.

    Raises:
        TypeError: A mapping has none of the fields that this model type knows.
    """
    if isinstance(params, str):
        return (params_class(model_type) or GenerateTextParams)(params)
    if model_type == ModelType.TEXT_EMBEDDING and isinstance(params, list | tuple):
        return EmbedParams(texts=list(params))
    known = FIELDS.get(model_type)
    if known is not None and isinstance(params, Mapping) and params and not known & set(params):
        raise TypeError(
            f"{model_type} has no parameters {', '.join(map(str, params))}; "
            f"it has {', '.join(sorted(known))}"
        )
    return {} if params is None else params


def params_class(
    model_type: str,
) -> type[GenerateTextParams] | type[EmbedParams] | None:
    """Return the parameters' class of a model type; None for a type that is not the core's."""
    if model_type in TEXT_TYPES:
        return GenerateTextParams
    if model_type in OBJECT_TYPES:
        return GenerateObjectParams
    return EmbedParams if model_type == ModelType.TEXT_EMBEDDING else None


def no_offer_error(
    model_type: str,
    provider: str | None,
    offers: Iterable[tuple[str, Offer]],
    tools: bool = False,
) -> ModelUnavailable:
    """Return the error for a request that no provider can take; it lists the alternatives.

    Args:
        model_type: The requested type.
        provider: The requested provider; None is any.
        offers: All offers, each with its model type.
        tools: Whether the provider must take tools.
    """
    types = dict[str, list[Offer]]()
    for name, offer in offers:
        types.setdefault(name, []).append(offer)
    if model_type not in types:
        there = ", ".join(types) or "none"
        fix = "; add a plugin with a ModelProvider, such as [plugins.eliza]"
        if types and model_type not in {ModelType.TEXT_LARGE, ModelType.TEXT_SMALL}:
            fix = ""
        return ModelUnavailable(
            model_type, f"no service offers it; offered model types: {there}{fix}"
        )
    named = [offer for offer in types[model_type] if offer.matches(provider)]
    there = ", ".join(offer.service for offer in named or types[model_type])
    if not named:
        return ModelUnavailable(
            model_type, f"{provider!r} does not offer it; it is offered by {there}"
        )
    if tools and not any(offer.tools for offer in named):
        return ModelUnavailable(
            model_type,
            f"none of its providers takes tools: {there}; request an object by its schema instead",
        )
    fix = f"run garrison status {named[0].service} for the reason"
    return ModelUnavailable(model_type, f"none of its providers is running: {there}; {fix}")


def failed_error(
    model_type: str, errors: Mapping[str, CallError], notes: Mapping[str, str]
) -> ModelUnavailable:
    """Return the error for a request that no provider answered.

    Args:
        model_type: The requested type.
        errors: NAME to its error; the last one that was called comes last.
        notes: The text for a NAME in place of its error.
    """
    reasons = (f"{name}: {notes.get(name) or in_short(error)}" for name, error in errors.items())
    return ModelUnavailable(model_type, "; ".join(reasons), errors)


def in_short(error: CallError) -> str:
    """Return the text of a provider's error, without the method that raised it."""
    if isinstance(error, DeclaredError):
        return error.sentence() or error.type_name
    return error.detail if isinstance(error, RemoteError) else str(error)
