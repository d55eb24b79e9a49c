"""Requests of images, speech and transcripts: which params are taken, what an answer must be."""

import base64
import io
import struct
import wave
import zlib
from types import SimpleNamespace
from typing import Any

import pytest

from garrison.workers import GenerateObjectParams, Media, ModelError
from garrison.workers.services.image.placeholder import SIDE_LEAST, SIDE_MOST, placeholder, size_of
from garrison.workers.services.model_support.media_requests import (
    IMAGES_MOST,
    Sound,
    describe_request,
    image_request,
    images_of_answer,
    sound_of,
    speech_of,
    speech_request,
    transcript_of,
)
from garrison.workers.services.model_support.sound_formats import (
    AAC,
    BY_NAME,
    FLAC,
    MP3,
    MP4,
    OGG,
    WAV,
    WEBM,
    file_name,
    format_of_bytes,
)
from garrison.workers.services.tts.espeak import Spoken
from garrison.workers.services.tts.sounds import encode

DATA = base64.b64encode(b"OggS").decode()


def test_requests_of_images() -> None:
    """A text alone is enough; elizaOS's names are known; what is unknown is not sent."""
    assert image_request("a cat", "m") == {"model": "m", "prompt": "a cat"}
    assert image_request({"prompt": "x", "size": "1x1", "odd": 1}, "m")["size"] == "1x1"
    assert image_request({"prompt": "x", "count": 2}, "m")["n"] == 2
    for wrong in ({}, {"odd": 1}, None, 7):
        with pytest.raises(ModelError, match="invalid: needs 'prompt'"):
            image_request(wrong, "m")
    for number in (-1, IMAGES_MOST + 1, "two", 1.5):
        with pytest.raises(ModelError, match="1 to 10 images"):
            image_request({"prompt": "x", "n": number}, "m")


def test_what_an_image_is_described_by() -> None:
    """The address, under each of its names."""
    shown = [Media("http://x/y", content_type="image")]
    for params in ("http://x/y", {"prompt": "http://x/y"}, {"imageUrl": "http://x/y"}):
        described: GenerateObjectParams = describe_request(params)
        assert described.messages[0].get("attachments") == shown


@pytest.mark.parametrize(
    ("data", "kind"),
    [(b"\xff\xd8\xff", "jpeg"), (b"RIFFxxxx", "webp"), (b"GIF8", "gif"), (b"\x89PNG", "png")],
)
def test_images_of_an_answer_have_their_type(data: bytes, kind: str) -> None:
    """As their first bytes show it; an address stays one."""
    coded = base64.b64encode(data).decode()
    answer = SimpleNamespace(data=[SimpleNamespace(b64_json=coded, url=None)])
    assert images_of_answer(answer) == [{"url": f"data:image/{kind};base64,{coded}"}]
    linked = SimpleNamespace(data=[SimpleNamespace(b64_json=None, url="https://x/y.png")])
    assert images_of_answer(linked) == [{"url": "https://x/y.png"}]


@pytest.mark.parametrize(
    "answer",
    [
        "<html>",
        SimpleNamespace(data=None),
        SimpleNamespace(data=[]),
        SimpleNamespace(data=["a"]),
        SimpleNamespace(data=[SimpleNamespace(url="file:///etc/passwd")]),
        SimpleNamespace(data=[SimpleNamespace(b64_json="a" * 5000)]),
    ],
)
def test_what_is_no_image_is_invalid(answer: Any) -> None:
    """Another form than the API's, an address of this machine, more bytes than are allowed."""
    with pytest.raises(ModelError, match=r"invalid: (no|an) image"):
        images_of_answer(answer, most=3000)


def test_requests_of_speech() -> None:
    """Ogg is Opus to a server; a text that is too long, or no text, is invalid."""
    speech = speech_of({"text": "hi", "voice": "v", "format": "ogg", "speed": 2, "odd": 1}, 10)
    assert speech_request(speech, "m", "w") == {
        "model": "m",
        "voice": "v",
        "speed": 2,
        "input": "hi",
        "response_format": "opus",
    }
    assert speech_request(speech_of("hi", 10), "m", "w") == {
        "model": "m",
        "voice": "w",
        "input": "hi",
    }
    for wrong in ("", {"text": " "}, {"text": 7}, "x" * 11, {"text": "x", "format": "midi"}):
        with pytest.raises(ModelError, match="invalid"):
            speech_of(wrong, 10)


