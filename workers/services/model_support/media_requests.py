"""Requests of images, speech and transcription from a model's params, and their answers. Pure."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any, NamedTuple

from garrison.workers import GenerateObjectParams, Media, ModelError

from .sound_formats import BY_NAME, OGG, SoundFormat

DESCRIBE = "Describe this image. Give it a short title, too."
DESCRIPTION = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "description": {"type": "string"}},
    "required": ["title", "description"],
    "additionalProperties": False,
}
ALIASES = {  # elizaOS's names of fields, and those of `Media`
    "audioUrl": "audio",
    "audio_url": "audio",
    "url": "audio",
    "mimeType": "content_type",
    "imageUrl": "image_url",
    "count": "n",
    "format": "response_format",
    "input": "text",
}
SOUND_MOST = 25 << 20  # bytes of a sound to transcribe, as OpenAI takes them
IMAGE_MOST = 16 << 20  # bytes of one generated image
IMAGES_MOST = 10  # of one request


def fields_of(params: Any, name: str) -> dict[str, Any]:
    """Return params as a mapping; a text, which travels as a prompt, is its field `name`.

    Raises:
        ModelError: They are none, or lack that field.
    """
    fields = {name: params} if isinstance(params, str | bytes) else params
    if isinstance(fields, Mapping) and set(fields) == {"prompt"}:
        fields = {name: fields["prompt"]}
    if isinstance(fields, Mapping):
        fields = {ALIASES.get(key, key): value for key, value in fields.items()}
    if not isinstance(fields, Mapping) or not fields.get(name):
        raise ModelError("invalid", text=f"needs {name!r}, found {str(params)[:80]!r}")
    return dict(fields)


# --- images ---------------------------------------------------------------------------------


def image_request(params: Any, model: str) -> dict[str, Any]:
    """Return the arguments that generate images from `prompt`, `size`, `n` and `model`.

    Raises:
        ModelError: There are none, or more than one request may have.
    """
    fields = fields_of(params, "prompt")
    number = fields.get("n") or 1
    if not isinstance(number, int) or not 1 <= number <= IMAGES_MOST:
        raise ModelError("invalid", text=f"`n` is 1 to {IMAGES_MOST} images, not {number!r:.20}")
    return {"model": model, **_known(fields, "prompt", "size", "n", "model", "quality")}


def images_of_answer(answer: Any, most: int = IMAGE_MOST) -> list[dict[str, str]]:
    """Return the images of an answer, each with its address; data is in a `data:` address.

    Raises:
        ModelError: There are none, or one is too large.
    """
    data = getattr(answer, "data", None)
    if not isinstance(data, list) or not data:
        raise ModelError("invalid", text=f"no image came back: {short(answer)}")
    return [{"url": _image_url(one, most)} for one in data]


def _image_url(image: Any, most: int) -> str:
    data = getattr(image, "b64_json", None)
    if isinstance(data, str) and data:
        if len(data) * 3 // 4 > most:
            raise ModelError("invalid", text=f"an image of {len(data) * 3 // 4} bytes came back")
        return f"data:{_image_type(data)};base64,{data}"
    url = getattr(image, "url", None)
    if not isinstance(url, str) or not url.startswith(("http://", "https://", "data:image/")):
        raise ModelError("invalid", text=f"an image without address or data came back: {url!r:.40}")
    return url


def _image_type(data: str) -> str:
    """Return the content type by the first characters of an image's base64."""
    starts = {"/9j/": "image/jpeg", "UklG": "image/webp", "R0lG": "image/gif"}
    return starts.get(data[:4], "image/png")


def describe_request(params: Any) -> GenerateObjectParams:
    """Return the request that describes the image at `image_url`, by `prompt` if there is one."""
    fields = fields_of(params, "image_url")
    shown = Media(str(fields["image_url"]), content_type="image")
    prompt = str(fields.get("prompt") or DESCRIBE)
    return GenerateObjectParams(
        messages=[{"role": "user", "content": prompt, "attachments": [shown]}], schema=DESCRIPTION
    )


# --- speech ---------------------------------------------------------------------------------


