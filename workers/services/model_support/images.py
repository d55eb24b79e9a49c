"""Images that a message shows to a model: addresses, and data within `data:` addresses. Pure."""

import base64
import binascii
from typing import NamedTuple

from garrison.workers import Media, ModelError

TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})


class Image(NamedTuple):
    """An image: an address, or its type and its data in base64."""

    url: str
    content_type: str = ""
    data: str = ""


def images_of(attachments: list[Media]) -> list[Image]:
    """Return the images among a message's attachments; others are left out.

    Raises:
        ModelError: One is neither at an http address nor a valid `data:` address. A path is never
            opened: an attachment comes from anyone.
    """
    return [_image(one) for one in attachments if _is_image(one)]


def _is_image(media: Media) -> bool:
    kind = media.content_type.lower()
    return (
        kind.startswith("image")
        or (not kind and not media.url.startswith("data:"))
        or (media.url.startswith("data:image/"))
    )


def _image(media: Media) -> Image:
    if media.url.startswith(("http://", "https://")):
        return Image(media.url)
    head, _, data = media.url.partition(",")
    kind, _, coding = head.removeprefix("data:").partition(";")
    if not head.startswith("data:") or coding != "base64" or kind not in TYPES:
        raise ModelError(
            "invalid",
            text=f"an image is at an http(s) address, or base64 in a data: address of one of "
            f"{', '.join(sorted(TYPES))}; not {media.url[:40]!r}",
        )
    try:
        base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ModelError("invalid", text=f"an image's base64 is damaged: {error}") from error
    return Image(media.url, kind, data)
