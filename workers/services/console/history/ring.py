"""A ring of samples as bytes: where each has its place, and which of them count. Pure.

A sample's place follows from its time, so a ring is bounded and a gap is a gap. Each one has its
own checksum: what a crash has torn is left out. Times are Unix seconds, durations seconds, sizes
bytes.
"""

import struct
import zlib
from collections.abc import Iterator
from math import nan
from typing import NamedTuple

FORM = struct.Struct("<IIQffff")
CHECK = struct.Struct("<I")
SIZE = FORM.size + CHECK.size
AT_MOST = 2**32 - 1


class Sample(NamedTuple):
    """One service at one time.

    Attributes:
        at: When.
        generation: Its incarnation; 0: it had no process.
        memory: What its process uses.
        cpu: Percent of a core.
        calls: Calls to it a second.
        p50: Their median duration; nan: there were none.
        p99: Likewise, that of the slowest hundredth.
    """

    at: int
    generation: int = 0
    memory: int = 0
    cpu: float = 0.0
    calls: float = 0.0
    p50: float = nan
    p99: float = nan


class Ring(NamedTuple):
    """The shape of a ring.

    Attributes:
        step: Seconds between two samples.
        places: How many it keeps.
    """

    step: int
    places: int

    @property
    def length(self) -> int:
        """Return the seconds that it covers."""
        return self.step * self.places

    @property
    def size(self) -> int:
        """Return the bytes that it takes."""
        return self.places * SIZE

    def offset(self, at: int) -> int:
        """Return where the sample of a time is."""
        return at // self.step % self.places * SIZE


def packed(sample: Sample) -> bytes:
    """Return a sample as bytes."""
    body = FORM.pack(min(max(sample.at, 0), AT_MOST), *sample[1:])
    return body + CHECK.pack(zlib.crc32(body))


def unpacked(data: bytes, since: int, until: int) -> list[Sample]:
    """Return the samples of a ring from one time to another, by time.

    Args:
        data: The ring, or what there is of it.
        since: The earliest time.
        until: The latest one. Later samples are of a clock that was set back.
    """
    return sorted(_samples(data, since, until))


def _samples(data: bytes, since: int, until: int) -> Iterator[Sample]:
    for offset in range(0, len(data) - SIZE + 1, SIZE):
        body = data[offset : offset + FORM.size]
        (check,) = CHECK.unpack_from(data, offset + FORM.size)
        if check == zlib.crc32(body):
            sample = Sample(*FORM.unpack(body))
            if sample.at and since <= sample.at <= until:
                yield sample
