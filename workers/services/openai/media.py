"""Requests of images, speech and transcription from a service's params. Pure."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from garrison.workers import GenerateObjectParams, Media, ModelError

DESCRIBE = "Describe this image. Give it a short title, too."
DESCRIPTION = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "description": {"type": "string"}},
    "required": ["title", "description"],
    "additionalProperties": False,
}


def _fields(params: Any, name: str) -> dict[str, Any]:
    """Return params as a mapping; a text, which travels as a prompt, is its field `name`."""
    fields = {name: params} if isinstance(params, str | bytes) else params
    if isinstance(fields, Mapping) and set(fields) == {"prompt"}:
        fields = {name: fields["prompt"]}
    if not isinstance(fields, Mapping) or not fields.get(name):
        raise ModelError("invalid", text=f"needs {name!r}, found {str(params)[:80]!r}")
    return dict(fields)


def image_request(params: Any, model: str) -> dict[str, Any]:
    """Return the arguments that generate images from `prompt`, `size`, `n` and `model`."""
    fields = _fields(params, "prompt")
    return {"model": model, **_known(fields, "prompt", "size", "n", "model", "quality")}


def image_url(image: Any) -> str:
    """Return a generated image's address; its data is in a `data:` address."""
    if getattr(image, "url", None):
        return str(image.url)
    return f"data:image/png;base64,{image.b64_json}"


def describe_request(params: Any) -> GenerateObjectParams:
    """Return the request that describes the image at `image_url`, by `prompt` if there is one."""
    fields = _fields(params, "image_url")
    shown = Media(str(fields["image_url"]), content_type="image")
    prompt = str(fields.get("prompt") or DESCRIBE)
    return GenerateObjectParams(
        messages=[{"role": "user", "content": prompt, "attachments": [shown]}], schema=DESCRIPTION
    )


def speech_request(params: Any, model: str, voice: str) -> dict[str, Any]:
    """Return the arguments that speak `text` with `voice`, as `response_format`."""
    fields = _fields(params, "text")
    known = _known(fields, "model", "voice", "response_format", "speed", "instructions")
    return {"model": model, "voice": voice, **known, "input": fields["text"]}


def sound_of(params: Any) -> tuple[str, bytes, dict[str, Any]]:
    """Return the name, the data and further arguments of a sound to transcribe.

    Args:
        params: The data; or `audio`, as data or base64, with `name`, `language`, `prompt`, `model`.
    """
    fields = _fields(params, "audio")
    audio = fields["audio"]
    if isinstance(audio, str):
        try:
            audio = base64.b64decode(audio.rpartition(",")[2], validate=True)
        except (binascii.Error, ValueError) as error:
            raise ModelError("invalid", text=f"`audio` is no base64: {error}") from error
    name = str(fields.get("name") or "audio.mp3")  # the server reads the format from it
    return name, bytes(audio), _known(fields, "language", "prompt", "model")


def _known(fields: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: fields[name] for name in names if fields.get(name) is not None}
