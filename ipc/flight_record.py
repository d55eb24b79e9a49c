"""What a flight recorder told of one process's calls. Pure.

Sizes are bytes, times are wall clock, in seconds.
"""

from dataclasses import dataclass

IN, OUT, LATE = 1, 2, 4  # LATE: an end alone, of a call that began long before
UNKNOWN = "\0"  # before a token, where a caller's NAME is not known


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One call as the recorder has it."""

    number: int
    kind: int  # IN or OUT, with LATE
    peer: str  # a NAME; after `UNKNOWN`, a token in hexadecimal digits
    method: str
    call: int
    began: float
    size: int
    ended: float = 0.0  # 0 while in flight, unless a stream's item came
    result_size: int = 0
    items: int = 0
    outcome: str = ""  # empty: in flight
    args: str = ""
    result: str = ""


@dataclass(frozen=True, slots=True)
class FlightRecord:
    """What a recorder's file told."""

    noted: tuple[RecordedCall, ...] = ()  # oldest first
    without: int = 0  # calls in flight that are not among them
    problem: str = ""
