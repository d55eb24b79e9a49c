"""The image service: images by a server with OpenAI's API, or a placeholder that says so."""

from typing import Annotated, Any, Self

import msgspec

from garrison.workers import (
    Action,
    ActionResult,
    Content,
    Media,
    Memory,
    ModelType,
    Plugin,
    Runtime,
    State,
    idempotent,
)

from ..model_support import media_service
from ..model_support.media_requests import IMAGE_MOST, fields_of, image_request
from ..model_support.provider import CountedService
from ..model_support.requests import Requests
from .placeholder import placeholder, size_of

PRIORITY = -50  # a provider with a key is preferred
TITLE = "placeholder"
DESCRIPTION = "A placeholder: no image was generated"
SHOWN_MOST = 200  # characters of a prompt in a description


class ImageService(CountedService):
    """Images from descriptions."""

    service_type = "image"
    capability_description = "Generates images from descriptions"

    class Config(media_service.ServerKeys):
        """`[services.image.config]`."""

        timeout: Annotated[float, msgspec.Meta(gt=0)] = 120.0  # seconds for an answer
        concurrency: Annotated[int, msgspec.Meta(ge=1)] = 2  # requests at a time
        model: str = "gpt-image-1"  # of the server
        size: str = ""  # where a request names none, as in "1024x1024"; empty: the server's own
        image_bytes: Annotated[int, msgspec.Meta(ge=1024)] = IMAGE_MOST  # of one image, at most
        placeholder: bool = True  # whether a placeholder takes the place of an image

    config: Config
    _media: media_service.Media
    _requests: Requests

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        service._media = media_service.Media(runtime, service.config, service.config.placeholder)
        service._requests = service._media.requests
        await service._media.open(service)
        return service

    async def stop(self) -> None:
        """Close its connections."""
        await self._media.close()

    @idempotent
    async def generate(self, prompt: str, size: str = "") -> Media:
        """Return one image as an attachment. A placeholder has the title "placeholder".

        Args:
            prompt: What it shows.
            size: As in "1024x1024"; "" is the config's.
        """
        params = {"prompt": prompt} | ({"size": size} if size else {})
        return media_of((await self.generate_image(params))[0], prompt)

    @idempotent
    async def generate_image(self, params: Any) -> list[dict[str, str]]:
        """Return images, each as `url`; see `image_request`. It is the model IMAGE."""
        fields = fields_of(params, "prompt")
        if self.config.size:
            fields.setdefault("size", self.config.size)
        request = image_request(fields, self.config.model)
        return await self._media.answer(
            lambda server: server.images(fields, self.config.model, self.config.image_bytes),
            (lambda: _placeholders(request)) if self.config.placeholder else None,
        )


async def _placeholders(request: dict[str, Any]) -> list[dict[str, str]]:
    image = placeholder(*size_of(str(request.get("size") or "")))
    one = Media.of(image, "image/png", TITLE, DESCRIPTION)
    found = {"url": one.url, "title": one.title, "description": one.description}
    return [found for _ in range(request.get("n") or 1)]


def media_of(image: dict[str, str], prompt: str) -> Media:
    """Return an image of a provider as an attachment."""
    kind = Media(image["url"]).type or "image/png"
    about = image.get("description") or prompt[:SHOWN_MOST]
    title = image.get("title") or "image"
    if title != TITLE:
        title = f"{title}.{kind.rpartition('/')[2]}"
    return Media(image["url"], title=title, description=about, content_type=kind)


class ImageOptions(msgspec.Struct):
    """What a model fills in to generate an image."""

    prompt: str


async def generate_image(
    runtime: Runtime, memory: Memory, state: State, responses: list[Memory], options: Any
) -> Content | ActionResult:
    """Answer with an image: the handler of GENERATE_IMAGE."""
    prompt = options.prompt if isinstance(options, ImageOptions) else memory.content.text
    if not prompt.strip():
        return ActionResult(success=False, error="describe the image that is wanted")
    images = await runtime.use_model(ModelType.IMAGE, {"prompt": prompt})
    media = media_of(images[0], prompt)
    return Content(text=DESCRIPTION if media.title == TITLE else "", attachments=[media])


plugin = Plugin(
    name="image",
    services=[ImageService],
    actions=[
        Action(
            "GENERATE_IMAGE",
            "Answers with an image that is generated from a description",
            handler=idempotent(generate_image),
            parameters=ImageOptions,
        )
    ],
    models={ModelType.IMAGE: media_service.handler(ImageService.generate_image)},
    priority=PRIORITY,
    preload=["garrison.workers.services.image"],
)
