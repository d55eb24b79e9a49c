"""espeak-ng: as a library within this process, or as a program. Its calls block.

The library is C: a mistake in it ends the process, which is the service's own. Sizes are bytes.
"""

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from garrison.workers import PermanentFailure

SOUND_MOST = 64 << 20  # of one text
SYNCHRONOUS, DONT_EXIT = 2, 0x8000  # of espeak_Initialize
UTF8, AT_CHARACTER = 1, 1  # of espeak_Synth
RATE, PITCH = 1, 3  # of espeak_SetParameter
GO_ON, END = 0, 1  # what the callback returns
LOOK_S = 0.1  # between two looks at whether the program is to end
WAV_HEAD = 44
PROGRAM = "espeak-ng"
MISSING = (
    "there is no voice offline: run `{python} -m pip install 'espeakng-loader>=0.2'` (GPL-3), or "
    "install Debian's package espeak-ng"
)
Stop = Callable[[], bool]


class Spoken(NamedTuple):
    """A spoken text: one channel of 16 bit samples, little-endian."""

    rate: int  # samples per second
    samples: bytes


class TooLong(ValueError):
    """The sound of a text has more than `SOUND_MOST`."""


class Espeak(Protocol):
    """Either form of it."""

    def speak(self, text: str, voice: str, rate: int, pitch: int, stop: Stop) -> Spoken:
        """Return a spoken text; what there is of it if `stop` returns True meanwhile.

        Raises:
            LookupError: There is no such voice.
        """
        ...


class EspeakLibrary:
    """The library that the package espeakng-loader brings.

    Args:
        loader: The module `espeakng_loader`.
    """

    def __init__(self, loader: Any) -> None:
        self._library: Any = ctypes.CDLL(loader.get_library_path())
        data = str(loader.get_data_path()).encode()
        self._rate: int = self._library.espeak_Initialize(SYNCHRONOUS, 0, data, DONT_EXIT)
        if self._rate <= 0:
            raise PermanentFailure(
                f"espeak-ng does not start with its data in {data.decode()}: install "
                "espeakng-loader again"
            )
        takes = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
        )
        self._callback = takes(self._take)  # kept: the library has its address
        self._library.espeak_SetSynthCallback(self._callback)
        self._samples = bytearray()
        self._stop: Stop = bool

    def _take(self, samples: Any, number: int, events: Any) -> int:
        """Add the next samples; called by the library."""
        if samples and number > 0:
            self._samples += ctypes.string_at(samples, number * 2)
        return END if self._stop() or len(self._samples) > SOUND_MOST else GO_ON

    def speak(self, text: str, voice: str, rate: int, pitch: int, stop: Stop) -> Spoken:
        """See `Espeak`."""
        library = self._library
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise LookupError(voice)
        library.espeak_SetParameter(RATE, rate, 0)
        library.espeak_SetParameter(PITCH, pitch, 0)
        self._samples, self._stop = bytearray(), stop
        data = text.encode() + b"\0"
        library.espeak_Synth(data, len(data), 0, AT_CHARACTER, 0, UTF8, None, None)
        return _checked(self._rate, bytes(self._samples))


class EspeakProgram:
    """The program, run for each text.

    Args:
        path: Where it is.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def speak(self, text: str, voice: str, rate: int, pitch: int, stop: Stop) -> Spoken:
        """See `Espeak`."""
        command = [
            self._path,
            "--stdin",
            "--stdout",
            "-v",
            voice,
            "-s",
            str(rate),
            "-p",
            str(pitch),
        ]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            data: bytes | None = text.encode()
            while True:
                try:
                    sound, problem = process.communicate(data, LOOK_S)
                    break
                except subprocess.TimeoutExpired:
                    data = None  # it has been passed on
                    if stop():
                        process.kill()
        if b"voice" in problem:
            raise LookupError(voice)
        rate_there = int.from_bytes(sound[24:28], "little")
        if len(sound) < WAV_HEAD or not rate_there:
            raise OSError(f"{self._path} wrote no sound: {problem[:200].decode(errors='replace')}")
        return _checked(rate_there, sound[WAV_HEAD:])


def _checked(rate: int, samples: bytes) -> Spoken:
    if len(samples) > SOUND_MOST:
        raise TooLong(f"its sound has more than {SOUND_MOST} bytes")
    return Spoken(rate, samples)


def find_espeak(loader: Any | None) -> Espeak | None:
    """Return the library if its package is there, else the program, else None."""
    if loader is not None:
        return EspeakLibrary(loader)
    path = shutil.which(PROGRAM)
    return None if path is None else EspeakProgram(path)
