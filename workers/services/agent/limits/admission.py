"""Decide which messages are answered, by who sent them, where, and how often. Pure.

A message counts at the time when it was sent, not when its turn comes: what waits behind slow
answers is no slower for that. Times are seconds of one monotonic clock, which the caller reads.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

import msgspec

from .buckets import Buckets, Rate

Digest = bytes  # of an id, because a platform's ids may be of any length


class Cause(Enum):
    """Why a message is not answered."""

    BLOCKED = "blocked"  # its sender or its room is in `block`
    PERSON = "per_person"  # its sender sends too many
    ROOM = "per_room"  # its room has too many


class Sent(NamedTuple):
    """What counts of a message."""

    source: str  # NAME of the service that received it
    room: str  # "" is no room, which has no limit
    person: str  # "" is unknown, which has no limit
    id: str


class Drop(msgspec.Struct, frozen=True):
    """A message that is not answered."""

    cause: Cause
    notify: bool = False  # notify its sender: it is the first one in excess


class Rules(NamedTuple):
    """The config's limits."""

    per_person: Rate | None = None
    per_room: Rate | None = None
    block: frozenset[str] = frozenset()  # ids of senders and rooms, each also as SOURCE/ID
    quiet: float = 60.0  # seconds without excess after which the next sender is notified again
    most: int = 10_000  # keys in each table


class Admission:
    """Admits messages.

    Its tables have at most `Rules.most` entries each. At that bound the one that was used longest
    ago is forgotten: a sender begins with a full bucket, and a message that is delivered again
    counts again.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        most = rules.most
        self._persons = Buckets[Digest](rules.per_person, most) if rules.per_person else None
        self._rooms = Buckets[Digest](rules.per_room, most) if rules.per_room else None
        self._admitted: OrderedDict[Digest, None] = OrderedDict()

    @property
    def horizon(self) -> float:
        """Return the age in seconds beyond which a message changes nothing any more."""
        rates = (self._rules.per_person, self._rules.per_room)
        full = [rate.full_s for rate in rates if rate is not None]
        return max([*full, self._rules.quiet]) if full else 0.0

    def admit(self, sent: Sent, at: float) -> Drop | None:
        """Count a message, unless it was admitted before; return why it is dropped, or None.

        Args:
            sent: The message.
            at: When it was sent.
        """
        if self._is_blocked(sent):
            return Drop(Cause.BLOCKED)
        if self._persons is None and self._rooms is None:
            return None
        message = _digest(*sent)
        if message in self._admitted:
            return None
        drop = self._count(sent, at)
        if drop is None:
            self._remember(message)
        return drop

    def forget(self, source: str, person: str) -> None:
        """Forget a sender's bucket."""
        if self._persons is not None:
            self._persons.forget(_digest(source, person))

    def restore(self, earlier: Iterable[tuple[Sent, float, bool]]) -> None:
        """Count messages of an earlier process, the oldest first: a restart refills no bucket.

        Args:
            earlier: Each message, when it was sent, and whether it was admitted.
        """
        for sent, at, was_admitted in earlier:
            person, room = self._keys(sent)
            if was_admitted:
                _take(self._persons, person, at)
                _take(self._rooms, room, at)
                self._remember(_digest(*sent))
                continue
            for buckets, key in ((self._persons, person), (self._rooms, room)):
                if buckets is not None and key and not buckets.has_token(key, at):
                    buckets.begins_excess(key, at, self._rules.quiet)
                    break

    def _is_blocked(self, sent: Sent) -> bool:
        block = self._rules.block
        ids = (one for one in (sent.person, sent.room) if one)
        return bool(block) and any(one in block or f"{sent.source}/{one}" in block for one in ids)

    def _count(self, sent: Sent, at: float) -> Drop | None:
        """Take a token of the sender and one of the room, or neither."""
        person, room = self._keys(sent)
        if not _has_token(self._persons, person, at):
            is_first = self._begins_excess(self._persons, person, at)
            # An answer in the room like others: many senders must not make the agent flood it.
            return Drop(Cause.PERSON, is_first and _take(self._rooms, room, at))
        if not _has_token(self._rooms, room, at):
            return Drop(Cause.ROOM, self._begins_excess(self._rooms, room, at))
        _take(self._persons, person, at)
        _take(self._rooms, room, at)
        return None

    def _begins_excess(self, buckets: Buckets[Digest] | None, key: Digest, at: float) -> bool:
        return buckets is not None and buckets.begins_excess(key, at, self._rules.quiet)

    def _remember(self, message: Digest) -> None:
        self._admitted[message] = None
        if len(self._admitted) > self._rules.most:
            self._admitted.popitem(last=False)

    def _keys(self, sent: Sent) -> tuple[Digest, Digest]:
        """Return the keys of the sender and of the room; b"" where there is none."""
        return (
            _digest(sent.source, sent.person) if sent.person else b"",
            _digest(sent.source, sent.room) if sent.room else b"",
        )


def _has_token(buckets: Buckets[Digest] | None, key: Digest, at: float) -> bool:
    return buckets is None or not key or buckets.has_token(key, at)


def _take(buckets: Buckets[Digest] | None, key: Digest, at: float) -> bool:
    return buckets is None or not key or buckets.take(key, at)


def _digest(*ids: str) -> Digest:
    """Return a key of constant size."""
    text = "".join(f"{len(one)}:{one}" for one in ids)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
