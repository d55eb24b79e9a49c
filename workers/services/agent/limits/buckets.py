"""Token buckets in a bounded table. Pure. Times are seconds of one clock, which the caller reads.

A key begins with a full bucket. At the table's bound the key that was used longest ago is
forgotten; if it is used again, it begins anew. A key that has not been used for `Rate.full_s` has a
full bucket anyway, so nothing is lost unless more keys than the bound are used within that time.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Annotated, Generic, TypeVar

import msgspec

K = TypeVar("K", bound=Hashable)


class Rate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many messages are answered: so many a minute, after `burst` at once."""

    per_minute: Annotated[float, msgspec.Meta(gt=0, le=1_000_000)]
    burst: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]

    @property
    def full_s(self) -> float:
        """Return the seconds in which an empty bucket becomes full."""
        return self.burst * 60 / self.per_minute


class Bucket(msgspec.Struct):
    """The bucket of one key."""

    tokens: float  # as of `at`
    at: float
    excess_at: float | None = None  # when the last message was refused


class Buckets(Generic[K]):
    """The buckets of all keys.

    Time never runs backwards in a bucket: a message that was sent before one that was already
    counted is counted at the later time.

    Args:
        rate: Of each key.
        most: Number of keys.
    """

    def __init__(self, rate: Rate, most: int) -> None:
        self._rate, self._most = rate, most
        self._table: OrderedDict[K, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._table)

    def has_token(self, key: K, at: float) -> bool:
        """Return whether `take` would succeed."""
        return self._used(key, at).tokens >= 1

    def take(self, key: K, at: float) -> bool:
        """Take a token; False if there is none."""
        bucket = self._used(key, at)
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    def begins_excess(self, key: K, at: float, quiet: float) -> bool:
        """Note a refused message; True if it is the first one after `quiet` seconds without any."""
        bucket = self._used(key, at)
        last, bucket.excess_at = bucket.excess_at, bucket.at
        return last is None or bucket.at - last >= quiet

    def forget(self, key: K) -> None:
        """Forget a key; it begins anew."""
        self._table.pop(key, None)

    def _used(self, key: K, at: float) -> Bucket:
        """Return a key's bucket, filled up to now, as the one that was used last."""
        rate = self._rate
        bucket = self._table.get(key)
        if bucket is None:
            bucket = self._table[key] = Bucket(float(rate.burst), at)
            if len(self._table) > self._most:
                self._table.popitem(last=False)
        elif at > bucket.at:
            filled = bucket.tokens + (at - bucket.at) * rate.per_minute / 60
            bucket.tokens, bucket.at = min(filled, float(rate.burst)), at
        self._table.move_to_end(key)
        return bucket
