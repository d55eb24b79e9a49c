"""JSON columns: free values of authors as text, which returns what was stored. Pure.

JSON has no bytes. A map `{"$bytes": TEXT}` stands for them, in base64.
"""

import base64
from typing import Any

import msgspec

BYTES = "$bytes"
IDENTIFIER_MOST = 512  # characters; PostgreSQL's indexes take about 2,700 bytes

_encode = msgspec.json.Encoder().encode


def encode(value: Any) -> str:
    """Return a value as JSON."""
    return _encode(_marked(value) if _has_bytes(value) else value).decode()


def decode(text: str | bytes) -> Any:
    """Return what `encode` was given."""
    value = msgspec.json.decode(text)
    marked = BYTES.encode() in text if isinstance(text, bytes) else BYTES in text
    return _unmarked(value) if marked else value


def identifier(value: str, what: str) -> str:
    """Return an id that every database can index.

    Raises:
        ValueError: It is too long, or has a character that PostgreSQL cannot store.
    """
    if len(value) > IDENTIFIER_MOST:
        raise ValueError(f"{what} has {len(value)} characters; the limit is {IDENTIFIER_MOST}")
    if "\0" in value:
        raise ValueError(f"{what} {value!r:.80} has a NUL character, which PostgreSQL cannot store")
    return value


def _has_bytes(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_bytes, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_bytes, value))
    return isinstance(value, bytes | bytearray | memoryview)


def _marked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _marked(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_marked(one) for one in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return {BYTES: base64.b64encode(value).decode()}
    return value


def _unmarked(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {BYTES} and isinstance(value[BYTES], str):
            return base64.b64decode(value[BYTES])
        return {key: _unmarked(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_unmarked(one) for one in value]
    return value
