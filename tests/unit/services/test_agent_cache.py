"""Values in the agent's process: bounds."""

from typing import Any

from garrison.workers.services.agent.cache import Cache


def test_the_cache_drops_the_least_recently_used() -> None:
    """By number and by bytes; a value larger than the cache is not stored."""
    cache: Cache[str] = Cache(3, 12)
    for key in "abc":
        assert cache.put(key, b"xx")
    assert cache.get("a") == b"xx"
    cache.put("d", b"xx")
    assert cache.get("b") is None
    cache.put("e", b"12345678")
    assert [key for key in "abcde" if cache.get(key)] == ["d", "e"]
    assert not cache.put("d", b"x" * 12)
    assert cache.get("d") is None
    assert cache.remove("e")
    assert not cache.remove("e")
    assert (cache.bytes, len(cache)) == (0, 0)


def test_the_size_of_keys_counts() -> None:
    """Otherwise a cache of empty values would have no limit. A key may be several texts."""
    cache: Cache[Any] = Cache(100, 20)
    assert not cache.put("k" * 21, b"")
    for character in "abc":
        assert cache.put((character * 4, character * 4), b"")
    assert (len(cache), cache.bytes) == (2, 16)
