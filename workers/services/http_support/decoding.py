"""Unpacks the body of an answer piece by piece, within a number of bytes. Pure."""

import zlib

ACCEPTED = "gzip, deflate"  # of `Accept-Encoding`
GZIP, DEFLATE = ("gzip", "x-gzip"), "deflate"


class Damaged(ValueError):
    """A body is not packed as its head says."""


class Body:
    """A body, whose size is bounded before it is unpacked and after.

    Args:
        encoding: `Content-Encoding`; empty if it is not packed.
        most: Bytes.

    Raises:
        Damaged: The encoding is not one of those that were accepted.

    Attributes:
        is_full: There is more than `most`; the rest is left out.
    """

    def __init__(self, encoding: str, most: int) -> None:
        self._most, self._read = most, 0
        self._data = bytearray()
        self._unpack = _decompressor(encoding.strip().lower())
        self._begun = False
        self.is_full = False

    def feed(self, piece: bytes) -> None:
        """Add a piece as it came.

        Raises:
            Damaged: It cannot be unpacked.
        """
        self._read += len(piece)
        room = self._most - len(self._data)
        if self._unpack is not None:
            piece = self._unpacked(piece, room + 1)
        self._data += piece[:room]
        self.is_full = self.is_full or len(piece) > room or self._read > self._most

    def _unpacked(self, piece: bytes, most: int) -> bytes:
        assert self._unpack is not None
        try:
            found = self._unpack.decompress(piece, most)
        except zlib.error as error:
            if self._begun:
                raise Damaged(f"its body is damaged: {error}") from error
            self._unpack = zlib.decompressobj(-zlib.MAX_WBITS)  # deflate as some servers send it
            self._begun = True
            return self._unpacked(piece, most)
        self._begun = True
        return found

    @property
    def data(self) -> bytes:
        """Return what there is, unpacked."""
        return bytes(self._data)


def _decompressor(encoding: str) -> "zlib._Decompress | None":
    if encoding in {"", "identity"}:
        return None
    if encoding in GZIP:
        return zlib.decompressobj(16 + zlib.MAX_WBITS)
    if encoding == DEFLATE:
        return zlib.decompressobj()
    raise Damaged(f"its body is packed with {encoding[:40]!r}, which the request did not allow")
