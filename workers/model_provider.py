"""`ModelProvider`: a service that offers models."""

from collections.abc import AsyncIterator
from typing import Any, ClassVar

from garrison.workers.agents.models import (
    EmbedParams,
    GenerateObjectParams,
    GenerateTextParams,
    ModelType,
)
from garrison.workers.agents.tools import Generated

from .service import Service


class ModelProvider(Service):
    """A service that offers models. Write one or more of its methods.

    `generate_text` or `stream_text` provides the types TEXT_SMALL and TEXT_LARGE; `embed` provides
    TEXT_EMBEDDING, `generate_object` OBJECT_SMALL and OBJECT_LARGE. With `generate_with_tools` it
    gets the requests that offer tools. Other model types are entries of a plugin's `models`.
    """

    priority: ClassVar[int] = 0  # the provider with the highest priority is preferred

    async def generate_text(self, params: GenerateTextParams) -> str:
        """Return the generated text. Default: the text of `stream_text`, joined."""
        if type(self).stream_text is ModelProvider.stream_text:
            raise NotImplementedError(f"{type(self).__name__} does not generate text")
        return "".join([piece async for piece in self.stream_text(params)])

    async def stream_text(self, params: GenerateTextParams) -> AsyncIterator[str]:
        """Yield the generated text in pieces. Default: the text of `generate_text`, as one."""
        yield await self.generate_text(params)

    async def generate_with_tools(self, params: GenerateTextParams) -> Generated:
        """Return the text and the calls of `params.tools` that the model decided on."""
        raise NotImplementedError(f"{type(self).__name__} takes no tools")

    async def stream_with_tools(self, params: GenerateTextParams) -> AsyncIterator[str | Generated]:
        """Yield the text in pieces, and last the whole. Default: `generate_with_tools`."""
        found = await self.generate_with_tools(params)
        if found.text:
            yield found.text
        yield found

    async def generate_object(self, params: GenerateObjectParams) -> Any:
        """Return an object that follows `params.schema`, a JSON Schema, as plain data."""
        raise NotImplementedError(f"{type(self).__name__} does not generate objects")

    async def embed(self, params: EmbedParams) -> list[float]:
        """Return the vector of a text. Every vector of a provider has the same length."""
        raise NotImplementedError(f"{type(self).__name__} does not embed text")

    async def embed_many(self, texts: list[str], model: str | None = None) -> list[list[float]]:
        """Return the vectors of texts, in their order. Default: `embed` of each."""
        return [await self.embed(EmbedParams(text, model)) for text in texts]


def takes_tools(cls: type[ModelProvider]) -> bool:
    """Return whether a class takes requests that offer tools."""
    return cls.generate_with_tools is not ModelProvider.generate_with_tools


def provided_types(cls: type[ModelProvider]) -> dict[str, bool]:
    """Return the model types that a class implements, each with whether it streams."""
    names = ("generate_text", "stream_text", "generate_object", "embed")
    written = {name for name in names if getattr(cls, name) is not getattr(ModelProvider, name)}
    types = dict[str, bool]()
    if {"generate_text", "stream_text"} & written:
        types |= dict.fromkeys(
            (ModelType.TEXT_SMALL, ModelType.TEXT_LARGE), "stream_text" in written
        )
    if "generate_object" in written:
        types |= dict.fromkeys((ModelType.OBJECT_SMALL, ModelType.OBJECT_LARGE), False)
    if "embed" in written:
        types[ModelType.TEXT_EMBEDDING] = False
    return types