class Speech(NamedTuple):
    """A text to speak."""

    text: str
    voice: str = ""
    format: SoundFormat | None = None
    rest: Mapping[str, Any] = {}  # what only a server knows: model, speed, instructions


def speech_of(params: Any, most: int) -> Speech:
    """Return what params say of a text to speak.

    Raises:
        ModelError: There is no text, it is too long, or the format is not known.
    """
    fields = fields_of(params, "text")
    text = fields["text"]
    if not isinstance(text, str) or not text.strip():
        raise ModelError("invalid", text=f"`text` is to be spoken, not {text!r:.40}")
    if len(text) > most:
        raise ModelError(
            "invalid", text=f"the text has {len(text)} characters, at most {most} are spoken"
        )
    name = fields.get("response_format")
    if name is not None and name not in BY_NAME:
        known = ", ".join(sorted(BY_NAME))
        raise ModelError("invalid", text=f"`format` is one of {known}; not {name!r:.40}")
    rest = _known(fields, "model", "speed", "instructions")
    return Speech(text, str(fields.get("voice") or ""), BY_NAME.get(name or ""), rest)


def speech_request(speech: Speech, model: str, voice: str) -> dict[str, Any]:
    """Return the arguments that speak a text."""
    request = {"model": model, "voice": speech.voice or voice, **speech.rest, "input": speech.text}
    if speech.format is not None:
        request["response_format"] = "opus" if speech.format is OGG else speech.format.name
    return request


# --- transcription --------------------------------------------------------------------------


class Sound(NamedTuple):
    """A sound to transcribe: its data, or its address."""

    data: bytes = b""
    url: str = ""
    content_type: str = ""
    name: str = ""
    rest: Mapping[str, Any] = {}  # language, prompt, model


def sound_of(params: Any, most: int = SOUND_MOST) -> Sound:
    """Return the sound that params contain.

    Args:
        params: The data; or `audio`, as data, base64 or an address, with `content_type`, `name`,
            `language`, `prompt`, `model`.
        most: Bytes of its data.

    Raises:
        ModelError: There is none, or it is damaged or too large. A path is never opened.
    """
    fields = fields_of(params, "audio")
    audio = fields["audio"]
    kind, name = str(fields.get("content_type") or ""), str(fields.get("name") or "")
    rest = _known(fields, "language", "prompt", "model")
    if isinstance(audio, str) and audio.startswith(("http://", "https://")):
        return Sound(url=audio, content_type=kind, name=name, rest=rest)
    if isinstance(audio, str):
        kind = kind or Media(audio).type
        audio = _decoded(audio, most)
    if not isinstance(audio, bytes | bytearray):
        raise ModelError("invalid", text=f"`audio` is data or an address, not {audio!r:.40}")
    check_size(len(audio), most)
    return Sound(bytes(audio), "", kind, name, rest)


def check_size(size: int, most: int) -> None:
    """Raise ModelError if a sound has too many bytes, or none."""
    if not 0 < size <= most:
        raise ModelError("invalid", text=f"the sound has {size} bytes; 1 to {most} are transcribed")


def _decoded(audio: str, most: int) -> bytes:
    if len(audio) > most * 2:  # base64 has 4 characters for 3 bytes
        raise ModelError("invalid", text=f"the sound has more than {most} bytes")
    try:
        found = Media(audio).data()
        return base64.b64decode(audio, validate=True) if found is None else found
    except (binascii.Error, ValueError) as error:
        text = f"`audio` is no base64 and no address of http(s) or data: {error}"
        raise ModelError("invalid", text=text) from error


def transcript_of(answer: Any) -> str:
    """Return the text of a transcript.

    Raises:
        ModelError: There is none.
    """
    text = answer if isinstance(answer, str) else getattr(answer, "text", None)
    if not isinstance(text, str) or (isinstance(answer, str) and answer.lstrip().startswith("<")):
        raise ModelError("invalid", text=f"no transcript came back: {short(answer)}")
    return text.strip()


# --- parts of these -------------------------------------------------------------------------


def short(answer: Any) -> str:
    """Return the beginning of what came back instead of an answer."""
    return " ".join(str(answer)[:400].split())[:120]


def _known(fields: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: fields[name] for name in names if fields.get(name) is not None}
