"""Writes samples as a file of sound: WAV by itself, other formats by the library soundfile."""

import io
import wave
from typing import Any

from garrison.workers import ModelError, load_library

from ..model_support.sound_formats import FLAC, MP3, OGG, PCM, WAV, SoundFormat
from .espeak import Spoken, Stop

REQUIREMENT = "soundfile>=0.13"
OPUS_RATE = 24_000  # samples per second; Opus has 8, 12, 16, 24 and 48 kHz
SUBTYPES = {OGG: "OPUS", MP3: "MPEG_LAYER_III", FLAC: "PCM_16"}


def encode(spoken: Spoken, wanted: SoundFormat, stop: Stop = bool) -> bytes:
    """Return samples in a format.

    Args:
        spoken: The samples.
        wanted: The format.
        stop: Whether the caller has left; then what is returned may be a part.

    Raises:
        ModelError: The format is another one.
        PermanentFailure: The library for it is missing.
    """
    if wanted == PCM:
        return spoken.samples
    if wanted == WAV:
        return _wav(spoken)
    if wanted not in SUBTYPES:
        known = ", ".join(one.name for one in (WAV, PCM, *SUBTYPES))
        raise ModelError("invalid", text=f"offline, speech is one of {known}; not {wanted.name}")
    numpy = load_library("numpy", "numpy")
    library = load_library("soundfile", REQUIREMENT)
    samples, rate = numpy.frombuffer(spoken.samples, dtype="<i2"), spoken.rate
    if wanted == OGG:
        samples, rate = _resampled(numpy, samples, rate, OPUS_RATE), OPUS_RATE
    found = io.BytesIO()
    kind = {"format": wanted.name.upper(), "subtype": SUBTYPES[wanted]}
    with library.SoundFile(found, "w", samplerate=rate, channels=1, **kind) as file:
        for at in range(0, len(samples), rate):  # a second of sound at a time
            if stop():
                break
            file.write(samples[at : at + rate])
    return found.getvalue()


def _wav(spoken: Spoken) -> bytes:
    found = io.BytesIO()
    with wave.open(found, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(spoken.rate)
        file.writeframes(spoken.samples)
    return found.getvalue()


def _resampled(numpy: Any, samples: Any, rate: int, wanted: int) -> Any:
    """Return samples at another rate, by straight lines between them: enough for a voice."""
    number = len(samples) * wanted // rate
    at = numpy.arange(number) * (rate / wanted)
    lines = numpy.interp(at, numpy.arange(len(samples)), samples)
    return lines.astype("int16")
