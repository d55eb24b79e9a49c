"""Files of a message that is sent: data is uploaded, an address stays one."""

import asyncio
import base64
import binascii
import mimetypes
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from garrison.workers import Media, NotSent

from .client import Api

IMAGES_MOST = 4  # of one post; or one film or GIF
PIECE = 1 << 19  # bytes of one request, before they are text
CHECKS_MOST = 30  # of an upload that X still works on
CHECK_S = 1.0
CHECK_MOST_S = 10.0
PICTURES = frozenset({"image/jpeg", "image/png", "image/webp", "image/bmp", "image/tiff"})
FILMS = frozenset({"video/mp4", "video/webm", "video/quicktime", "video/mp2t"})
GIF = "image/gif"


class File(NamedTuple):
    """A file to upload."""

    kind: str  # its media type
    data: bytes

    def category(self, direct: bool) -> str:
        """Return what X calls its use."""
        use = "gif" if self.kind == GIF else "image" if self.kind in PICTURES else "video"
        return f"{'dm' if direct else 'tweet'}_{use}"


def sendable(attachments: Sequence[Media], most: int) -> tuple[list[File], list[str]]:
    """Return what to upload, and addresses to add to the text.

    Args:
        attachments: Each at an http(s) or `data:` address. A path is never opened: an attachment
            may come from anyone.
        most: Largest file, in bytes.

    Raises:
        NotSent: One has another address, is damaged, too large or of another type; or there are
            too many.
    """
    files, links = [], []
    for one in attachments:
        if one.url.startswith("data:"):
            files.append(_file(one, most))
        elif one.url.startswith(("http://", "https://")):
            links.append(one.url)
        else:
            raise NotSent(f"an attachment is at an http(s) or data: address, not {one.url[:40]!r}")
    pictures = sum(one.kind in PICTURES for one in files)
    if len(files) > (IMAGES_MOST if pictures == len(files) else 1):
        raise NotSent(f"a post has at most {IMAGES_MOST} images, or one film or GIF")
    return files, links


async def upload(api: Api, file: File, direct: bool) -> str:
    """Upload a file in pieces; return its id, once X can use it.

    Raises:
        NotSent: X cannot use it.
    """
    begin = {
        "media_category": file.category(direct),
        "media_type": file.kind,
        "total_bytes": len(file.data),
    }
    answer = await api.post("/2/media/upload/initialize", begin)
    media = str(answer["data"]["id"])
    for number, at in enumerate(range(0, len(file.data), PIECE)):
        piece = base64.b64encode(file.data[at : at + PIECE]).decode("ascii")
        body = {"media": piece, "segment_index": number}
        await api.post(f"/2/media/upload/{media}/append", body)
    answer = await api.post(f"/2/media/upload/{media}/finalize")
    for _ in range(CHECKS_MOST):
        work = (answer.get("data") or {}).get("processing_info") or {}
        if work.get("state") == "failed":
            raise NotSent(f"X cannot use a file of type {file.kind}: {work}")
        if work.get("state") in {None, "succeeded"}:
            return media
        await asyncio.sleep(min(float(work.get("check_after_secs") or CHECK_S), CHECK_MOST_S))
        answer = await api.get("/2/media/upload", media_id=media, command="STATUS")
    raise NotSent(f"X has not finished with a file of type {file.kind}")


def _file(media: Media, most: int) -> File:
    head, comma, data = media.url.partition(",")
    kind, *options = head.removeprefix("data:").split(";")
    if not comma:
        raise NotSent(f"an attachment's data: address has no data: {media.url[:40]!r}")
    try:
        content = (
            base64.b64decode(data, validate=True) if "base64" in options else unquote_to_bytes(data)
        )
    except (binascii.Error, ValueError) as error:
        raise NotSent(f"an attachment's base64 is damaged: {error}") from error
    if len(content) > most:
        raise NotSent(f"an attachment has {len(content)} bytes; attachment_bytes is {most}")
    kind = kind or media.content_type or mimetypes.guess_type(media.title)[0] or ""
    if kind not in PICTURES | FILMS | {GIF}:
        raise NotSent(f"X takes images and films, not a file of type {kind or 'unknown'!r}")
    return File(kind, content)
