"""Decodes a sound into samples for a model, within bounds. Its calls block. Durations are seconds.

The format is recognised here and named to the library: left to guess, it also takes playlists,
which name files of this machine and addresses.
"""

import io
from collections.abc import Callable
from typing import Any

from garrison.workers import ModelError

from ..model_support.sound_formats import AAC, FLAC, MP3, MP4, OGG, WAV, WEBM, format_of_bytes

RATE = 16_000  # samples per second that the model hears
DEMUXERS = {
    WAV: "wav",
    OGG: "ogg",
    MP3: "mp3",
    FLAC: "flac",
    MP4: "mov",
    WEBM: "matroska",
    AAC: "aac",
}
DAMAGED_MOST = 100  # pieces that may be damaged; the rest is decoded
Stop = Callable[[], bool]


class Left(Exception):
    """The caller has left: there is nothing to be done."""


def decode(library: Any, numpy: Any, data: bytes, seconds_most: float, stop: Stop) -> Any:
    """Return a sound's samples, from -1 to 1, of one channel.

    Args:
        library: The module `av`.
        numpy: The module.
        data: The sound.
        seconds_most: How long it may be.
        stop: Whether the caller has left.

    Raises:
        ModelError: It is no sound, damaged, or too long.
        Left: `stop` returned True.
    """
    found = format_of_bytes(data)
    if found is None or found not in DEMUXERS:
        known = ", ".join(one.name for one in DEMUXERS)
        raise ModelError("invalid", text=f"it is no sound of a known format: {known}")
    try:
        with library.open(
            io.BytesIO(data), mode="r", format=DEMUXERS[found], metadata_errors="ignore"
        ) as container:
            if not container.streams.audio:
                raise ModelError("invalid", text="there is no sound in it")
            return _samples(library, numpy, container, seconds_most, stop)
    except library.error.FFmpegError as error:
        text = f"the sound is damaged: {str(error)[:200]}"
        raise ModelError("invalid", text=text) from error


def _samples(library: Any, numpy: Any, container: Any, seconds_most: float, stop: Stop) -> Any:
    resampler = library.AudioResampler(format="s16", layout="mono", rate=RATE)
    pieces, number, damaged = list[Any](), 0, 0
    frames = container.decode(audio=0)
    while True:
        if stop():
            raise Left
        try:
            frame = next(frames, None)
        except library.error.InvalidDataError:
            damaged += 1
            if damaged > DAMAGED_MOST:
                raise
            continue
        for part in resampler.resample(frame):  # None: what is left within it
            samples = part.to_ndarray().reshape(-1)
            pieces.append(samples)
            number += len(samples)
        if number > seconds_most * RATE:
            text = f"the sound is longer than {seconds_most:g} s, which is sound_seconds"
            raise ModelError("invalid", text=text)
        if frame is None:
            break
    if not number:
        raise ModelError("invalid", text="there is no sound in it")
    return numpy.concatenate(pieces).astype(numpy.float32) / 32768.0
