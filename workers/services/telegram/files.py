"""The files of a message: what Telegram's are, and what is sent for a `Media`. Pure."""

import mimetypes
from typing import TYPE_CHECKING, Any, NamedTuple

from garrison.workers import Media, NotSent

if TYPE_CHECKING:
    import telegram

SCHEME = "telegram:"  # of the address of a file that stays at Telegram: its id follows
FILES_MOST = 10  # of one message that is sent
PHOTO_MOST = 10 * 1024 * 1024  # a larger image is sent as a document
WEB = ("http://", "https://")


class FileRef(NamedTuple):
    """A file of a received message, by its id at Telegram."""

    id: str
    kind: str  # Telegram's name: "photo", "voice" …
    content_type: str
    name: str
    size: int  # bytes; 0: not known


class File(NamedTuple):
    """A file to send: data, or an id or address that Telegram itself reads."""

    kind: str  # "photo", "animation", "video", "audio", "voice", "document"
    source: bytes | str
    name: str


def files_of(message: "telegram.Message", most: int) -> list[FileRef]:
    """Return the files of a message; of a photo's sizes the largest one up to `most` bytes."""
    if message.photo:
        sizes = sorted(message.photo, key=lambda one: one.width * one.height)
        fitting = [one for one in sizes if (one.file_size or 0) <= most]
        photo = (fitting or sizes[:1])[-1]
        return [FileRef(photo.file_id, "photo", "image/jpeg", "photo.jpg", photo.file_size or 0)]
    if message.animation:  # its message has a document as well
        return [_ref("animation", message.animation, "video/mp4")]
    kinds = {
        "voice": "audio/ogg",
        "audio": "audio/mpeg",
        "video": "video/mp4",
        "video_note": "video/mp4",
        "document": "",
        "sticker": "image/webp",
    }
    for kind, usual in kinds.items():
        found = getattr(message, kind)
        if found is not None:
            return [_ref(kind, found, usual)]
    return []


def _ref(kind: str, found: Any, usual: str) -> FileRef:
    content_type = getattr(found, "mime_type", None) or usual
    if getattr(found, "is_video", False):
        content_type = "video/webm"
    elif getattr(found, "is_animated", False):
        content_type = "application/x-tgsticker"
    suffix = mimetypes.guess_extension(content_type) or ""
    name = getattr(found, "file_name", None) or f"{kind}{'.ogg' if kind == 'voice' else suffix}"
    return FileRef(found.file_id, kind, content_type, name, found.file_size or 0)


def media_of(file: FileRef, data: bytes | None) -> Media:
    """Return a received file: its data, or its id at Telegram, never an address with the token."""
    url = f"{SCHEME}{file.id}"
    if data is not None:
        url = Media.of(data, file.content_type or "application/octet-stream").url
    return Media(
        url=url, id=file.id, title=file.name, source="telegram", content_type=file.content_type
    )


def sendable(attachments: list[Media], most: int) -> tuple[list[File], list[str]]:
    """Return the files to send, and the addresses to write into the text.

    Args:
        attachments: Each at a `data:`, `telegram:` or http(s) address. A path is never opened: an
            attachment may come from anyone.
        most: Largest file, in bytes.

    Raises:
        NotSent: One has another address, is damaged or too large; or there are too many.
    """
    files, links = list[File](), list[str]()
    for number, one in enumerate(attachments, 1):
        if one.url.startswith("data:"):
            files.append(_data(one, number, most))
        elif one.url.startswith(SCHEME) and one.url != SCHEME:
            files.append(File(_kind(one.type), one.url.removeprefix(SCHEME), one.title))
        elif not one.url.startswith(WEB):
            raise NotSent(
                f"an attachment is at an http(s), data: or telegram: address, not {one.url[:40]!r}"
            )
        elif one.content_type.startswith("image/"):
            files.append(File("photo", one.url, one.title))  # Telegram itself fetches it
        else:
            links.append(one.url)
    if len(files) > FILES_MOST:
        raise NotSent(f"a message has at most {FILES_MOST} files, this one {len(files)}")
    return files, links


def _data(media: Media, number: int, most: int) -> File:
    try:
        content = media.data()
    except ValueError as error:
        raise NotSent(f"an attachment is damaged: {error}") from error
    if not content:
        raise NotSent(f"an attachment has no data: {media.url[:40]!r}")
    if len(content) > most:
        raise NotSent(f"an attachment has {len(content)} bytes; attachment_bytes is {most}")
    kind = _kind(media.type)
    if kind == "photo" and len(content) > PHOTO_MOST:
        kind = "document"
    suffix = mimetypes.guess_extension(media.type) or ""
    return File(kind, content, media.title or f"file-{number}{suffix}")


def _kind(content_type: str) -> str:
    """Return how Telegram shows a file of a type."""
    match content_type.partition("/")[0], content_type.partition("/")[2]:
        case "image", "gif":
            return "animation"
        case "image", "jpeg" | "jpg" | "png" | "webp":
            return "photo"
        case "audio", "ogg" | "opus":
            return "voice"
        case "audio", "mpeg" | "mp3" | "mp4" | "m4a":
            return "audio"
        case "video", "mp4":
            return "video"
        case _:
            return "document"
