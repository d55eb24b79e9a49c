"""Decodes what a command is answered."""

from typing import Any

import msgspec

from .encoding import BAD_BYTES
from .orders import Answer, Identify

_answers = msgspec.msgpack.Decoder(list[Identify | Answer])


def decode_answers(frame: bytes) -> list[Any]:
    """Return a batch to a command.

    A supervisor sends a command nothing else, but may in a later version.
    """
    try:
        return _answers.decode(frame)
    except BAD_BYTES:
        from .codec import decode_downward

        return decode_downward(frame)
