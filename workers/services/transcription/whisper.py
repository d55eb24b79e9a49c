"""A Whisper model on this machine, by faster-whisper. Its calls block; nothing is downloaded."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from garrison.workers import ModelError, PermanentFailure, load_library

from .decoding import Left, decode

REQUIREMENT = "faster-whisper>=1.2"
FILES = ("model.bin", "config.json", "tokenizer.json")  # of a model that can be loaded offline
Stop = Callable[[], bool]


class Whisper:
    """One model.

    Args:
        path: Its folder.
        threads: Of the computation; 0 is one for each processor.
        compute_type: The numbers that it computes with, as the library names them.
        seconds_most: How long a sound may be.
    """

    def __init__(self, path: str, threads: int, compute_type: str, seconds_most: float) -> None:
        folder = model_folder(path)
        self._av = load_library("av", REQUIREMENT)
        self._numpy = load_library("numpy", REQUIREMENT)
        library = load_library("faster_whisper", REQUIREMENT)
        self._seconds_most = seconds_most
        try:
            self._model: Any = library.WhisperModel(
                str(folder),
                device="cpu",
                compute_type=compute_type,
                cpu_threads=threads or os.cpu_count() or 1,
                local_files_only=True,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise PermanentFailure(
                f"the model in {folder} cannot be loaded: {error}. Set model_path to the folder of "
                "a Whisper model in CTranslate2's form"
            ) from error

    def text(self, data: bytes, language: str, prompt: str, beam: int, stop: Stop) -> str:
        """Return the spoken text of a sound; "" where nothing is spoken.

        Args:
            data: The sound, as a file.
            language: As in "en"; "" has the model find it.
            prompt: Words that are likely in it.
            beam: How many beginnings of a sentence are followed at a time.
            stop: Whether the caller has left.

        Raises:
            ModelError: It cannot be decoded, or the language is not known.
        """
        samples = decode(self._av, self._numpy, data, self._seconds_most, stop)
        try:
            segments, _ = self._model.transcribe(
                samples,
                language=language or None,
                initial_prompt=prompt or None,
                beam_size=beam,
                vad_filter=True,  # in silence the model makes up words
                condition_on_previous_text=False,  # one mistake is not repeated to the end
            )
            texts = list[str]()
            for segment in segments:  # each is computed here
                if stop():
                    raise Left
                texts.append(segment.text.strip())
        except ValueError as error:
            raise ModelError("invalid", text=f"it cannot be transcribed: {error}") from error
        return " ".join(filter(None, texts))


def model_folder(path: str) -> Path:
    """Return the folder of a model.

    Raises:
        PermanentFailure: Files of it are missing; the library would look for them elsewhere.
    """
    folder = Path(path).expanduser()
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise PermanentFailure(
            f"model_path {folder} has no {', '.join(missing)}: set it to the folder of a Whisper "
            "model in CTranslate2's form, such as Systran/faster-whisper-base of Hugging Face"
        )
    return folder
