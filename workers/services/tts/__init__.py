"""The tts service: text to speech by a server with OpenAI's API, or offline by espeak-ng."""

import asyncio
import importlib.util
import sys
from typing import Annotated, Any, Literal, Self

import msgspec

from garrison.workers import (
    Action,
    ActionResult,
    Content,
    Media,
    Memory,
    ModelError,
    ModelType,
    PermanentFailure,
    Plugin,
    Runtime,
    State,
    idempotent,
    load_library,
)

from ..model_support import media_service
from ..model_support.blocking import Bench, Stop
from ..model_support.config import Positive
from ..model_support.media_requests import Speech, speech_of
from ..model_support.provider import CountedService
from ..model_support.requests import Requests
from ..model_support.sound_formats import BY_NAME, WAV, SoundFormat, format_of_bytes
from .espeak import MISSING, Espeak, Spoken, TooLong, find_espeak
from .sounds import encode

LOADER = "espeakng_loader"
PRIORITY = -50  # a provider with a key is preferred
CONTROL = dict.fromkeys(range(32), " ")  # characters that end or command the library's reading


class TtsService(CountedService):
    """Speech from text."""

    service_type = "tts"
    capability_description = "Speaks a text, as a file of sound"

    class Config(media_service.ServerKeys):
        """`[services.tts.config]`."""

        model: str = "gpt-4o-mini-tts"  # of the server
        voice: str = "alloy"  # of the server
        format: Literal["wav", "ogg", "mp3", "flac"] = "wav"  # where a request names none
        text_most: Positive = 4096  # characters of a text
        offline: bool = True  # whether espeak-ng answers where the server does not
        espeak_voice: str = "en"  # a language, as in "de", or one of its voices
        espeak_rate: Annotated[int, msgspec.Meta(ge=80, le=450)] = 165  # words per minute
        espeak_pitch: Annotated[int, msgspec.Meta(ge=0, le=99)] = 50
        espeak_timeout: Annotated[float, msgspec.Meta(gt=0)] = 30.0  # seconds for one text

    config: Config
    _media: media_service.Media
    _espeak: Espeak | None
    _bench: Bench
    _requests: Requests

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        config = service.config
        service._espeak = await asyncio.to_thread(_open_espeak) if config.offline else None
        service._media = media_service.Media(runtime, config, service._espeak is not None)
        service._requests = service._media.requests
        service._bench = Bench(runtime, "speech by espeak-ng")
        try:
            await service._media.open(service)
        except PermanentFailure as error:
            hint = MISSING.format(python=sys.executable) if config.offline else ""
            raise PermanentFailure("; or ".join(filter(None, (str(error), hint)))) from error
        return service

    async def stop(self) -> None:
        """Close its connections."""
        await self._media.close()

    @idempotent
    async def speak(self, text: str, voice: str = "", format: str = "") -> Media:
        """Return a spoken text as an attachment.

        Args:
            text: At most `text_most` characters.
            voice: Of the server or of espeak-ng; "" is the config's.
            format: "wav", "ogg" (Opus), "mp3" or "flac"; "" is the config's.
        """
        params = {"text": text, "voice": voice, "format": format or None}
        sound = await self.text_to_speech(params)
        found = format_of_bytes(sound) or WAV
        return Media.of(sound, found.content_type, f"speech.{found.name}", text[:200])

    @idempotent
    async def text_to_speech(self, params: Any) -> bytes:
        """Return a text as sound; see `speech_of`. It is the model TEXT_TO_SPEECH."""
        speech = speech_of(params, self.config.text_most)
        wanted = speech.format or BY_NAME[self.config.format]
        speech = speech._replace(format=wanted)
        return await self._media.answer(
            lambda server: server.speech(speech, self.config.model, self.config.voice),
            None if self._espeak is None else lambda: self._by_espeak(speech, wanted),
        )

    async def _by_espeak(self, speech: Speech, wanted: SoundFormat) -> bytes:
        seconds = min(self.config.espeak_timeout, self.runtime.time_left)
        async with self._requests.request(0):
            try:
                return await self._bench.run(
                    lambda stop: encode(self._spoken(speech, stop), wanted, stop), seconds
                )
            except TooLong as error:
                raise ModelError("invalid", text=str(error)) from error
            except PermanentFailure as error:  # a library for this format is missing
                raise ModelError("invalid", text=str(error)) from error

    def _spoken(self, speech: Speech, stop: Stop) -> Spoken:
        """Speak in the voice that is named, or in the config's where espeak-ng has no such one."""
        assert self._espeak is not None
        config = self.config
        text = speech.text.translate(CONTROL)
        for voice in dict.fromkeys(filter(None, (speech.voice, config.espeak_voice))):
            try:
                return self._espeak.speak(
                    text, voice, config.espeak_rate, config.espeak_pitch, stop
                )
            except LookupError:
                continue
        raise ModelError("invalid", text=f"espeak-ng has no voice {config.espeak_voice!r}")


def _open_espeak() -> Espeak | None:
    is_there = importlib.util.find_spec(LOADER) is not None
    return find_espeak(load_library(LOADER, "espeakng-loader>=0.2") if is_there else None)


class SpeakOptions(msgspec.Struct):
    """What a model fills in to speak."""

    text: str


async def speak_aloud(
    runtime: Runtime,
    memory: Memory,
    state: State,
    responses: list[Memory],
    options: SpeakOptions | None,
) -> Content | ActionResult:
    """Answer with a voice message: the handler of SPEAK."""
    text = options.text if options is not None else memory.content.text
    if not text.strip():
        return ActionResult(success=False, error="state the text that is to be spoken")
    params = {"text": text, "format": "ogg"}
    sound: bytes = await runtime.use_model(ModelType.TEXT_TO_SPEECH, params)
    found = format_of_bytes(sound) or WAV
    voice = Media.of(sound, found.content_type, f"voice.{found.name}", text[:200])
    return Content(attachments=[voice])


plugin = Plugin(
    name="tts",
    services=[TtsService],
    actions=[
        Action(
            "SPEAK",
            "Answers with a voice message that speaks a text, where somebody asks to hear it",
            handler=idempotent(speak_aloud),
            parameters=SpeakOptions,
        )
    ],
    models={ModelType.TEXT_TO_SPEECH: media_service.handler(TtsService.text_to_speech)},
    priority=PRIORITY,
    preload=["garrison.workers.services.tts"],
)
