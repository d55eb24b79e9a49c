"""Formats of sound: recognised by their first bytes, with their names and content types. Pure."""

from typing import NamedTuple


class SoundFormat(NamedTuple):
    """A format of sound."""

    name: str  # as requests name it, and a file's extension
    content_type: str


WAV = SoundFormat("wav", "audio/wav")
OGG = SoundFormat("ogg", "audio/ogg")
MP3 = SoundFormat("mp3", "audio/mpeg")
FLAC = SoundFormat("flac", "audio/flac")
MP4 = SoundFormat("m4a", "audio/mp4")
WEBM = SoundFormat("webm", "audio/webm")
AAC = SoundFormat("aac", "audio/aac")
PCM = SoundFormat("pcm", "audio/L16")

BY_NAME = {one.name: one for one in (WAV, OGG, MP3, FLAC, MP4, WEBM, AAC, PCM)} | {
    "opus": OGG,  # OpenAI's word for Opus within Ogg
    "oga": OGG,
    "mp4": MP4,
    "mpga": MP3,
    "mpeg": MP3,
}
BY_TYPE = {one.content_type: one for one in (WAV, OGG, MP3, FLAC, MP4, WEBM, AAC)} | {
    "audio/opus": OGG,
    "audio/x-wav": WAV,
    "audio/wave": WAV,
    "audio/vnd.wave": WAV,
    "audio/mp3": MP3,
    "audio/x-m4a": MP4,
    "audio/m4a": MP4,
    "audio/x-flac": FLAC,
    "application/ogg": OGG,
}
STARTS = {b"OggS": OGG, b"fLaC": FLAC, b"ID3": MP3, b"\x1aE\xdf\xa3": WEBM}
ADTS, MPEG, LAYER, SYNC = 0xF0, 0xE0, 0x06, 0xFF  # bits of a frame's second byte; its first byte


def format_of_bytes(data: bytes) -> SoundFormat | None:
    """Return the format that a sound's first bytes have; None if it is not known."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return WAV
    if data[4:8] == b"ftyp":
        return MP4
    for start, found in STARTS.items():
        if data.startswith(start):
            return found
    if len(data) > 1 and data[0] == SYNC and data[1] & MPEG == MPEG:
        is_aac = data[1] & ADTS == ADTS and not data[1] & LAYER
        return AAC if is_aac else MP3
    return None


def file_name(data: bytes, content_type: str = "", name: str = "") -> str:
    """Return a name by whose extension a server reads the format.

    Args:
        data: The sound. What its first bytes say counts most: messengers' names often mislead.
        content_type: Its stated type, if any.
        name: Its own name, if any.
    """
    kind = content_type.partition(";")[0].strip().lower()
    extension = name.rpartition(".")[2].lower() if "." in name else ""
    found = format_of_bytes(data) or BY_TYPE.get(kind) or BY_NAME.get(extension) or MP3
    return f"audio.{found.name}"
