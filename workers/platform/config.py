"""`Platform.Config`: the keys that every platform has. Durations are seconds."""

from typing import Annotated, Literal

import msgspec

DAY = 86_400.0

Positive = Annotated[float, msgspec.Meta(gt=0, le=DAY)]
Length = Annotated[int, msgspec.Meta(ge=1)]


class PlatformConfig(msgspec.Struct, kw_only=True):
    """What to receive, and how to send. A key that is not set is the class's attribute."""

    # receiving
    channels: list[str] = []  # room_id, or its name or world; none: every channel
    mentions_only: bool = False  # where it is not mentioned, a direct message apart
    ignore_bots: bool = True
    ignore_dms: bool = False
    commands: bool | list[str] = True  # whether actions are commands; a list: these alone
    operators: list[str] = []  # ids of persons that may give the host orders in the chat
    # messages sent while the service did not run; a number: of so many seconds
    catch_up: bool | Annotated[float, msgspec.Meta(ge=0)] = True

    # sending
    failure_text: str | None = None  # where there is no answer; None: the agent's; "": nothing
    typing: bool = True  # while the agent thinks
    reply: bool = True  # an answer refers to its message
    max_length: Length | None = None  # of a message, as the platform counts; None: the class's
    split: bool = True  # a longer message becomes several; false: it is refused

    # the connection
    base_url: str = ""  # of a server with the platform's API; empty is the platform's own
    # seconds without a sign of life from the receiving side, after which it is probed; 0: never
    probe: Annotated[float, msgspec.Meta(ge=0, le=DAY)] = 300.0

    # how it is sent
    uncertain: Literal["skip", "repeat"] | None = None  # what may have been sent, or may not
    settle: Annotated[float, msgspec.Meta(ge=0, le=DAY)] | None = None
    deliver_timeout: Positive | None = None
    keep_sends: Annotated[float, msgspec.Meta(ge=3600, le=366 * DAY)] = 8 * DAY  # the log's rows