@pytest.mark.parametrize(
    ("params", "sound"),
    [
        (b"OggS", Sound(b"OggS")),
        ({"audio": DATA, "name": "a.wav"}, Sound(b"OggS", name="a.wav")),
        (f"data:audio/ogg;base64,{DATA}", Sound(b"OggS", content_type="audio/ogg")),
        ({"prompt": f"data:audio/ogg;base64,{DATA}"}, Sound(b"OggS", content_type="audio/ogg")),
        (
            {"audioUrl": "https://x/y", "mimeType": "audio/ogg", "language": "de"},
            Sound(url="https://x/y", content_type="audio/ogg", rest={"language": "de"}),
        ),
        ({"url": "http://x/y"}, Sound(url="http://x/y")),
    ],
)
def test_the_sound_of_params(params: Any, sound: Sound) -> None:
    """Data, base64, a data: address, or an address; in elizaOS's names as well."""
    assert sound_of(params) == sound


@pytest.mark.parametrize(
    "params",
    [{"audio": "a"}, "/etc/passwd", "file:///etc/passwd", b"x" * 101, {"audio": 7}, "x" * 300, {}],
)
def test_what_is_no_sound_is_invalid(params: Any) -> None:
    """Damaged base64, paths, too much of it, and nothing at all. No path is opened."""
    with pytest.raises(ModelError, match="invalid"):
        sound_of(params, most=100)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"RIFF\0\0\0\0WAVEfmt ", WAV),
        (b"OggS\0", OGG),
        (b"ID3\4", MP3),
        (b"\xff\xfb\x90", MP3),
        (b"\xff\xf1\x50", AAC),
        (b"fLaC", FLAC),
        (b"\0\0\0\x18ftypM4A ", MP4),
        (b"\x1aE\xdf\xa3", WEBM),
        (b"#EXTM3U\n", None),
        (b"RIFF\0\0\0\0AVI ", None),
        (b"", None),
    ],
)
def test_a_format_is_recognised_by_its_first_bytes(data: bytes, expected: Any) -> None:
    """A playlist is none."""
    assert format_of_bytes(data) == expected


def test_the_name_of_an_uploaded_sound() -> None:
    """By its bytes, else its type, else its name: servers read the format from the extension."""
    assert file_name(b"OggS", "audio/mpeg", "voice.oga") == "audio.ogg"
    assert file_name(b"?", "Audio/X-M4A; codecs=mp4a", "a.wav") == "audio.m4a"
    assert file_name(b"?", "", "a.WAV") == "audio.wav"
    assert file_name(b"?", "text/plain", "a") == "audio.mp3"


def test_transcripts() -> None:
    """A text, or an object with one; a page is none."""
    assert transcript_of(SimpleNamespace(text=" Hello. \n")) == "Hello."
    assert transcript_of("Hello.\n") == "Hello."
    wrong: Any
    for wrong in ("<html>", SimpleNamespace(text=None), {}, None):
        with pytest.raises(ModelError, match="invalid: no transcript"):
            transcript_of(wrong)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1024x768", (1024, 768)),
        ("1X1", (SIDE_LEAST, SIDE_LEAST)),
        ("999999999x²", (512, 512)),
        ("99999999999x200", (SIDE_MOST, 200)),
        ("auto", (512, 512)),
        ("", (512, 512)),
    ],
)
def test_the_size_of_a_placeholder(text: str, size: tuple[int, int]) -> None:
    """As asked for, within bounds."""
    assert size_of(text) == size


@pytest.mark.parametrize("size", [(SIDE_LEAST, SIDE_LEAST), (320, 200), (97, 1536)])
def test_a_placeholder_is_a_png_with_its_word(size: tuple[int, int]) -> None:
    """Each row is there, and as wide; the word is in the middle and the margin is empty."""
    data = placeholder(*size)
    width, height = struct.unpack(">II", data[16:24])
    assert (width, height) == size
    at = data.index(b"IDAT")
    (length,) = struct.unpack(">I", data[at - 4 : at])
    pixels = zlib.decompress(data[at + 4 : at + 4 + length])
    rows = [pixels[y * (width + 1) : (y + 1) * (width + 1)] for y in range(height)]
    assert len(pixels) == height * (width + 1)
    assert any(1 in row for row in rows[height // 3 : height * 2 // 3])
    assert not any(rows[0])
    assert not any(row[1] or row[-1] for row in rows)


def test_wav_and_pcm_need_no_library() -> None:
    """The samples are the same; a format that cannot be written is invalid."""
    spoken = Spoken(22_050, b"\1\0\2\0")
    with wave.open(io.BytesIO(encode(spoken, WAV))) as file:
        assert (file.getframerate(), file.readframes(9)) == (22_050, b"\1\0\2\0")
    assert encode(spoken, BY_NAME["pcm"]) == b"\1\0\2\0"
    with pytest.raises(ModelError, match="speech is one of wav"):
        encode(spoken, AAC)
