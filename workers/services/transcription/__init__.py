"""The transcription service: speech to text by a server with OpenAI's API, or by a model here."""

import asyncio
from typing import Annotated, Any, Literal, Self

import msgspec

from garrison.workers import ModelType, PermanentFailure, Plugin, Runtime, idempotent

from ..model_support import media_service
from ..model_support.blocking import Bench
from ..model_support.config import Count, Positive, Seconds
from ..model_support.media_requests import SOUND_MOST, Sound, sound_of
from ..model_support.provider import CountedService
from ..model_support.requests import Requests
from ..model_support.sound_fetch import SoundFetch
from .whisper import Whisper

PRIORITY = -50  # a provider with a key is preferred
LOAD_S = 120.0  # of the start, to load a model


class TranscriptionService(CountedService):
    """Text from speech."""

    service_type = "transcription"
    capability_description = "Turns spoken messages into text"

    class Config(media_service.ServerKeys):
        """`[services.transcription.config]`."""

        model: str = "whisper-1"  # of the server
        language: str = ""  # where a request names none, as in "en"; empty: the model finds it
        sound_bytes: Annotated[int, msgspec.Meta(ge=1024)] = SOUND_MOST  # of a sound, at most
        allow_private: bool = (
            False  # whether addresses of this machine and its networks are fetched
        )
        fetch_timeout: Seconds = 30.0  # seconds to fetch a sound from its address
        model_path: str = ""  # folder of a Whisper model; empty: there is none on this machine
        sound_seconds: Seconds = 600.0  # length of a sound for that model, at most
        model_timeout: Seconds = 120.0  # seconds for one transcript of that model
        threads: Count = 0  # of its computation; 0: one for each processor
        compute_type: Literal["int8", "int8_float32", "float32", "auto"] = "int8"
        beam_size: Positive = 1  # 5 is a little more exact, and slower

    config: Config
    _media: media_service.Media
    _whisper: Whisper | None
    _bench: Bench
    _fetch: SoundFetch
    _requests: Requests

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        config = service.config
        service._whisper = None
        if config.model_path:
            runtime.extend(LOAD_S, "loads the model")
            service._whisper = await asyncio.to_thread(
                Whisper,
                config.model_path,
                config.threads,
                config.compute_type,
                config.sound_seconds,
            )
        service._media = media_service.Media(runtime, config, bool(config.model_path))
        service._requests = service._media.requests
        service._bench = Bench(runtime, "a transcript", grace=config.model_timeout)
        service._fetch = SoundFetch(config.allow_private, config.sound_bytes, config.fetch_timeout)
        try:
            await service._media.open(service)
        except PermanentFailure as error:
            text = f"{error}; or set model_path to the folder of a Whisper model"
            raise PermanentFailure(text) from error
        return service

    async def stop(self) -> None:
        """Close its connections."""
        await self._media.close()
        await self._fetch.close()

    @idempotent
    async def transcribe(self, params: Any) -> str:
        """Return the spoken text of a sound; see `sound_of`. It is the model TRANSCRIPTION."""
        sound = sound_of(params, self.config.sound_bytes)
        if self.config.language:
            sound = sound._replace(rest={"language": self.config.language, **sound.rest})
        sound = await self._fetch.with_data(sound)
        return await self._media.answer(
            lambda server: server.transcript(sound, self.config.model),
            None if self._whisper is None else lambda: self._by_model(sound),
        )

    async def _by_model(self, sound: Sound) -> str:
        assert self._whisper is not None
        text, rest = self._whisper.text, sound.rest
        language, prompt = str(rest.get("language") or ""), str(rest.get("prompt") or "")
        seconds = min(self.config.model_timeout, self.runtime.time_left)
        async with self._requests.request(0):
            return await self._bench.run(
                lambda stop: text(sound.data, language, prompt, self.config.beam_size, stop),
                seconds,
            )


plugin = Plugin(
    name="transcription",
    services=[TranscriptionService],
    models={ModelType.TRANSCRIPTION: media_service.handler(TranscriptionService.transcribe)},
    priority=PRIORITY,
    preload=["garrison.workers.services.transcription"],
)
