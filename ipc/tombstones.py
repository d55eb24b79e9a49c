"""Persons who were forgotten, as salted hashes: a restored backup must not bring them back. Pure.

Times are seconds since the epoch.
"""

import hashlib
import zlib

import msgspec

MOST = 10_000  # entries, of each source that a person had; beyond it the oldest are dropped
SALT = 16  # bytes


class Tombstones(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who was forgotten, and when.

    A person is `source`, NAME of the platform's service, and the id there. Ids cannot be read from
    it, but whoever has it can test whether an id is in it.
    """

    salt: bytes = b""
    forgotten: dict[str, float] = {}  # hash of a person, in hexadecimal digits, to a time

    @property
    def mark(self) -> int:
        """Return a number that stands for the whole list: a store notes which it has applied."""
        if not self.forgotten:
            return 0
        rows = sorted(self.forgotten.items())
        return zlib.crc32(msgspec.msgpack.encode(rows), 1) or 1

    @property
    def latest(self) -> float:
        """Return when the last person was forgotten; 0.0 if none was."""
        return max(self.forgotten.values(), default=0.0)

    def was_forgotten(self, source: str, person: str, stored_at: float = 0.0) -> bool:
        """Return whether what was stored of a person at a time is to be erased.

        Args:
            source: NAME of the platform's service; empty: the row states none.
            person: The id on the platform.
            stored_at: When it was stored: what a person writes afterwards is kept.
        """
        at = self.time_of(source, person)
        return at is not None and stored_at <= at

    def time_of(self, source: str, person: str) -> float | None:
        """Return when a person was forgotten last; None if they were not."""
        if not self.forgotten or not person:
            return None
        return self.forgotten.get(self._digest(source, person))

    def adding(self, sources: "tuple[str, ...]", person: str, at: float) -> "Tombstones":
        """Return these and a person who is forgotten now.

        Args:
            sources: NAMEs of the platform's services. A row without a source is covered as well.
            person: The id on the platform.
            at: The time.
        """
        digests = [self._digest(source, person) for source in ("", *sources)]
        rows = {key: value for key, value in self.forgotten.items() if key not in digests}
        rows |= dict.fromkeys(digests, at)
        surplus = max(len(rows) - MOST, 0)
        return Tombstones(self.salt, dict(list(rows.items())[surplus:]))

    def _digest(self, source: str, person: str) -> str:
        text = f"{len(source)}:{source}{person}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, key=self.salt, digest_size=16).hexdigest()
