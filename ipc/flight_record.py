"""The calls of one process, as read from its flight recorder. Pure.

Sizes are bytes, times are wall clock in seconds.
"""

import msgspec

IN, OUT, LATE = 1, 2, 4  # LATE: the end of a call that began long before
UNKNOWN = "\0"  # stands before a token, if a caller's NAME is not known


class RecordedCall(msgspec.Struct, frozen=True):
    """One recorded call."""

    number: int
    kind: int  # IN or OUT, with LATE
    peer: str  # a NAME, or `UNKNOWN` and a token in hexadecimal digits
    method: str
    call: int
    began: float
    size: int
    ended: float = 0.0  # 0 while in flight, unless an item of a stream has arrived
    result_size: int = 0
    items: int = 0
    outcome: str = ""  # empty: in flight
    args: str = ""
    result: str = ""
    trace: str = ""  # id of the trace that it is a part of, 32 hexadecimal digits


class RecordedCalls(msgspec.Struct, frozen=True):
    """The content of a recorder's file."""

    noted: tuple[RecordedCall, ...] = ()  # oldest first
    without: int = 0  # calls in flight that had no room
    problem: str = ""
