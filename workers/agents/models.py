"""Models: what is asked of one, `ModelProvider`, and which of several providers is asked next.

Which is asked, `next_of` decides; the asking is the runtime's.
"""

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from typing import Any, ClassVar, NamedTuple, TypedDict

import msgspec

from garrison.ipc.errors import GarrisonError
from garrison.workers.service import Service


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
    """One message of a conversation, as the libraries of most providers take it."""

    role: str  # "system", "user" or "assistant"
    content: str


class GenerateTextParams(msgspec.Struct, omit_defaults=True):
    """What text is to be generated for: a prompt, or the messages of a conversation."""

    prompt: str = ""
    messages: list[ChatMessage] = []  # oldest first; where there is a prompt too, it comes last
    system: str | None = None
    model: str | None = None  # the provider's own name of one; None is its default
    temperature: float | None = None  # 0 to 2; None is the provider's default
    max_tokens: int | None = None
    stop: list[str] = []  # it ends before the first of these
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None

    def as_messages(self) -> list[ChatMessage]:
        """Return everything as the messages of one conversation: system, messages, prompt."""
        system: list[ChatMessage] = (
            [{"role": "system", "content": self.system}] if self.system else []
        )
        prompt: list[ChatMessage] = (
            [{"role": "user", "content": self.prompt}] if self.prompt else []
        )
        return [*system, *self.messages, *prompt]


class EmbedParams(msgspec.Struct, omit_defaults=True):
    """A text whose place among all texts is wanted."""

    text: str = ""
    model: str | None = None


KNOWN: dict[str, frozenset[str]] = {  # model type → what it can be asked with
    ModelType.TEXT_SMALL: frozenset(GenerateTextParams.__struct_fields__),
    ModelType.TEXT_LARGE: frozenset(GenerateTextParams.__struct_fields__),
    ModelType.TEXT_EMBEDDING: frozenset(EmbedParams.__struct_fields__),
}


class ModelProvider(Service):
    """A service that offers models. Write one or more of its three methods.

    `generate_text` or `stream_text` makes it TEXT_SMALL and TEXT_LARGE, `embed` TEXT_EMBEDDING.
    Other model types are a plugin's `models`.
    """

    priority: ClassVar[int] = 0  # the higher one is asked first

    async def generate_text(self, params: GenerateTextParams) -> str:
        """Return the text that follows."""
        if type(self).stream_text is ModelProvider.stream_text:
            raise NotImplementedError(f"{type(self).__name__} generates no text")
        return "".join([piece async for piece in self.stream_text(params)])

    async def stream_text(self, params: GenerateTextParams) -> AsyncIterator[str]:
        """Yield the text that follows, in pieces, as they come."""
        yield await self.generate_text(params)

    async def embed(self, params: EmbedParams) -> list[float]:
        """Return the text's vector."""
        raise NotImplementedError(f"{type(self).__name__} embeds no text")


class ModelUnavailable(GarrisonError):
    """No provider could be asked; the text says which there are. Configure one, or start it."""

    def __init__(self, model_type: str, reason: str) -> None:
        self.model_type, self.reason = model_type, reason
        super().__init__(f"no model {model_type}: {reason}")


class Model(NamedTuple):
    """One model that a worker offers."""

    handler: Callable[..., Any]  # takes a runtime and params
    priority: int
    stream: Callable[..., Any] | None = None  # the same, yielding the text in pieces


class Offer(NamedTuple):
    """One provider of one model type, as the directory has it."""

    service: str  # NAME
    provider: str  # what its plugin calls it
    service_type: str
    priority: int
    stream: bool  # it yields its text in pieces
    running: bool
    coming: bool  # a call to it is worth waiting with

    def is_of(self, provider: str | None) -> bool:
        """Tell whether this is meant by a NAME, a service_type or a plugin's NAME; None is any."""
        return provider is None or provider in {self.service, self.service_type, self.provider}


def choose_offer(
    offers: Iterable[Offer], provider: str | None, given_up: Collection[str]
) -> Offer | None:
    """Return which provider to ask: the highest of those that run, else of those that will.

    Args:
        offers: Those of one model type, in config order, which decides among equals.
        provider: A NAME, a service_type or a provider's own name; None is any.
        given_up: NAMEs that are not to be asked again.
    """
    named = [offer for offer in offers if offer.is_of(provider)]
    left = [offer for offer in named if offer.service not in given_up]
    ordered = sorted(left, key=lambda offer: -offer.priority)  # stable
    running = [offer for offer in ordered if offer.running]
    coming = [offer for offer in ordered if offer.coming]
    return next(iter([*running, *coming]), None)


def as_params(model_type: str, params: Any) -> Any:
    """Return what a model is asked with; a text alone is a prompt, or what is to be embedded.

    Raises:
        TypeError: A model of texts, or of embeddings, is asked with nothing that it knows.
    """
    if isinstance(params, str):
        embeds = model_type == ModelType.TEXT_EMBEDDING
        return EmbedParams(params) if embeds else GenerateTextParams(params)
    known = KNOWN.get(model_type)
    if known is not None and isinstance(params, Mapping) and params and not known & set(params):
        there = ", ".join(sorted(known))
        raise TypeError(
            f"{model_type} is asked with {', '.join(map(str, params))}; it knows {there}"
        )
    return {} if params is None else params


def no_offer_error(
    model_type: str, provider: str | None, known: Iterable[tuple[str, Offer]]
) -> ModelUnavailable:
    """Return the error where there is no provider to ask, with what there is.

    Args:
        model_type: What was asked for.
        provider: Of whom; None is of anybody.
        known: Every model type that is offered, and its offer.
    """
    types = dict[str, list[Offer]]()
    for name, offer in known:
        types.setdefault(name, []).append(offer)
    if model_type not in types:
        there = ", ".join(types) or "none at all"
        how = "; add a plugin with a ModelProvider, such as [plugins.eliza]"
        if types and model_type not in {ModelType.TEXT_LARGE, ModelType.TEXT_SMALL}:
            how = ""
        return ModelUnavailable(model_type, f"nobody offers it; there are: {there}{how}")
    named = [offer for offer in types[model_type] if offer.is_of(provider)]
    there = ", ".join(offer.service for offer in named or types[model_type])
    if not named:
        return ModelUnavailable(model_type, f"{provider!r} offers none; it is offered by {there}")
    why = f"; garrison status {named[0].service} says why"
    return ModelUnavailable(model_type, f"none of its providers is running: {there}{why}")
