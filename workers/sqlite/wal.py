"""Read a SQLite write-ahead log, also a damaged one. Pure.

SQLite reads a log up to the first frame with a wrong checksum and silently drops the rest. After a
power cut that frame belongs to the last commit, which was not acknowledged yet. Every earlier
commit was synced. So several commits behind such a frame mean that the log was damaged later.
"""

import struct
import sys
from array import array
from collections import Counter
from typing import NamedTuple

HEADER, FRAME = struct.Struct(">8I"), struct.Struct(">6I")
MAGIC = 0x377F0682  # lowest bit set: checksums use big-endian words
PAGE = 4096  # bytes


class Log(NamedTuple):
    """The frames of a log that belong to its current use, up to the last commit.

    Attributes:
        frames: For each: page number, where its page begins, whether it ends a commit, and whether
            its own checksum fits.
        valid: Number of frames that SQLite reads.
    """

    frames: list[tuple[int, int, bool, bool]]
    valid: int


def lost_commits(wal: bytes) -> int:
    """Return the number of complete commits behind the first unreadable frame.

    One can come from a power cut; more mean damage.
    """
    frames, valid = _read(wal)
    return sum(is_commit for _, _, is_commit, _ in frames[valid:])


def pages(wal: bytes, with_last: bool) -> tuple[dict[int, int], int]:
    """Return where the newest version of each page begins in a log, and how many are damaged.

    Each frame is verified by the checksum of the one before it, so a damaged frame costs no other.
    The page of a frame that does not fit is used as well: its rows have checksums of their own.

    Args:
        wal: The log.
        with_last: Also use a last commit that cannot be verified.
    """
    frames, valid = _read(wal)
    commits = [index for index, frame in enumerate(frames) if frame[2]]
    if commits and not with_last and valid <= commits[-1]:
        begin = commits[-2] + 1 if len(commits) > 1 else 0
        if valid >= begin:
            frames = frames[:begin]
    damaged = sum(not fits for *_, fits in frames)
    return {page: start for page, start, _, _ in frames if page}, damaged


def _read(wal: bytes) -> Log:
    """Return the frames up to the last commit."""
    if len(wal) < HEADER.size + FRAME.size:
        return Log([], 0)
    magic, _, page_size, _, *salts, first, second = HEADER.unpack_from(wal)
    is_big_endian = bool(magic & 1)
    is_header_valid = (
        magic & ~1 == MAGIC
        and page_size == PAGE
        and _checksum(wal[:24], is_big_endian, 0, 0) == (first, second)
    )
    starts = range(HEADER.size, len(wal) - FRAME.size - PAGE + 1, FRAME.size + PAGE)
    if not is_header_valid:
        salts = _salts(wal, starts)
        is_big_endian = sys.byteorder == "big"  # the machine that wrote it is this one
    frames, valid, is_prefix = list[tuple[int, int, bool, bool]](), 0, is_header_valid
    sums, last = (first, second), 0
    for start in starts:
        page, size, *frame_salts, left, right = FRAME.unpack_from(wal, start)
        data = start + FRAME.size
        sums = _checksum(wal[start : start + 8], is_big_endian, *sums)
        fits = _checksum(wal[data : data + PAGE], is_big_endian, *sums) == (left, right)
        sums = left, right  # as it is stored: the next frame is verified by itself
        fits = fits and frame_salts == salts
        is_prefix = is_prefix and fits
        frames.append((page, data, bool(size), fits))
        valid += is_prefix
        if size and frame_salts == salts:
            last = len(frames)
    return Log(frames[:last], min(valid, last))


def _salts(wal: bytes, starts: range) -> list[int]:
    """Return the salts of most of the first frames: the header cannot be read."""
    found = Counter(FRAME.unpack_from(wal, start)[2:4] for start in starts[:9])
    return list(found.most_common(1)[0][0]) if found else []


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
