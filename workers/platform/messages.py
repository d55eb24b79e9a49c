"""What passes between a platform and its author: `Outgoing`, `Heard`, `Sent`. Times are seconds."""

from typing import Any, Literal

import msgspec

from garrison.workers.agents.content import Content, Media, Memory

from .choices import Choice

TEXT_FIELDS = ("id", "room_id", "entity_id", "world_id")


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
    choices: list[Choice] = []  # to be offered, such as buttons; the last part's alone
    answers: str = ""  # the platform's id of the message that this answers; of every part
    previous: str = ""  # the platform's id of the part before this one; "": it is not known


class Heard(msgspec.Struct):
    """One message that was missed, as `catch_up` yields it; the fields are those of `receive`."""

    memory: Memory
    stream: str = ""
    position: str = ""


def as_heard(memory: Any, stream: Any = "", position: Any = "") -> Heard:
    """Return the arguments of `receive`, whose types nothing has checked yet.

    A number in the place of a text would be refused only where the message is read, in the agent.

    Raises:
        TypeError: One has another type; the text states what to write.
    """
    if not isinstance(memory, Memory):
        raise TypeError(f"the message is a {type(memory).__name__}: write a Memory")
    if not isinstance(memory.content, Content):
        raise TypeError("the memory's content is not a Content: write Content(text=…)")
    texts = {f"the memory's {key}": getattr(memory, key) for key in TEXT_FIELDS}
    texts |= {"the content's text": memory.content.text, "the stream": stream}
    for what, value in (texts | {"the position": position}).items():
        if not isinstance(value, str):
            raise TypeError(f"{what} is of type {type(value).__name__}: write it as a str")
    if not isinstance(memory.created_at, int | float):
        raise TypeError(
            f"the memory's created_at is of type {type(memory.created_at).__name__}: write it in "
            "Unix seconds; a datetime has timestamp()"
        )
    return Heard(memory, stream, position)


class Sent(msgspec.Struct):
    """The outcome of `send_message`."""

    outcome: Literal["sent", "uncertain"]
    ids: list[str]  # the platform's, one for each part; "" where it is uncertain
