"""Files and links of a message that is sent: data becomes a file, an address stays one. Pure."""

import base64
import binascii
import mimetypes
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from garrison.workers import Media, NotSent

FILES_MOST = 10  # of one message of Discord


class File(NamedTuple):
    """A file to upload."""

    name: str
    data: bytes


class Sendable(NamedTuple):
    """What a message's attachments become."""

    files: list[File]
    images: list[str]  # addresses of images, which Discord itself fetches and shows
    links: list[str]  # other addresses


def sendable(attachments: list[Media], most: int) -> Sendable:
    """Return what to send for attachments.

    Args:
        attachments: Each at an http(s) or `data:` address. A path is never opened: an attachment
            may come from anyone.
        most: Largest file, in bytes.

    Raises:
        NotSent: One has another address, is damaged, or too large; or there are too many.
    """
    found = Sendable([], [], [])
    for number, one in enumerate(attachments, 1):
        if one.url.startswith("data:"):
            found.files.append(_file(one, number, most))
        elif not one.url.startswith(("http://", "https://")):
            raise NotSent(f"an attachment is at an http(s) or data: address, not {one.url[:40]!r}")
        elif one.content_type.startswith("image/"):
            found.images.append(one.url)
        else:
            found.links.append(one.url)
    if max(len(found.files), len(found.images)) > FILES_MOST:
        raise NotSent(f"a message has at most {FILES_MOST} files, and as many images")
    return found


def _file(media: Media, number: int, most: int) -> File:
    head, comma, data = media.url.partition(",")
    kind, *options = head.removeprefix("data:").split(";")
    try:
        content = (
            base64.b64decode(data, validate=True) if "base64" in options else unquote_to_bytes(data)
        )
    except (binascii.Error, ValueError) as error:
        raise NotSent(f"an attachment's base64 is damaged: {error}") from error
    if not comma:
        raise NotSent(f"an attachment's data: address has no data: {media.url[:40]!r}")
    if len(content) > most:
        raise NotSent(f"an attachment has {len(content)} bytes; attachment_bytes is {most}")
    suffix = mimetypes.guess_extension(kind or media.content_type) or ""
    return File(media.title or f"file-{number}{suffix}", content)
