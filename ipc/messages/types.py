"""The wire's version, addresses, and the bounded types of message fields.

Durations are seconds, sizes are bytes.
"""

from typing import Annotated, TypeAlias

from msgspec import Meta, Raw

from garrison.ipc.marks import Identifier, Mark

WIRE = 1  # this version of the language; a supervisor also speaks the previous one
WIRES = frozenset({WIRE, WIRE - 1} - {0})

Token: TypeAlias = bytes  # random routing id of one incarnation
SUPERVISOR: Token = b""  # the address of the supervisor
GONE: Token = b"\x00"  # in place of a source: returned, no peer has that address
FULL: Token = b"\x01"  # in place of a source: returned, the peer's queue is full at the moment
TOKEN_BYTES = 16
DIRECT_MARK = b"d"  # first byte of a direct route's address; a token begins with "g"


def is_direct(address: Token) -> bool:
    """Return True for the address of a direct route."""
    return address[:1] == DIRECT_MARK


EMPTY_MAP = Raw(b"\x80")
NIL = Raw(b"\xc0")
LONGEST_TIMEOUT = 366 * 86_400.0

Name = Annotated[str, Meta(min_length=1, max_length=200), Mark.IDENTIFIER]
Timeout = Annotated[float, Meta(gt=0, le=LONGEST_TIMEOUT)]
Duration = Annotated[float, Meta(ge=0, le=LONGEST_TIMEOUT)]
CallId = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Generation = Annotated[int, Meta(ge=0, le=2**53)]  # leaves room for the next generations
Count = Annotated[int, Meta(ge=0, le=2**40)]  # leaves room for totals
CHAIN_MOST = 16  # calls that led to one another: A calls B, which calls C, and so on
Chain = Annotated[tuple[Identifier, ...], Meta(max_length=CHAIN_MOST)]
# W3C Trace Context: a traceparent, and after a space a tracestate of 512 characters at most
TRACE_MOST = 600
Trace = Annotated[str, Meta(max_length=TRACE_MOST), Mark.IDENTIFIER]
Credits = Annotated[int, Meta(ge=0, le=2**16)]
