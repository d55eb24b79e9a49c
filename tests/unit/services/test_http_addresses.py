"""Which addresses pages may be at, and how bodies and waits are read."""

import zlib

import pytest

from garrison.workers.services.http_support.addresses import Rule, is_public, refusal
from garrison.workers.services.http_support.decoding import Body, Damaged
from garrison.workers.services.http_support.waits import wait_of

PUBLIC = ["93.184.216.34", "8.8.8.8", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:8.8.8.8"]
OTHERS = [
    *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255"),
    *("192.168.1.1", "169.254.169.254", "100.64.0.1", "100.127.255.255", "198.18.0.1"),
    *("192.0.0.8", "192.0.2.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1"),
    *("240.0.0.1", "255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1"),
    *(
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::808:808",
        "64:ff9b:1::1",
        "::ffff:0:7f00:1",
        "fc00::1",
    ),
    *("fd12::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "2001::1", "2001:db8::1"),
    *("2002:7f00:1::", "100::1", "", "localhost", "127.1"),
]


@pytest.mark.parametrize("host", PUBLIC)
def test_an_address_of_the_internet(host: str) -> None:
    """Also in the form that has IPv4 within IPv6."""
    assert is_public(host)


@pytest.mark.parametrize("host", OTHERS)
def test_an_address_that_is_not(host: str) -> None:
    """This machine, its networks, and what may lead there."""
    assert not is_public(host)


@pytest.mark.parametrize(
    ("host", "port", "rule", "part"),
    [
        ("8.8.8.8", 443, Rule(frozenset({443}), False), ""),
        ("8.8.8.8", 22, Rule(frozenset({443}), False), "port 22"),
        ("8.8.8.8", 22, Rule(frozenset(), False), ""),
        ("127.0.0.1", 443, Rule(frozenset({443}), False), "127.0.0.1"),
        ("127.0.0.1", 443, Rule(frozenset({443}), True), ""),
        ("127.0.0.1", 22, Rule(frozenset({443}), True), "port 22"),
    ],
)
def test_where_a_connection_may_go(host: str, port: int, rule: Rule, part: str) -> None:
    """By its port and its address."""
    found = refusal(host, port, rule)
    assert part in found
    assert bool(found) is bool(part)


def body(encoding: str, data: bytes, most: int = 1000, size: int = 7) -> Body:
    """Return a body that came in pieces."""
    made = Body(encoding, most)
    for at in range(0, len(data), size):
        made.feed(data[at : at + size])
    return made


def gzipped(data: bytes) -> bytes:
    """Return data as gzip packs it."""
    packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def raw(data: bytes) -> bytes:
    """Return data as some servers send `deflate`: without a head."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("", bytes),
        ("identity", bytes),
        ("gzip", gzipped),
        ("X-GZIP", gzipped),
        ("deflate", zlib.compress),
        ("deflate", raw),
    ],
)
def test_a_body_is_unpacked(encoding: str, pack: "type[bytes]") -> None:
    """In pieces, as it came."""
    data = b"hello there " * 20
    found = body(encoding, pack(data))
    assert (found.data, found.is_full) == (data, False)


def test_a_body_that_unpacks_to_any_size() -> None:
    """No more than the limit is unpacked; the rest is left out."""
    bomb = gzipped(b"0" * 50_000_000)
    assert len(bomb) < 60_000
    found = Body("gzip", 1000)
    found.feed(bomb)
    assert (found.data, found.is_full) == (b"0" * 1000, True)
    assert body("", b"1" * 1001).is_full
    assert not body("", b"1" * 1000).is_full


def test_a_damaged_body() -> None:
    """Its packing is another one than its head says, or one that was not asked for."""
    with pytest.raises(Damaged, match="damaged"):
        body("gzip", b"this is not packed")
    with pytest.raises(Damaged, match="'br'"):
        Body("br", 10)


@pytest.mark.parametrize(
    ("status", "stated", "expected"),
    [
        (429, None, 30.0),
        (503, None, None),
        (503, "7", 7.0),
        (429, "0", 1.0),
        (429, "nan", 30.0),
        (429, "soon", 30.0),
        (429, "9999999", 86_400.0),
        (429, "Thu, 01 Jan 1970 00:01:30 GMT", 60.0),
    ],
)
def test_how_long_to_wait(status: int, stated: str | None, expected: float | None) -> None:
    """As the server says, within a second and a day."""
    headers = {} if stated is None else {"Retry-After": stated}
    assert wait_of(status, headers, now=30.0) == expected
