"""Detect damage in the middle of a SQLite write-ahead log, which SQLite ignores. Pure.

SQLite reads a log up to the first frame with a wrong checksum and drops the rest. After a power cut
that frame belongs to the last commit, which was not acknowledged yet. Every earlier commit was
synced. So several commits behind such a frame mean that the log was damaged later.
"""

import struct
import sys
from array import array

HEADER, FRAME = struct.Struct(">8I"), struct.Struct(">6I")
MAGIC = 0x377F0682  # lowest bit set: checksums use big-endian words


def lost_commits(wal: bytes) -> int:
    """Return the number of complete commits behind the first unreadable frame.

    One can come from a power cut; more mean damage.
    """
    if len(wal) < HEADER.size + FRAME.size:
        return 0
    magic, _, page, _, *salts, first, second = HEADER.unpack_from(wal)
    is_big_endian = bool(magic & 1)
    is_valid = magic & ~1 == MAGIC and _checksum(wal[:24], is_big_endian, 0, 0) == (first, second)
    if not is_valid:
        page = 4096
        salts = list(FRAME.unpack_from(wal, HEADER.size)[2:4])
    sums, lost = (first, second), 0
    for start in range(HEADER.size, len(wal) - FRAME.size - page + 1, FRAME.size + page):
        _, commit_size, *frame_salts, left, right = FRAME.unpack_from(wal, start)
        if is_valid:
            data = wal[start + FRAME.size : start + FRAME.size + page]
            sums = _checksum(wal[start : start + 8], is_big_endian, *sums)
            sums = _checksum(data, is_big_endian, *sums)
            is_valid = frame_salts == salts and sums == (left, right)
        if not is_valid and frame_salts == salts and commit_size:
            lost += 1
    return lost


def _checksum(data: bytes, is_big_endian: bool, first: int, second: int) -> tuple[int, int]:
    """Continue SQLite's checksum over pairs of 32-bit words."""
    words = array("I", data)
    if is_big_endian != (sys.byteorder == "big"):
        words.byteswap()
    pairs = iter(words)
    for left, right in zip(pairs, pairs, strict=True):
        first = (first + left + second) & 0xFFFFFFFF
        second = (second + right + first) & 0xFFFFFFFF
    return first, second
