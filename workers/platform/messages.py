"""What passes between a platform and its author: `Outgoing`, `Heard`, `Sent`. Times are seconds."""

from typing import Literal

import msgspec

from garrison.workers.agents.content import Media, Memory


class Outgoing(msgspec.Struct):
    """One message for the platform: an answer, or a part of one that `max_length` has split."""

    id: str  # of this part; the same whenever the part is repeated
    nonce: str  # 25 characters, made from the id: for platforms that drop a repeated nonce
    channel: str
    text: str
    part: int  # from 0
    parts: int
    reply_to: (
        str | None
    )  # the platform's id of the message that is answered; the first part's alone
    attachments: list[Media]  # the last part's alone
    began: float  # Unix time at which `deliver` was first to be called; 0.0: not known
    unsure: bool  # it may have been delivered before


class Heard(msgspec.Struct):
    """One message that was missed, as `catch_up` yields it; the fields are those of `receive`."""

    memory: Memory
    stream: str = ""
    position: str = ""


class Sent(msgspec.Struct):
    """The outcome of `send_message`."""

    outcome: Literal["sent", "uncertain"]
    ids: list[str]  # the platform's, one for each part; "" where it is uncertain
