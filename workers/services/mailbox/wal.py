"""What SQLite passes over in silence: a log of which a middle part cannot be read. Pure.

SQLite takes a write-ahead log up to the first frame whose checksum is wrong: after a power cut
that is in the last commit, which nobody was told of. Every commit before that was synced, so where
several lie behind such a frame, the log was damaged later, and they would be lost.
"""

import struct
import sys
from array import array

HEADER, FRAME = struct.Struct(">8I"), struct.Struct(">6I")
MAGIC = 0x377F0682  # the last bit: checksums of big-endian words
MOST = 64 * 1024 * 1024  # bytes that are looked at


def lost_commits(wal: bytes) -> int:
    """Return how many whole commits lie behind the first frame that cannot be read.

    One may be that of a power cut; more are damage.
    """
    if len(wal) < HEADER.size + FRAME.size:
        return 0
    magic, _, page, _, *salts, first, second = HEADER.unpack_from(wal)
    big = bool(magic & 1)
    is_good = magic & ~1 == MAGIC and _summed(wal[:24], big, 0, 0) == (first, second)
    if not is_good:
        page = 4096
        salts = list(FRAME.unpack_from(wal, HEADER.size)[2:4])
    sums, lost = (first, second), 0
    for at in range(HEADER.size, len(wal) - FRAME.size - page + 1, FRAME.size + page):
        _, commits, *own, left, right = FRAME.unpack_from(wal, at)
        if is_good:
            data = wal[at + FRAME.size : at + FRAME.size + page]
            sums = _summed(data, big, *_summed(wal[at : at + 8], big, *sums))
            is_good = own == salts and sums == (left, right)
        if not is_good and own == salts and commits:
            lost += 1
    return lost


def _summed(data: bytes, big: bool, first: int, second: int) -> tuple[int, int]:
    words = array("I", data)
    if big != (sys.byteorder == "big"):
        words.byteswap()
    pairs = iter(words)
    for one, two in zip(pairs, pairs, strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + two + first) & 0xFFFFFFFF
    return first, second
