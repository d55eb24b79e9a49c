"""Images, speech and transcripts of a server with OpenAI's API, for services that offer them."""

from typing import Any

from garrison.workers import ModelError

from .limiter import estimate
from .media_requests import (
    IMAGE_MOST,
    Sound,
    Speech,
    image_request,
    images_of_answer,
    short,
    speech_request,
    transcript_of,
)
from .requests import Requests
from .server_client import ServerClient
from .sound_formats import file_name, format_of_bytes

WRITES = 1024  # tokens that a request is taken to write, for `tpm`


class MediaServer:
    """The media of one server.

    Args:
        client: Of the server.
        requests: By which requests are limited and counted.
    """

    def __init__(self, client: ServerClient, requests: Requests) -> None:
        self._client, self._requests = client, requests

    async def images(self, params: Any, model: str, most: int = IMAGE_MOST) -> list[dict[str, str]]:
        """Return generated images, each as `url`; see `image_request`."""
        request = image_request(params, model)
        async with self._requests.request(estimate(len(request["prompt"]), WRITES)):
            return images_of_answer(await self._client.get().images.generate(**request), most)

    async def speech(self, speech: Speech, model: str, voice: str) -> bytes:
        """Return a text as sound, in the format that it names or the server's own."""
        request = speech_request(speech, model, voice)
        async with self._requests.request(estimate(len(speech.text), 0)):
            answer = await self._client.get().audio.speech.create(**request)
            return _sound_of_answer(answer)

    async def transcript(self, sound: Sound, model: str) -> str:
        """Return the spoken text of a sound whose data is there."""
        rest = dict(sound.rest)
        chosen = rest.pop("model", None) or model
        name = file_name(sound.data, sound.content_type, sound.name)
        async with self._requests.request(estimate(0, WRITES)):
            answer = await self._client.get().audio.transcriptions.create(
                model=chosen, file=(name, sound.data), **rest
            )
            return transcript_of(answer)


def _sound_of_answer(answer: Any) -> bytes:
    """Return the bytes of speech.

    Raises:
        ModelError: There are none, or a page or an error of the server came in their place.
    """
    sound = getattr(answer, "content", None)
    headers = getattr(getattr(answer, "response", None), "headers", {})
    kind = str(headers.get("content-type", ""))
    is_text = kind.startswith(("text/", "application/json"))
    if not isinstance(sound, bytes) or not sound or (is_text and format_of_bytes(sound) is None):
        raise ModelError("invalid", text=f"no sound came back, but {kind or short(answer)}")
    return sound
