"""What a server answers, as garrison's own types: texts, data, attachments; bounded. Pure."""

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from garrison.workers import ActionResult, Media

TEXT_MOST = 128 * 1024  # characters of a result
MEDIA_MOST = 10  # attachments of a result
FILES = frozenset({"data", "blob"})  # keys of base64
TYPE = re.compile(r"[\w.+-]+/[\w.+-]+")


class ToolResult(msgspec.Struct, omit_defaults=True):
    """What a tool returned."""

    text: str = ""
    structured: Any = None  # the same as data, where the server sends it
    attachments: list[Media] = []  # images and sounds as `data:` addresses
    is_error: bool = False  # the tool failed; the text says why


def result_of(raw: Mapping[str, Any]) -> ToolResult:
    """Return a result as the server sent it."""
    texts: list[str] = []
    media: list[Media] = []
    for block in raw.get("content") or ():
        one = _media(block)
        if one is None:
            texts.append(_text(block))
        elif len(media) < MEDIA_MOST:
            media.append(one)
        else:
            texts.append(f"[{one.content_type}, left out: {MEDIA_MOST} at most]")
    structured = raw.get("structuredContent")
    if structured is not None and len(msgspec.json.encode(structured)) > TEXT_MOST:
        texts.append("[its data is left out: too large]")
        structured = None
    text = cut("\n".join(filter(None, texts)), TEXT_MOST)
    return ToolResult(text, structured, media, raw.get("isError") is True)


def as_action_result(result: ToolResult, action: str) -> ActionResult:
    """Return a result for the agent. Data that is in the text already is left out."""
    if result.is_error:
        return ActionResult(
            success=False, error=result.text or "it failed, and does not say why", action=action
        )
    data: dict[str, Any] = {}
    if result.structured is not None and not _says(result.text, result.structured):
        data["structured"] = result.structured
    names = [one.title or one.content_type for one in result.attachments]
    return ActionResult(
        text=result.text, data=data | ({"attachments": names} if names else {}), action=action
    )


def resource_text(contents: Iterable[Mapping[str, Any]], most: int) -> str:
    """Return the texts of a resource, `most` bytes at most; binary parts are named."""
    texts = [
        one["text"]
        if isinstance(one.get("text"), str)
        else f"[binary: {one.get('mimeType') or 'unknown type'}]"
        for one in contents
    ]
    return cut_bytes("\n".join(texts), most)


def redacted(value: Any, redact: Callable[[str], str]) -> Any:
    """Return plain data with each of its texts redacted; the base64 of files is left as it is."""
    match value:
        case str():
            return redact(value)
        case list():
            return [redacted(one, redact) for one in value]
        case dict():
            return {
                key: one if key in FILES and isinstance(one, str) else redacted(one, redact)
                for key, one in value.items()
            }
        case _:
            return value


def cut(text: str, most: int) -> str:
    """Return a text of at most so many characters, and a remark if it was longer."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def cut_bytes(text: str, most: int) -> str:
    """Return the start of a text that has at most so many bytes in UTF-8."""
    return text if len(text) * 4 <= most else text.encode()[:most].decode(errors="ignore")


def _media(block: Mapping[str, Any]) -> Media | None:
    kind, content_type = block.get("type"), str(block.get("mimeType") or "")
    data, title = block.get("data"), ""
    if kind == "resource":
        inner = block.get("resource") or {}
        data, content_type = inner.get("blob"), str(inner.get("mimeType") or "")
        title = str(inner.get("uri") or "")
    elif kind not in {"image", "audio"}:
        return None
    if not isinstance(data, str) or not TYPE.fullmatch(content_type):
        return None
    try:
        base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return None
    url = f"data:{content_type};base64,{data}"
    return Media(url, title=title[:200], content_type=content_type)


def _text(block: Mapping[str, Any]) -> str:
    match block.get("type"):
        case "text":
            return str(block.get("text", ""))
        case "resource_link":
            about = block.get("description") or block.get("title") or block.get("name") or ""
            return f"{block.get('uri')}: {about}".rstrip(": ")
        case "resource":
            inner = block.get("resource") or {}
            if isinstance(inner.get("text"), str):
                return str(inner["text"])
            return f"[{inner.get('uri')}: {inner.get('mimeType') or 'binary'}]"
        case kind:
            return f"[{kind}: it cannot be shown]"


def _says(text: str, structured: Any) -> bool:
    try:
        return bool(json.loads(text) == structured)
    except (ValueError, RecursionError):
        return False
