"""The bus's ROUTER finds each message, in whatever pieces it arrives, and refuses all else."""

from typing import Any

import pytest

from garrison.ipc import zmtp
from garrison.ipc.errors import WireError
from garrison.supervisor.bus import router_wire
from garrison.supervisor.bus.router_wire import RouterDecoder, identity_of, joined
from garrison.supervisor.bus.routes import ROUTED_FRAMES

TOKEN, PEER = b"g" + bytes(range(1, 17)), b"g" + bytes(range(17, 33))
MESSAGES = [
    [b""],
    [PEER, b""],
    [PEER, b"batch"],
    [PEER, b"b" * 255],
    [PEER, b"b" * 256],
    [PEER, b"b" * 70_000],
    [PEER, b"batch", b"l" * 100, b"", b"m" * 66_000],
    [PEER],
    [PEER, b"last"],
]
SUBSCRIPTION = b"\x04\x07\x09SUBSCR"  # a command that no DEALER sends


def received(decoder: RouterDecoder, data: bytes, size: int) -> list[list[Any]]:
    """Have a decoder receive data in pieces, as a connection does; return what it found."""
    found = list[list[Any]]()
    while data:
        if decoder.room is not None:
            count = min(size, len(decoder.room), len(data))
            decoder.room[:count] = data[:count]
            found += decoder.fill(count)
        else:
            count = size
            found += decoder.feed(data[:count])
        data = data[count:]
        if decoder.identity is not None and not decoder.source:
            decoder.source = decoder.identity
            found += decoder.feed(b"")
    return found


@pytest.mark.parametrize("large", [256, 5000, router_wire.LARGE])
@pytest.mark.parametrize("size", [1, 7, 64, 1000, 33_000, 1 << 30])
def test_messages_are_found_in_any_pieces(
    size: int, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a large frame has memory of its own; commands are skipped."""
    monkeypatch.setattr(router_wire, "LARGE", large)
    data = zmtp.opening(TOKEN) + SUBSCRIPTION + b"".join(map(zmtp.encode, MESSAGES))
    found = received(RouterDecoder(-1), data, size)
    assert [[bytes(frame) for frame in frames] for frames in found] == [
        [TOKEN, *frames] for frames in MESSAGES
    ]


@pytest.mark.parametrize("frames", [one for one in MESSAGES if len(one) > 1])
def test_messages_are_sent_as_libzmq_sends_them(frames: list[bytes]) -> None:
    """The destination is not sent; the source stands in its place."""
    expected = zmtp.encode([TOKEN, *frames[1:]])
    outgoing = [PEER, TOKEN, *frames[1:]]
    assert b"".join(zmtp.parts(outgoing[1:])) == expected
    is_joined = len(frames) == 2 and len(frames[1]) <= zmtp.JOINED_MOST
    assert joined(outgoing) == (expected if is_joined else None)


def test_a_message_of_too_many_frames_is_cut() -> None:
    """It is rejected for their number, and takes no more memory until then."""
    many = [PEER, *(b"%d" % number for number in range(1000))]
    data = zmtp.opening(TOKEN) + zmtp.encode(many) + zmtp.encode([PEER, b"next"])
    cut, following = received(RouterDecoder(-1), data, 100)
    assert cut == [TOKEN, *many[:ROUTED_FRAMES]]
    assert following == [TOKEN, PEER, b"next"]


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n".ljust(64),
        zmtp.GREETING[:10] + b"\x02" + zmtp.GREETING[11:],  # ZMTP 2
        zmtp.GREETING + b"\x00\x05hello",
        zmtp.GREETING + b"\x04\x05hello",
        zmtp.GREETING + b"\x04\x0c" + zmtp.READY + b"\x09Identi",
        zmtp.GREETING + b"\x04\x13" + zmtp.READY + b"\x08Identity\0\0\0\x09",
        zmtp.opening(TOKEN) + zmtp.encode([b"a" * 256, b"batch"]),
        zmtp.opening(TOKEN) + zmtp.encode([b"a" * 70_000, b"batch"]),
        zmtp.opening(TOKEN) + b"\x06" + (1 << 20).to_bytes(8, "big") + b"a command",
        zmtp.opening(TOKEN) + zmtp.encode([PEER, b"b" * 1001]),
        zmtp.opening(TOKEN) + zmtp.encode([PEER, b"batch", b"b" * 1001]),
        zmtp.opening(TOKEN) + b"\x01\x01a\x02" + (1 << 62).to_bytes(8, "big") + b"begun",
    ],
)
@pytest.mark.parametrize("size", [1, 1 << 30])
def test_something_else_is_refused(data: bytes, size: int) -> None:
    """Before memory is taken for it."""
    with pytest.raises(WireError):
        received(RouterDecoder(1000), data, size)


def test_a_peer_may_have_no_address() -> None:
    """As any DEALER that was given none; names of properties may be written in any case."""
    ready = zmtp.opening(TOKEN)[zmtp.GREETING_BYTES + 2 :]
    assert identity_of(ready) == TOKEN
    assert identity_of(ready.replace(b"Identity", b"IDENTITY")) == TOKEN
    assert identity_of(zmtp.READY) == b""
