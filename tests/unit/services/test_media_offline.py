"""What answers offline, and blocking computations: their turns, deadlines and ends."""

import asyncio
import threading
from typing import Any

import pytest

from garrison.workers import (
    ActionResult,
    Content,
    Memory,
    ModelError,
    PermanentFailure,
    Service,
    State,
)
from garrison.workers.services import image as image_service
from garrison.workers.services import tts as tts_service
from garrison.workers.services.image import ImageService
from garrison.workers.services.model_support.blocking import Bench, Hangs, Stop
from garrison.workers.services.transcription import TranscriptionService
from garrison.workers.services.tts import TtsService
from garrison.workers.testing import run

PNG = "data:image/png;base64,iVBORw0KGgo"


class Bare(Service):
    service_type = "bare"


async def test_without_a_server_an_image_is_a_placeholder() -> None:
    """It says so in its title and description; the size and the number are as asked for."""
    async with run(ImageService, plugin=image_service.plugin) as service:
        images = await service.runtime.use_model("IMAGE", {"prompt": "a cat", "n": 2})
        assert [one["title"] for one in images] == ["placeholder"] * 2
        assert images[0]["url"].startswith(PNG)
        one = await service.generate("a cat")
        assert (one.title, one.content_type) == ("placeholder", "image/png")
        assert one.description == "A placeholder: no image was generated"


async def test_the_action_answers_with_the_image() -> None:
    """By what a model fills in, else by the message; a placeholder is named in the text."""
    asked: list[Any] = []

    def paint(params: Any) -> list[dict[str, str]]:
        asked.append(params["prompt"])
        return [{"url": "https://x/y.png"}]

    async with run(Bare, models={"IMAGE": paint}) as service:
        memory = Memory(content=Content("a dog"))
        options = image_service.ImageOptions("a cat")
        answers = [
            await image_service.generate_image(service.runtime, memory, State(), [], chosen)
            for chosen in (options, None)
        ]
    assert asked == ["a cat", "a dog"]
    shown = [one.attachments[0].url for one in answers if isinstance(one, Content)]
    assert shown == ["https://x/y.png"] * 2


async def test_the_action_speaks_in_ogg() -> None:
    """As platforms show voice messages; without a text it fails, and nothing is asked."""
    asked: list[Any] = []

    def speak(params: Any) -> bytes:
        asked.append(params)
        return b"OggS-sound"

    async with run(Bare, models={"TEXT_TO_SPEECH": speak}) as service:
        handler, runtime = tts_service.speak_aloud, service.runtime
        memory = Memory(content=Content("Hello"))
        answer = await handler(runtime, memory, State(), [], None)
        assert isinstance(answer, Content)
        (voice,) = answer.attachments
        assert (voice.data(), voice.title, voice.type) == (b"OggS-sound", "voice.ogg", "audio/ogg")
        options = tts_service.SpeakOptions(" ")
        failed = await handler(runtime, memory, State(), [], options)
        assert isinstance(failed, ActionResult)
        assert not failed.success
    assert asked == [{"text": "Hello", "format": "ogg"}]


@pytest.mark.parametrize(
    ("service", "config", "missing"),
    [
        (ImageService, {"placeholder": False}, "OPENAI_API_KEY"),
        (TranscriptionService, {}, r"OPENAI_API_KEY.*or set model_path"),
        (TtsService, {"offline": False}, "OPENAI_API_KEY"),
        (TranscriptionService, {"model_path": "/nowhere"}, r"/nowhere has no model\.bin"),
    ],
)
async def test_what_cannot_answer_at_all_does_not_start(
    service: Any, config: dict[str, Any], missing: str
) -> None:
    """Its error says what to set."""
    with pytest.raises(PermanentFailure, match=missing):
        async with run(service, config=config):
            pass


async def test_computations_have_turns() -> None:
    """One at a time; a result and an exception are the caller's."""
    together, most = 0, 0

    def compute(stop: Stop) -> int:
        nonlocal together, most
        together += 1
        most = max(most, together)
        together -= 1
        return 7

    def fail(stop: Stop) -> int:
        raise LookupError("no")

    async with run(Bare) as service:
        bench = Bench(service.runtime, "it")
        assert await asyncio.gather(*(bench.run(compute, 30) for _ in range(4))) == [7] * 4
        with pytest.raises(LookupError, match="no"):
            await bench.run(fail, 30)
        assert await bench.run(compute, 30) == 7
    assert most == 1


async def test_a_late_computation_is_asked_to_end() -> None:
    """The caller has its error at the deadline; the next one has its turn when the thread ends."""
    ended = threading.Event()

    def endless(stop: Stop) -> None:
        while not stop():
            pass
        ended.set()

    async with run(Bare) as service:
        bench = Bench(service.runtime, "it")
        with pytest.raises(ModelError, match=r"busy: it was not done within 0\.05 s"):
            await bench.run(endless, 0.05)
        assert await bench.run(lambda stop: ended.is_set(), 30)
        left = asyncio.ensure_future(bench.run(endless, 30))
        await asyncio.sleep(0)
        left.cancel()
        assert await bench.run(lambda stop: 7, 30) == 7


async def test_a_computation_that_hangs_ends_the_service() -> None:
    """A thread cannot be ended; the next process can do better."""
    release = threading.Event()

    async def hang() -> None:
        async with run(Bare) as service:
            bench = Bench(service.runtime, "it", grace=0.05)
            with pytest.raises(ModelError, match="busy"):
                await bench.run(lambda stop: release.wait(60), 0.05)
            hung = [task for task in asyncio.all_tasks() if task.get_name() == "it"]
            done, _ = await asyncio.wait(hung, timeout=60)
            assert done

    with pytest.raises(Hangs, match=r"it hangs.*new process"):
        await hang()
    release.set()
