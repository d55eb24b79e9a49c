"""That a message gets no answer, why, and what is sent instead. Pure."""

import msgspec

from ..record.rows import MessageState


class NoAnswer(msgspec.Struct, frozen=True):
    """Why a message gets no answer."""

    state: MessageState  # that it ends in
    how: str  # what stopped it, as `garrison answer` shows it
    text: str = ""  # sent instead; "" sends nothing
    problem: str = ""
