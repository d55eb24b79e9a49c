"""Encodes messages, and makes text and environments encodable."""

import os
from collections.abc import Mapping

import msgspec

encode = msgspec.msgpack.Encoder().encode

# What msgspec raises on bytes that it cannot decode, besides its own errors
BAD_BYTES = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError, OverflowError)


def encodable(text: str) -> str:
    """Return text that can be encoded: a lone surrogate, as in an odd file name, is escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def packed(env: Mapping[str, str]) -> dict[str, bytes]:
    """Return an environment as it travels: its values need not be UTF-8, its names do."""
    return {name: os.fsencode(value) for name, value in env.items() if name == encodable(name)}


def should_log(count: int) -> bool:
    """Return True for the first ten of many similar events, then for each thousandth."""
    return count <= 10 or count % 1000 == 0
